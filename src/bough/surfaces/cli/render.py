"""How things look: numbers and times for people, JSON for programs, tables for both.

On a terminal a table has a header, colour and cut cells; piped, it is tab-separated, whole and
plain. Text that agents wrote may hold terminal commands; those are taken out before it is shown.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from bough.client.rows import Agent, Json
from bough.client.work_rows import Work

_COLOUR = {
    "running": "cyan",
    "waiting": "blue",
    "paused": "yellow",
    "completed": "green",
    "failed": "red",
    "terminated": "magenta",
}
_GLYPH = {
    "created": "·",
    "running": "●",
    "waiting": "◌",
    "paused": "‖",
    "completed": "✓",
    "failed": "✗",
    "terminated": "✕",
}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m|\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Text without terminal commands, other than colours."""
    text = _ESCAPE.sub(lambda m: m[0] if m[0].endswith("m") and m[1] is None else "", text)
    return _CONTROL.sub("", text)


def line_of(text: str, *, width: int = 200) -> str:
    """The first line that says something, harmless, in one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    line = _ESCAPE.sub("", harmless(lines[0] if lines else "")).replace("\t", " ")
    return line if len(line) <= width else line[: width - 1] + "…"


def tokens(count: int) -> str:
    """A number of tokens for people: 812, 30k, 1.25M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return (
                f"{count / size:.3g}{letter}" if count < size * 1000 else f"{count // size}{letter}"
            )
    return str(count)


def size(count: int) -> str:
    """A number of bytes for people, in powers of 1024 as `du -h` has them: 812 B, 1.2 MiB."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count} B"


def since(moment: datetime | None) -> str:
    """How long ago: 12s, 4m, 3h, 2d."""
    if moment is None:
        return "-"
    return duration((datetime.now(UTC) - moment).total_seconds())


def until(moment: datetime) -> str:
    """How long from now: 12s, 4m, 3h, 2d."""
    return duration((moment - datetime.now(UTC)).total_seconds())


def duration(seconds: float) -> str:
    """A length of time for people."""
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{letter}"
    return f"{max(0, int(seconds))}s"


def state(agent: Agent, *, colour: bool = True) -> str:
    """Word, reason and since when."""
    reason = agent.status_reason if agent.status not in ("running", "completed") else None
    text = f"{_GLYPH[agent.status]} {agent.status}"
    if reason:
        text += f": {line_of(reason, width=40)}"
    text = f"{text} {since(agent.status_at)}"
    return click.style(text, fg=_COLOUR.get(agent.status)) if colour else text


def spent(agent: Agent) -> str:
    """Used and allocated of the whole subtree, with the share."""
    share = agent.subtree_used * 100 // agent.allocated
    return f"{tokens(agent.subtree_used)}/{tokens(agent.allocated)} {share}%"


def changed(agent: Agent) -> str:
    """Files and lines changed, or nothing when not known yet."""
    if agent.files_changed is None:
        return ""
    return files_and_lines(agent.files_changed, agent.lines_added or 0, agent.lines_removed or 0)


def files_and_lines(files: int, added: int, removed: int) -> str:
    """How much was changed, in few words."""
    return f"{files} {'file' if files == 1 else 'files'} +{added} -{removed}"


def agent_json(agent: Agent, subtree: Work | None = None) -> Json:
    """An agent as `ps --json` lists it, or with its subtree's work as `show --json` gives it."""
    workspace = None
    if agent.repo_path:
        workspace = {
            "path": agent.worktree_path,
            "branch": agent.branch_name,
            "repository": agent.repo_path,
            "base_commit": agent.base_commit,
            "head_commit": agent.head_commit,
            "target_branch": agent.target_branch,
            "isolation_status": agent.isolation_status,
            "files_changed": agent.files_changed,
            "lines_added": agent.lines_added,
            "lines_removed": agent.lines_removed,
            "disk_bytes": agent.disk_bytes,
            "merged_into": agent.merged_into,
            "merged_commit": agent.merged_commit,
            "conflicts": agent.conflicts,
        }
    same = (
        "id root_id parent_id role task status status_reason status_at depth_level driver program"
        " runner_id progress progress_note children result created_at started_at completed_at"
    )
    budget = "allocated used reserved available overdraft frozen_at subtree_used"
    more = {"subtree": {n: getattr(subtree, n) for n in subtree.__slots__}} if subtree else {}
    program = {key: value for key, value in agent.program.items() if key != "prompt"}
    return {name: getattr(agent, name) for name in same.split()} | {
        "program": program,
        "budget": {name: getattr(agent, name) for name in budget.split()},
        "workspace": workspace,
        "error": {"code": agent.error_code, "message": agent.error_message}
        if agent.error_code
        else None,
        **more,
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_json(value: Any) -> None:
    """One JSON document: keys sorted, times RFC 3339 in UTC."""
    text = json.dumps(value, default=_plain, sort_keys=True, indent=2, ensure_ascii=False)
    # A file name that is not UTF-8 comes out escaped, as JSON has it.
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, grow: int) -> None:
    """A table; the column `grow` takes the room that is left and is cut to fit it."""
    if not on_terminal():
        for row in rows:
            click.echo("\t".join(click.unstyle(cell) for cell in row))
        return
    table = [list(header), *map(list, rows)]
    widths = [max(len(click.unstyle(row[i])) for row in table) for i in range(len(header))]
    room = shutil.get_terminal_size().columns - sum(widths) + widths[grow] - 2 * (len(widths) - 1)
    widths[grow] = max(min(widths[grow], room), 8)
    for number, row in enumerate(table):
        row[grow] = (
            row[grow][: widths[grow] - 1] + "…" if len(row[grow]) > widths[grow] else row[grow]
        )
        cells = [c + " " * (w - len(click.unstyle(c))) for c, w in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def hint(text: str) -> None:
    """A remark for a person; programs do not see it."""
    if sys.stderr.isatty():
        click.echo(click.style(text, dim=True), err=True)
