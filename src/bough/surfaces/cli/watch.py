"""Following an agent to its end: its output as it comes, then a summary."""

import sys
from functools import partial
from uuid import UUID

import click

from bough.client.client import Client
from bough.client.hints import tree_channel
from bough.client.insist import insist
from bough.client.rows import Agent, LogLine
from bough.surfaces.cli import render
from bough.surfaces.cli.session import Listen

_LOOK_AGAIN_S = 2.0


async def follow(
    client: Client,
    listen: Listen,
    agent: Agent,
    *,
    after_seq: int = 0,
    to_stderr: bool = False,
) -> None:
    """Print an agent's output as it comes until the agent has ended.

    Goes on after a restart of the server if the client has a pool.
    """
    async with listen(tree_channel(agent.root_id)) as hints:
        while True:
            # The state first: output that came before the end is then all there.
            ended = (await insist(lambda: client.show(agent.id))).has_ended
            after_seq = await print_logs(client, agent.id, after_seq, to_stderr=to_stderr)
            if ended:
                return
            await hints.wait(_LOOK_AGAIN_S)


async def print_logs(
    client: Client, agent_id: UUID, after_seq: int, *, to_stderr: bool = False
) -> int:
    """Print what came after a position; the new position."""
    while page := await insist(partial(client.logs, agent_id, after_seq=after_seq)):
        if after_seq == 0 and page[0].dropped_bytes:
            render.hint(f"… {page[0].dropped_bytes:,} bytes of earlier output are not kept")
        for line in page:
            _print(line, to_stderr=to_stderr)
        after_seq = page[-1].seq
    return after_seq


def _print(line: LogLine, *, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    if stream.isatty():
        click.echo(render.harmless(line.content), nl=False, err=to_stderr)
    else:
        # A file or a program gets every byte; click would take some escapes out.
        click.echo(line.content, nl=False, err=to_stderr, color=True)


def summarize(agent: Agent) -> None:
    """How an agent ended, what it cost and changed, and what to do next."""
    short = str(agent.id)[:8]
    ran = (
        f"{(agent.completed_at - agent.started_at).total_seconds():.1f} s"
        if agent.completed_at and agent.started_at
        else "-"
    )
    budget = f"{render.tokens(agent.subtree_used)} of {render.tokens(agent.allocated)} tokens used"
    click.echo(f"{render.state(agent)}  agent {short}  {ran}  {budget}")
    if agent.error_message:
        click.echo(f"  {render.line_of(agent.error_message)} ({agent.error_code})")
    if agent.files_changed is None:
        return
    click.echo(f"  {render.changed(agent)} on branch {agent.branch_name}")
    if agent.files_changed and sys.stdout.isatty():
        into = f" into {agent.target_branch}" if agent.target_branch else ""
        render.hint(
            f"  review: bough diff {short}\n  take it: bough merge {short}{into and '   #' + into}"
        )
