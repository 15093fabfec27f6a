"""What every verb shares: its options, the client it works with, and ids given in short."""

import asyncio
import functools
import os
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, ParamSpec, TypeVar, cast
from uuid import UUID

import click
from click.shell_completion import CompletionItem

from bough.client.amounts import seconds_of, tokens_of
from bough.client.database import address, open_client, operator
from bough.client.hints import Listen, listening
from bough.client.remote import RemoteClient, acting_agent
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient

P = ParamSpec("P")
R = TypeVar("R")
AnyCommand = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def asynchronous(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Make a click command of an async function."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return asyncio.run(function(*args, **kwargs))
        except asyncio.CancelledError as stopped:
            raise click.Abort from stopped

    return run


def inside() -> UUID | None:
    """The agent that this command acts as; None when a person, or a chosen database, does."""
    return None if click.get_current_context().find_root().obj else acting_agent()


@asynccontextmanager
async def connected() -> AsyncGenerator[RunnerClient]:
    """A client on the database that the options and the environment name, or the agent's own."""
    if inside():
        yield RemoteClient(os.environ["BOUGH_URL"], os.environ["BOUGH_TOKEN"])
        return
    async with open_client(await chosen_address(), actor=operator()) as client:
        yield client


@asynccontextmanager
async def attached() -> AsyncGenerator[tuple[RunnerClient, Listen]]:
    """A client for a command that stays, and how it listens; survives a restart of the server."""
    if inside():
        async with connected() as client:
            yield client, cast("RemoteClient", client).listening
        return
    dsn = await chosen_address()
    async with open_client(dsn, actor=operator(), pooled=1) as client:
        yield client, partial(listening, dsn)


async def chosen_address() -> str:
    """The address that the options and the environment name, working."""
    return await address(click.get_current_context().find_root().obj)


async def named(client: RunnerClient, prefix: str) -> Agent:
    """The one agent whose id begins so."""
    return await client.show(await client.find(prefix))


class Tokens(click.ParamType[int]):
    """A number of tokens: 2000, 30k, 1.5M."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; refuses what is not a whole number of at least 1."""
        if isinstance(value, int):
            return value
        try:
            return tokens_of(value)
        except ValueError as error:
            self.fail(str(error))


class Duration(click.ParamType[int]):
    """A time in whole seconds: 90, 90s, 15m, 2h, 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; refuses what is not at least one second or more than ten years."""
        if isinstance(value, int):
            return value
        try:
            return seconds_of(value)
        except ValueError as error:
            self.fail(str(error))


class Size(click.ParamType[int]):
    """A number of bytes: 500M, 20G; powers of 1024."""

    name = "size"
    _power: ClassVar = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; refuses what is no size."""
        if isinstance(value, int):
            return value
        form = r"(\d{1,12})(?:\.(\d))?\s*([KMGT]?)(?:i?B)?"
        found = re.fullmatch(form, value.strip(), re.ASCII | re.IGNORECASE)
        if not found:
            self.fail(f"'{value}' is no size; give one like 500M or 20G")
        whole, part, unit = found.groups("0")
        return int(whole + part) * 1024 ** self._power[unit.upper()] // 10


def _complete_id(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of agents for the shell; silent and quick whatever is wrong."""

    # No verb runs during completion, so the options are where click has parsed them to.
    root = ctx.find_root()
    root.obj = root.params.get("database")

    async def ask() -> list[CompletionItem]:
        async with asyncio.timeout(1), connected() as client:
            agents = await client.ps(ended=True, limit=50)
        return [
            CompletionItem(str(a.id)[:8], help=f"{a.status} {a.task.strip().splitlines()[0][:50]}")
            for a in agents
            if str(a.id).startswith(typed)
        ]

    try:
        with ctx.scope(cleanup=False):
            return asyncio.run(ask())
    except Exception:  # noqa: BLE001 - a completion must never disturb the prompt
        return []


def id_argument(
    name: str = "agent_id", *, many: bool = False, required: bool = True
) -> Callable[[AnyCommand], AnyCommand]:
    """The argument ID of a verb, or ID… for several."""
    return click.argument(
        name,
        metavar="ID…" if many else "ID" if required else "[ID]",
        nargs=-1 if many else 1,
        required=required,
        shell_complete=_complete_id,
    )
