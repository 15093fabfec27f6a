"""What an agent may be kept from: some of Bough's words, and kinds of tools of its program.

A word is refused by the runner's door, a kind of tool is taken away by the preset of the program,
as far as that program can go without it. Reading, reporting and finishing are never taken away.
An agent whose program names no tools has all; the kernel gives a child at most its parent's.
"""

from collections.abc import Iterable

WORDS = ("budget", "kill", "merge", "pause", "request_approval", "resume", "send", "spawn")
"""Words of Bough, held by the runner whatever the program is."""

KINDS = ("edit", "read", "shell", "web")
"""Kinds of tools of a program: change files, read files, run commands, go on the web."""

TOOLS = frozenset(WORDS + KINDS)

TOOL_OF_CALL = {
    "broadcast": "send",
    "freeze_budget": "budget",
    "grant_budget": "budget",
    "pause": "pause",
    "plan_merges": "merge",
    "queue_merge": "merge",
    "record_merge": "merge",
    "request_approval": "request_approval",
    "resolve_merge": "merge",
    "resume": "resume",
    "send": "send",
    "spawn": "spawn",
    "terminate": "kill",
    "transfer_budget": "budget",
    "unfreeze_budget": "budget",
    "withdraw_merge": "merge",
}
"""The tool that a call of the agent API takes; others take none."""


def granted(
    allow: Iterable[str] | None, deny: Iterable[str], above: Iterable[str] | None
) -> list[str] | None:
    """What is left of the tools `above` (None: all) under a role; None: no limit, sorted."""
    if allow is None and not any(True for _ in deny) and above is None:
        return None
    have = set(TOOLS if above is None else above)
    return sorted(have & set(TOOLS if allow is None else allow) - set(deny))
