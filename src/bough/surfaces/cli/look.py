"""Verbs that only look: ps, tree, show."""

import json
from datetime import UTC, datetime

import click

from bough.client.errors import InvalidInput
from bough.client.rows import Agent
from bough.client.work_rows import Work
from bough.surfaces.cli import render
from bough.surfaces.cli.forest import follow_tree, tree_line, walk
from bough.surfaces.cli.session import (
    asynchronous,
    attached,
    connected,
    id_argument,
    json_option,
    named,
)

# Who needs somebody comes first: failed, then paused and waiting, then what goes on by itself.
_URGENCY = {"failed": 0, "paused": 1, "waiting": 2, "running": 3, "created": 4}


def _urgency(agent: Agent) -> tuple[int, float]:
    return _URGENCY.get(agent.status, 5), -agent.created_at.timestamp()


@click.command(
    epilog="\b\nExamples:\n  bough ps               living agents\n"
    "  bough ps --all -q      ids of all agents\n  bough ps --json | jq '.[].status'"
)
@click.option("--all", "-a", "ended", is_flag=True, help="Also agents that have ended.")
@click.option("--limit", "-n", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--quiet", "-q", is_flag=True, help="Only ids.")
@json_option
@asynchronous
async def ps(ended: bool, limit: int, quiet: bool, as_json: bool) -> None:
    """List agents, most urgent first."""
    async with connected() as client:
        agents = sorted(await client.ps(ended=ended, limit=limit), key=_urgency)
    if as_json:
        render.print_json([render.agent_json(a) for a in agents])
    elif quiet:
        for agent in agents:
            click.echo(str(agent.id))
    elif agents:
        render.print_table(
            ("ID", "ROLE", "STATE", "TASK", "SPENT", "CHANGED", "AGE"),
            [_row(a) for a in agents],
            grow=3,
        )
    else:
        render.hint("no living agents; bough ps --all shows those that have ended")


def _row(agent: Agent) -> list[str]:
    doing = agent.progress_note or agent.task
    if agent.progress is not None and not agent.has_ended:
        doing = f"{agent.progress:.0%} {doing}"
    return [
        str(agent.id)[:8],
        render.line_of(agent.role, width=16),
        render.state(agent),
        render.line_of(doing),
        render.spent(agent),
        render.changed(agent),
        render.since(agent.created_at),
    ]


@click.command(
    epilog="\b\nExamples:\n  bough tree          every living tree\n"
    "  bough tree a7f2     the tree that agent a7f2 belongs to, from its root\n"
    "  bough tree -f a7f2  live, until its root has ended"
)
@id_argument(required=False)
@click.option("--follow", "-f", "following", is_flag=True, help="Live, until the root has ended.")
@json_option
@asynchronous
async def tree(agent_id: str | None, following: bool, as_json: bool) -> None:
    """Show who spawned whom, with state, budget and work."""
    if following:
        if agent_id is None or as_json:
            raise InvalidInput("following takes an ID, and no --json")
        async with attached() as (client, listen):
            root = (await named(client, agent_id)).root_id
            await follow_tree(client, listen, root)
        return
    async with connected() as client:
        if agent_id:
            roots = [(await named(client, agent_id)).root_id]
        else:
            roots = list(dict.fromkeys(a.root_id for a in await client.ps()))
        trees = [await client.tree(root) for root in roots]
    if as_json:
        nested = [_nested(agents, agents[0]) for agents in trees]
        render.print_json(nested[0] if agent_id else nested)
        return
    for agents in trees:
        for prefix, agent in walk(agents):
            click.echo(tree_line(prefix, agent))
    if not trees:
        render.hint("no living agents; bough tree ID shows a tree that has ended")


def _nested(agents: list[Agent], root: Agent) -> dict[str, object]:
    made = {a.id: render.agent_json(a) for a in agents}
    for agent in agents:
        made[agent.id]["children"] = [made[c] for c in agent.children]
    return made[root.id]


@click.command(epilog="\b\nExamples:\n  bough show a7f2\n  bough show a7f2 --json | jq .budget")
@id_argument()
@json_option
@asynchronous
async def show(agent_id: str, as_json: bool) -> None:
    """Show all there is to know of one agent."""
    async with connected() as client:
        agent = await named(client, agent_id)
        work = await client.subtree_work(agent.id)
    if as_json:
        render.print_json(render.agent_json(agent, work))
        return
    for label, text in _facts(agent, work):
        if text:
            body = text.replace("\n", "\n" + " " * 11)
            click.echo(f"{click.style(label.ljust(10), dim=True)} {body}")


def _facts(agent: Agent, work: Work) -> list[tuple[str, str]]:
    end = agent.completed_at or datetime.now(UTC)
    ran = (end - agent.started_at).total_seconds() if agent.started_at else 0.0
    merged = f"merged into {agent.merged_into} as {(agent.merged_commit or '')[:10]}"
    below = render.files_and_lines(work.files_changed, work.lines_added, work.lines_removed)
    result = agent.result or {}
    tail = str(result.get("output_tail", "")).rstrip()
    return [
        ("agent", f"{agent.id}  {agent.role}, level {agent.depth_level}"),
        ("task", render.harmless(agent.task)),
        ("state", render.state(agent)),
        (
            "error",
            render.harmless(f"{agent.error_message} ({agent.error_code})")
            if agent.error_code
            else "",
        ),
        (
            "progress",
            f"{agent.progress or 0:.0%} {agent.progress_note}" if agent.progress_note else "",
        ),
        ("budget", budget_line(agent)),
        ("program", _program(agent)),
        ("role from", str(agent.program.get("role_source", ""))),
        ("tools", " ".join(map(str, agent.program.get("tools", []))) or _no_tools(agent)),
        (
            "ran",
            (f"{ran:.1f} s" if ran < 60 else render.duration(ran))
            if agent.started_at
            else "not started",
        ),
        ("parent", str(agent.parent_id or "")),
        ("children", " ".join(str(c)[:8] for c in agent.children)),
        ("worktree", agent.worktree_path or ""),
        ("branch", agent.branch_name or ""),
        ("changed", _with_subtree(render.changed(agent), below, work)),
        ("disk", _with_subtree(_disk(agent), render.size(work.disk_bytes), work)),
        ("merge", merged if agent.merged_commit else ""),
        ("conflicts", ", ".join(agent.conflicts or [])),
        (
            "result",
            render.harmless(json.dumps(result, ensure_ascii=False)[:2000])
            if result and "exit_code" not in result
            else "",
        ),
        ("output", render.harmless("…" + tail[-400:] if len(tail) > 400 else tail)),
    ]


def _disk(agent: Agent) -> str:
    if agent.isolation_status == "removed":
        return "removed"
    return "" if agent.disk_bytes is None else render.size(agent.disk_bytes)


def _with_subtree(own: str, below: str, work: Work) -> str:
    return f"{own or 'nothing yet'}; subtree {below}" if work.agents > 1 else own


def _program(agent: Agent) -> str:
    words = [] if agent.driver == "command" else [agent.driver]
    model = agent.program.get("model")
    words += [f"({model})"] if model else []
    words += [str(w) for w in agent.program.get("argv", [])]
    return " ".join([*words, str(agent.program.get("function") or "")]).strip()


def _no_tools(agent: Agent) -> str:
    return "none" if "tools" in agent.program else ""


def budget_line(agent: Agent) -> str:
    """One agent's account in a line."""
    left = "handed back" if agent.reclaimed_at else "available"
    return (
        f"{render.tokens(agent.used)} used, {render.tokens(agent.reserved)} reserved, "
        f"{render.tokens(agent.available)} {left} of {render.tokens(agent.allocated)} tokens; "
        f"subtree used {render.tokens(agent.subtree_used)}"
        + (f"; overdraft {render.tokens(agent.overdraft)}" if agent.overdraft else "")
        + ("; frozen" if agent.frozen_at else "")
    )
