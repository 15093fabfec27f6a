"""The environment that a program gets from us: our own, less what must not leak.

Nothing that opens the database reaches a program, and nothing that makes git look elsewhere. The
program finds its task and its place in variables that begin with BOUGH_.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from bough.client.rows import Claimed

_SECRET_PREFIXES = ("BOUGH_", "PG", "GIT_")
_HARMLESS = frozenset({"PGTZ", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS"})


def inherited_environment(
    source: Mapping[str, str], withheld: frozenset[str] = frozenset()
) -> dict[str, str]:
    """What of our own variables a program that we start may see."""
    return {
        name: value
        for name, value in source.items()
        if name in _HARMLESS or not (name in withheld or name.startswith(_SECRET_PREFIXES))
    }


def environment_of(
    agent: Claimed,
    *,
    workspace: Path | None,
    inherited: Mapping[str, str] | None = None,
    withheld: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """All variables for an agent's program, from those of this process but for the withheld."""
    kept = inherited_environment(os.environ if inherited is None else inherited, withheld)
    own = {
        "BOUGH_AGENT_ID": str(agent.id),
        "BOUGH_ROOT_ID": str(agent.root_id),
        "BOUGH_ROLE": agent.role,
        "BOUGH_TASK": agent.task,
        "BOUGH_BUDGET": str(agent.allocated),
        "BOUGH_ATTEMPT": str(agent.lease_epoch),
        # An agent must never wait for somebody who types.
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
    }
    if agent.parent_id:
        own["BOUGH_PARENT_ID"] = str(agent.parent_id)
    if workspace:
        own["BOUGH_WORKSPACE"] = str(workspace)
        own["PWD"] = str(workspace)
    kept["PATH"] = _with_bough(kept.get("PATH", os.defpath))
    return kept | own


def _with_bough(path: str) -> str:
    """A PATH on which `bough` is found, so that a program can act as its agent."""
    if shutil.which("bough", path=path):
        return path
    return f"{path}{os.pathsep}{Path(sys.executable).parent}"
