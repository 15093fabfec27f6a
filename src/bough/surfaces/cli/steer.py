"""Verbs that change what agents do: kill, pause, resume."""

from collections.abc import Sequence

import click

from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, connected, id_argument, json_option


def _tell(verb: str, ids: Sequence[object], *, as_json: bool) -> None:
    if as_json:
        render.print_json({"changed": ids})
    elif ids:
        below = f" and {len(ids) - 1} below it" if len(ids) > 1 else ""
        click.echo(f"{verb} {str(ids[0])[:8]}{below}")
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
        ended = await client.terminate(await client.find(agent_id), reason=reason)
    _tell("terminated", [e.id for e in ended], as_json=as_json)


@click.command(epilog="\b\nExamples:\n  bough pause a7f2 && bough resume a7f2")
@id_argument()
@click.option("--reason", default="paused by the operator", show_default=True)
@json_option
@asynchronous
async def pause(agent_id: str, reason: str, as_json: bool) -> None:
    """Hold an agent and all below it; their programs stand still where they are."""
    async with connected() as client:
        held = await client.pause(await client.find(agent_id), reason=reason)
    _tell("paused", [h.id for h in held], as_json=as_json)


@click.command(epilog="\b\nExamples:\n  bough resume a7f2")
@id_argument()
@json_option
@asynchronous
async def resume(agent_id: str, as_json: bool) -> None:
    """Let a paused agent and all paused below it go on."""
    async with connected() as client:
        going = await client.resume(await client.find(agent_id))
    _tell("resumed", [g.id for g in going], as_json=as_json)
