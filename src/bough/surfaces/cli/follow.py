"""Verbs that stay with agents: logs and wait."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import click

from bough.client.client import Client
from bough.client.hints import tree_channel
from bough.client.insist import insist
from bough.client.rows import Agent
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    Duration,
    Listen,
    asynchronous,
    attached,
    id_argument,
    json_option,
    named,
)
from bough.surfaces.cli.watch import follow, print_logs, summarize


@click.command(epilog="\b\nExamples:\n  bough logs a7f2\n  bough logs -f a7f2 | grep -i error")
@id_argument()
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the agent ends.")
@json_option
@asynchronous
async def logs(agent_id: str, following: bool, as_json: bool) -> None:
    """Print what an agent's program has printed."""
    async with attached() as (client, listen):
        agent = await named(client, agent_id)
        if as_json:
            lines = await client.logs(agent.id, page=100_000)
            render.print_json(
                [
                    {
                        "seq": line.seq,
                        "stream": line.stream,
                        "content": line.content,
                        "created_at": line.created_at,
                    }
                    for line in lines
                ]
            )
        elif following:
            await follow(client, listen, agent)
        else:
            await print_logs(client, agent.id, 0)


@click.command(
    epilog="\b\nExamples:\n  bough wait a7f2 91c0           until both have ended\n"
    "  bough wait --any --timeout 5m a7f2 91c0\n\n"
    "Exit code: 0 all completed, 1 one failed or was terminated, 8 still running at the time-out."
)
@id_argument("agent_ids", many=True)
@click.option("--any", "any_of", is_flag=True, help="Until the first has ended.")
@click.option("--timeout", type=Duration(), help="At most this long: 90s, 15m, 2h.")
@json_option
@asynchronous
async def wait(agent_ids: tuple[str, ...], any_of: bool, timeout: int | None, as_json: bool) -> int:
    """Wait until agents have ended."""
    async with attached() as (client, listen):
        agents = [await named(client, prefix) for prefix in agent_ids]
        code = 0
        try:
            async with asyncio.timeout(timeout):
                agents = await _until_ended(client, listen, agents, any_of=any_of)
        except TimeoutError:
            agents = [await client.show(a.id) for a in agents]
            code = 8
    if as_json:
        render.print_json([render.agent_json(a) for a in agents])
    else:
        for agent in agents:
            summarize(agent)
    if code == 8:
        return code
    return 0 if all(a.status == "completed" for a in agents if a.has_ended) else 1


async def _until_ended(
    client: Client, listen: Listen, agents: list[Agent], *, any_of: bool
) -> list[Agent]:
    channels = {tree_channel(a.root_id) for a in agents}
    async with AsyncExitStack() as stack:
        hints = await stack.enter_async_context(listen(*channels))
        while True:
            agents = [
                a if a.has_ended else await insist(partial(client.show, a.id)) for a in agents
            ]
            ended = [a.has_ended for a in agents]
            if all(ended) or (any_of and any(ended)):
                return agents
            await hints.wait(2.0)
