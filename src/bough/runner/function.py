"""Runs one async function as an agent: `python -m bough.runner.function module:name`.

A runner starts it in the agent's worktree, which comes first on sys.path; the function's module is
imported here only. What the function returns is the agent's result, what it raises is why the agent
failed, with the traceback in the agent's log. When the function parks, the process ends without
unwinding it, and the runner starts a new one when the agent is woken.
"""

import asyncio
import functools
import gc
import importlib
import inspect
import io
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Never, cast
from uuid import UUID

from bough.client.errors import BoughError
from bough.client.remote import acting_agent
from bough.client.rows import Json
from bough.runner.context import Context
from bough.runner.journal import FunctionChanged, Journal, Parked, PatientClient, StepFailed
from bough.runner.workspaces.git import GitError

Function = Callable[[Context], Awaitable[Any]]
_OURS = (BoughError, GitError, StepFailed, FunctionChanged)


class BadFunction(Exception):
    """The path leads to no async function, or the function gives no JSON."""


def load(path: str) -> Function:
    """The function at `module:name`. Raises BadFunction, and what its module raises."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            where = "in the worktree (is it committed?) or among the installed packages"
            raise BadFunction(f"there is no module '{error.name}' {where}") from error
        raise
    try:
        found: Any = functools.reduce(getattr, name.split("."), module)
    except AttributeError as error:
        raise BadFunction(f"module '{module_name}' has no '{name}'") from error
    if not inspect.iscoroutinefunction(found):
        raise BadFunction(f"'{path}' is not an async function; write: async def {name}(ctx)")
    return cast("Function", found)


def _why(error: BaseException) -> str:
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    if isinstance(error, BaseExceptionGroup) and len(inner) == 1:
        return _why(inner[0])
    if isinstance(error, (*_OURS, BadFunction)) and str(error):
        return str(error)
    return "".join(traceback.format_exception_only(cast("BaseException", error))).strip()


def _leave() -> Never:
    """End the process as it stands: a function that waits is not unwound, nothing of it runs."""
    for thing in gc.get_objects():
        if issubclass(type(thing), io.IOBase):
            # What it has written and not flushed would be lost.
            with suppress(Exception):
                thing.flush()
    os._exit(0)


async def _run(client: PatientClient, agent_id: UUID, path: str) -> Json | None:
    """Run the function; its result as an object. Raises what it raises, and Parked."""
    journal = await Journal.read(client, agent_id)
    function = load(path)
    context = Context(
        client,
        journal,
        task=os.environ["BOUGH_TASK"],
        role=os.environ["BOUGH_ROLE"],
        workspace=Path.cwd(),
    )
    found = await journal.run(function(context))
    try:
        kept: object = json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadFunction(f"what the function returned is not JSON: {error}") from error
    return cast("Json | None", kept if isinstance(kept, dict | None) else {"value": kept})


async def _live(agent_id: UUID, path: str) -> None:
    client = PatientClient(os.environ["BOUGH_URL"], os.environ["BOUGH_TOKEN"])
    try:
        result = await _run(client, agent_id, path)
        await client.finish(agent_id, epoch=0, result=result, error_message=None)
    except Parked:
        _leave()
    except (SystemExit, KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a function raises is told
        if not isinstance(error, BadFunction):
            traceback.print_exception(error)
        await client.finish(agent_id, epoch=0, result=None, error_message=_why(error))


def main() -> int:
    """Act for the agent of this process, as its environment says; the exit code."""
    agent_id = acting_agent()
    if agent_id is None or len(sys.argv) != 2:
        sys.stderr.write("a runner starts this: bough run TASK --driver function -- module:name\n")
        return 78
    # The worktree is committed as it is left: it gets no files that nobody wrote.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path.cwd()))
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    try:
        asyncio.run(_live(agent_id, sys.argv[1]))
    except BoughError as error:
        sys.stderr.write(f"bough: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
