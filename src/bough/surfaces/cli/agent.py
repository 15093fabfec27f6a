"""Verbs of an agent's own program: report, charge, finish, request-approval, park."""

import json
import os
from typing import Any, cast
from uuid import UUID, uuid4

import click

from bough.client.budgets import Usage
from bough.client.errors import InvalidInput, NotYours
from bough.client.hints import Waiter
from bough.client.mail_rows import Approval
from bough.client.prices import priced
from bough.client.remote import RemoteClient
from bough.client.runner_calls import RunnerClient
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    Duration,
    Tokens,
    asynchronous,
    attached,
    connected,
    inside,
    json_option,
)


def _me() -> UUID:
    me = inside()
    if me is None:
        raise NotYours(
            "this is for the program of an agent; a runner gives it BOUGH_URL and BOUGH_TOKEN"
        )
    return me


@click.command(
    epilog='\b\nExamples:\n  bough report "half of the tests pass"\n'
    '  bough report --progress 0.5 "half of the tests pass"'
)
@click.argument("text")
@click.option("--progress", type=click.FloatRange(0, 1), help="The fraction that is done.")
@json_option
@asynchronous
async def report(text: str, progress: float | None, as_json: bool) -> None:
    """Tell how far this agent is."""
    me = _me()
    async with connected() as client:
        await client.report(me, epoch=0, progress=progress, note=text)
    render.print_json({"progress": progress, "note": text}) if as_json else None


@click.command(
    epilog="\b\nExamples:\n  bough charge 1200\n"
    "  bough charge --input 900 --output 300 --model claude-sonnet-4-5"
)
@click.argument("tokens", type=Tokens(), required=False)
@click.option("--input", "input_", type=click.IntRange(0), help="Input tokens, not from a cache.")
@click.option("--output", type=click.IntRange(0), help="Output tokens.")
@click.option("--cache-read", type=click.IntRange(0), default=0)
@click.option("--cache-write", type=click.IntRange(0), default=0)
@click.option("--model", help="For the cost in dollars.")
@click.option("--operation", default="charge", show_default=True, help="What it was for.")
@json_option
@asynchronous
async def charge(
    tokens: int | None,
    input_: int | None,
    output: int | None,
    cache_read: int,
    cache_write: int,
    model: str | None,
    operation: str,
    as_json: bool,
) -> int:
    """Say what its calls to a model used; prints what is left."""
    me = _me()
    if input_ is not None or output is not None:
        parts = (input_ or 0, output or 0, cache_read, cache_write)
        if tokens not in (None, sum(parts)):
            raise InvalidInput(f"the parts add up to {sum(parts)} tokens, not to {tokens}")
        usage = priced(
            Usage(
                tokens=sum(parts),
                input_tokens=parts[0],
                output_tokens=parts[1],
                cache_read_tokens=parts[2],
                cache_write_tokens=parts[3],
                model=model,
            )
        )
    elif tokens is None:
        raise InvalidInput("say how many tokens: bough charge 1200, or --input and --output")
    else:
        usage = Usage(tokens=tokens, model=model)
    async with connected() as client:
        done = await client.charge(uuid4(), me, usage, operation=operation)
    if as_json:
        render.print_json(
            {"charged": done.tokens_used, "available": done.available, "overdraft": done.overdraft}
        )
    else:
        click.echo(f"{done.available}")
    return 6 if done.overdraft else 0


@click.command(
    epilog="\b\nExamples:\n  bough finish --result '{\"ok\": true}'\n"
    '  bough finish --error "the tests still fail"\n\n'
    "It holds when the program has ended; until then it may be said again."
)
@click.option("--result", metavar="JSON", help="What the agent has found or done.")
@click.option("--error", metavar="TEXT", help="Why it failed, whatever the exit code.")
@json_option
@asynchronous
async def finish(result: str | None, error: str | None, as_json: bool) -> None:
    """Say what the result of this agent is."""
    me = _me()
    try:
        found: Any = json.loads(result) if result is not None else None
    except ValueError as wrong:
        raise InvalidInput(f"the result is not JSON: {wrong}") from wrong
    if found is not None and not isinstance(found, dict):
        found = {"value": found}
    if error is not None and not error.strip():
        raise InvalidInput("the error is empty; say why it failed")
    async with connected() as client:
        await client.finish(
            me, epoch=0, result=cast("dict[str, Any] | None", found), error_message=error
        )
    render.print_json({"result": found, "error": error}) if as_json else None


@click.command(
    epilog='\b\nExamples:\n  bough request-approval "drop the table?" --wait && ./drop.sh\n\n'
    "Exit code: 0 approved, 4 rejected, 7 nobody has decided yet."
)
@click.argument("question")
@click.option("--expires", type=Duration(), default=3600, help="Then it is decided.  [1h]")
@click.option("--on-expiry", type=click.Choice(["approved", "rejected"]), default="rejected")
@click.option("--wait", "waiting", is_flag=True, help="Until it is decided, or has expired.")
@json_option
@asynchronous
async def request_approval(
    question: str, expires: int, on_expiry: str, waiting: bool, as_json: bool
) -> int:
    """Ask a person; with --wait, until it is decided."""
    me = _me()
    key = uuid4()
    async with attached() as (client, listen):
        await client.request_approval(
            key, me, epoch=0, question=question, expires_s=expires, on_expiry=on_expiry
        )
        async with listen() as hints:
            found = await _decision(client, hints, key, waiting=waiting)
    if as_json:
        render.print_json({"id": key, "status": found.status, "answer": found.answer})
    else:
        click.echo(str(key) if found.status == "pending" else found.answer or found.status)
    return {"approved": 0, "rejected": 4}.get(found.status, 7 if waiting else 0)


async def _decision(client: RunnerClient, hints: Waiter, key: UUID, *, waiting: bool) -> Approval:
    while True:
        [found] = await client.approvals(key, pending=False)
        if found.status != "pending" or not waiting:
            return found
        await hints.wait(2.0)


@click.command(
    epilog="\b\nExamples:\n  bough park --children all && exit    its program starts again then\n"
    "  bough park --messages --for 1h && exit\n\n"
    "The agent's program must end with 0 after this; started again, it finds BOUGH_ATTEMPT above 1."
)
@click.option("--messages", is_flag=True, help="Until there is mail.")
@click.option("--children", type=click.Choice(["any", "all"]), help="Until children have ended.")
@click.option("--tokens", type=Tokens(), help="Until so many tokens are available.")
@click.option("--for", "seconds", type=Duration(), help="At most, or just, so long.")
@json_option
@asynchronous
async def park(
    messages: bool, children: str | None, tokens: int | None, seconds: int | None, as_json: bool
) -> None:
    """Wait without a process, once this program has ended."""
    _me()
    if not (messages or children or tokens or seconds):
        raise InvalidInput("say what to wait for: --messages, --children, --tokens or --for")
    client = RemoteClient(os.environ["BOUGH_URL"], os.environ["BOUGH_TOKEN"])
    conditions = {
        "for_messages": messages,
        "for_children": children,
        "for_tokens": tokens,
        "seconds": seconds,
    }
    await client.call("park", conditions)
    render.print_json(conditions) if as_json else None
