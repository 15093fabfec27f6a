"""Verbs that change what agents do: kill, pause, resume."""

from collections.abc import Sequence
from uuid import UUID

import click

from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, connected, id_argument, json_option


def _tell(verb: str, agent_id: UUID, changed: Sequence[UUID], *, as_json: bool) -> None:
    below = [other for other in changed if other != agent_id]
    itself = [agent_id] * (agent_id in changed)
    if as_json:
        render.print_json({"changed": itself + below})
    elif itself:
        more = f" and {len(below)} below it" if below else ""
        click.echo(f"{verb} {str(agent_id)[:8]}{more}")
    elif below:
        click.echo(f"{verb} {len(below)} below {str(agent_id)[:8]}")
    else:
        click.echo(f"nothing to do: it was {verb} before")


@click.command(epilog="\b\nExamples:\n  bough kill a7f2 --reason 'wrong approach'")
@id_argument()
@click.option("--reason", default="killed by the operator", show_default=True)
@json_option
@asynchronous
async def kill(agent_id: str, reason: str, as_json: bool) -> None:
    """End an agent and all below it; budgets go back, work is kept on their branches."""
    async with connected() as client:
        found = await client.find(agent_id)
        ended = await client.terminate(found, reason=reason)
    _tell("terminated", found, [e.id for e in ended], as_json=as_json)


@click.command(epilog="\b\nExamples:\n  bough pause a7f2 && bough resume a7f2")
@id_argument()
@click.option("--reason", default="paused by the operator", show_default=True)
@json_option
@asynchronous
async def pause(agent_id: str, reason: str, as_json: bool) -> None:
    """Hold an agent and all below it; their programs stand still where they are."""
    async with connected() as client:
        found = await client.find(agent_id)
        held = await client.pause(found, reason=reason)
    _tell("paused", found, [h.id for h in held], as_json=as_json)


@click.command(epilog="\b\nExamples:\n  bough resume a7f2")
@id_argument()
@json_option
@asynchronous
async def resume(agent_id: str, as_json: bool) -> None:
    """Let a paused agent and all paused below it go on."""
    async with connected() as client:
        found = await client.find(agent_id)
        going = await client.resume(found)
    _tell("resumed", found, [g.id for g in going], as_json=as_json)
