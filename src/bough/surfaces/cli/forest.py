"""Drawing a tree of agents, once or as it changes.

On a terminal a followed tree is drawn over itself; piped, each change is a line, so that a log
reads as a story.
"""

import shutil
from functools import partial
from uuid import UUID

import click

from bough.client.client import Client
from bough.client.hints import tree_channel
from bough.client.insist import insist
from bough.client.rows import Agent
from bough.surfaces.cli import render
from bough.surfaces.cli.session import Listen

_LOOK_AGAIN_S = 1.0


def walk(agents: list[Agent]) -> list[tuple[str, Agent]]:
    """The agents of one tree in drawing order, each with the lines that lead to it."""
    below: dict[UUID | None, list[Agent]] = {}
    for agent in agents:
        below.setdefault(agent.parent_id, []).append(agent)
    rows: list[tuple[str, Agent]] = []
    open_rows: list[tuple[str, str, Agent]] = [("", "", agents[0])]
    while open_rows:
        prefix, indent, agent = open_rows.pop()
        rows.append((prefix, agent))
        children = below.get(agent.id, [])
        for place, child in reversed(list(enumerate(children))):
            last = place == len(children) - 1
            lead = "└─ " if last else "├─ "
            open_rows.append((indent + lead, indent + ("   " if last else "│  "), child))
    return rows


def tree_line(prefix: str, agent: Agent) -> str:
    """One agent of a tree in a line."""
    work = f"  {render.changed(agent)}" if agent.files_changed else ""
    note = f" — {render.line_of(agent.progress_note, width=40)}" if agent.progress_note else ""
    return (
        f"{prefix}{str(agent.id)[:8]}  {render.state(agent)}  {render.spent(agent)}{work}  "
        f"{render.line_of(agent.task, width=60)}{'' if agent.has_ended else note}"
    )


async def follow_tree(client: Client, listen: Listen, root_id: UUID) -> None:
    """Show a tree as it changes until its root has ended."""
    seen: dict[UUID, tuple[object, ...]] = {}
    height = 0
    async with listen(tree_channel(root_id)) as hints:
        while True:
            agents = await insist(partial(client.tree, root_id))
            rows = walk(agents)
            if render.on_terminal():
                height = _redraw([tree_line(prefix, agent) for prefix, agent in rows], height)
            else:
                for _, agent in rows:
                    key = (agent.status, agent.progress_note, agent.files_changed)
                    if seen.get(agent.id) != key:
                        seen[agent.id] = key
                        click.echo(tree_line("  " * agent.depth_level, agent))
            if agents[0].has_ended:
                return
            await hints.wait(_LOOK_AGAIN_S)


def _redraw(lines: list[str], height: int) -> int:
    """Draw over what was drawn before; how many lines stand there now."""
    size = shutil.get_terminal_size()
    shown = lines[: size.lines - 1]
    up = f"\x1b[{height}F" if height else ""
    text = "".join(_cut(line, size.columns) + "\x1b[K\n" for line in shown)
    click.echo(f"{up}{text}\x1b[J", nl=False)
    return len(shown)


def _cut(line: str, columns: int) -> str:
    plain = click.unstyle(line)
    return line if len(plain) <= columns else plain[: columns - 1] + "…"
