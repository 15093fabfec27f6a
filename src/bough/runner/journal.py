"""The numbered steps of a function: done once, recorded, and replayed when it starts again.

Guarantees: a step's result is in the database before the function sees it, and what the function
sees is what was recorded, at the first time and at every later one; refusals are results too. A
crash between doing and recording repeats the doing, under the same key. What waits parks: it is
not recorded, the process ends, and the same step is asked again when the agent has been woken.
When it breaks: a function that asks for another step than was recorded is ended by FunctionChanged.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Never, TypeVar, cast
from uuid import UUID, uuid5
from weakref import WeakSet

from bough.client import wire
from bough.client.errors import (
    BoughError,
    InvalidInput,
    ServerUnavailable,
    StaleLease,
    TokenInvalid,
    from_code,
)
from bough.client.insist import insist
from bough.client.remote import RemoteClient
from bough.client.rows import Json, Step
from bough.runner.workspaces.git import GitError
from bough.runner.workspaces.merge import MergeConflict

Value = TypeVar("Value")
IN_STEP: ContextVar[bool] = ContextVar("in_step", default=False)
"""True inside the callable of `ctx.step`, which uses no words."""


class StepFailed(Exception):
    """What a step's callable raised, now or when it was recorded."""


class FunctionChanged(BaseException):
    """The function asks for other steps than were recorded; nothing in it can catch this."""


class Parked(Exception):
    """The agent parks when this process has ended with 0."""


class NotYet(Exception):
    """What a word waits for has not happened; on what to park."""

    def __init__(self, **conditions: Any) -> None:
        super().__init__("not yet")
        self.conditions = conditions


class PatientClient(RemoteClient):
    """Asks again while PostgreSQL is away; the runner's death ends this process anyway."""

    async def call(self, verb: str, values: dict[str, Any], *, timeout_s: float = 60.0) -> Any:
        """As RemoteClient does, for ten minutes."""
        once = super().call
        return await insist(lambda: once(verb, values, timeout_s=timeout_s))


class Journal:
    """Numbers what one function asks, and knows what it was answered before."""

    def __init__(self, client: RemoteClient, agent_id: UUID, known: dict[int, Step]) -> None:
        self.agent_id = agent_id
        self._parked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parking = False
        self._client = client
        self._known = known
        self._taken = 0
        self._main: asyncio.Task[Any] | None = None
        self._seen: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._doing = 0
        self._idle = asyncio.Event()

    @classmethod
    async def read(cls, client: RemoteClient, agent_id: UUID) -> "Journal":
        """The journal of an agent, with all that was recorded."""
        known: dict[int, Step] = {}
        while page := await client.steps(agent_id, after_number=max(known, default=0)):
            known |= {step.number: step for step in page}
        return cls(client, agent_id, known)

    async def run(self, function: Awaitable[Value]) -> Value:
        """Run the function to its end; what it returns. Raises what it raises, and Parked."""
        work = asyncio.ensure_future(function)
        self._main = cast("asyncio.Task[Any]", work)
        await asyncio.wait({work, self._parked}, return_when=asyncio.FIRST_COMPLETED)
        if self.parking:
            # Not unwound: to the function, waiting is all that happens.
            await self._parked
            raise Parked
        self.parking = True
        value = work.result()
        if self._taken < max(self._known, default=0):
            left = self._known[self._taken + 1]
            raise FunctionChanged(
                f"the function ended after {self._taken} steps, but step {left.number} was"
                f" {_said(left.word, left.name)}; {_ADVICE}"
            )
        return value

    async def do(
        self,
        word: str,
        name: str | None,
        act: Callable[[UUID], Awaitable[Value]],
        kind: Any,
        *,
        follows: bool = False,
    ) -> Value:
        """One step: `act`, given the step's key, or what it gave before, as a `kind`.

        `follows` says that it belongs to the step before it. Raises what `act` raised.
        """
        if self.parking:
            await asyncio.Future[Never]()
        number = self._take(follows=follows)
        name = _fit(name)
        known = self._known.get(number)
        cause: Exception | None = None
        if known is None:
            outcome, cause = await self._act(number, word, name, act)
        elif (known.word, known.name) != (word, name):
            raise FunctionChanged(
                f"step {number} was {_said(known.word, known.name)}, and now the function asks"
                f" for {_said(word, name)}; {_ADVICE}"
            )
        else:
            outcome = known.result
        if "error" in outcome:
            raise _error_of(outcome["error"]) from cause
        return wire.value_of(kind, outcome["value"], word)

    def _take(self, *, follows: bool) -> int:
        if IN_STEP.get():
            raise InvalidInput("inside a step there are no other words; use them beside it")
        task = asyncio.current_task()
        if task and task is not self._main and not follows:
            if task in self._seen:
                # The next time, two rows of words side by side might come in another order.
                raise InvalidInput(
                    "beside the function itself a task uses one word of ctx, not a row of them;"
                    " the order must be the same in every start"
                )
            self._seen.add(task)
        self._taken += 1
        return self._taken

    async def _act(
        self, number: int, word: str, name: str | None, act: Callable[[UUID], Awaitable[Any]]
    ) -> tuple[Json, Exception | None]:
        self._doing += 1
        try:
            outcome, cause = await _outcome(act, uuid5(self.agent_id, f"step {number}"))
            try:
                return await self._record(number, word, name, outcome), cause
            except InvalidInput as error:
                # Too large, or a text that PostgreSQL cannot hold: that is its result then.
                return await self._record(number, word, name, _error_in(error)), error
        except NotYet as wait:
            conditions = wait.conditions
        finally:
            self._doing -= 1
            if not self._doing:
                self._idle.set()
        return await self.park(**conditions)

    async def _record(self, number: int, word: str, name: str | None, outcome: Json) -> Json:
        done = await self._client.record_step(
            self.agent_id, epoch=0, number=number, word=word, name=name, result=outcome
        )
        return done.recorded

    async def park(self, **conditions: Any) -> Never:
        """Let the process end, once no other step is under way; never returns."""
        while self._doing:
            self._idle.clear()
            await self._idle.wait()
        if not self.parking:
            self.parking = True
            try:
                await self._client.call("park", conditions)
            except BoughError as error:
                self._parked.set_exception(error)
            else:
                self._parked.set_result(None)
        await asyncio.Future[Never]()
        raise AssertionError  # the process ends before


_ADVICE = "a function that has begun must ask the same; see docs/decisions/durable-functions.md"


def _said(word: str, name: str | None) -> str:
    return word if name is None else f"{word} '{name}'"


def _fit(name: str | None) -> str | None:
    return None if name is None else _clean(" ".join(name.split()))[:200]


def _clean(text: str) -> str:
    """A text as PostgreSQL can hold it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


async def _outcome(
    act: Callable[[UUID], Awaitable[Any]], key: UUID
) -> tuple[Json, Exception | None]:
    """What a step gave, as it is recorded; and the error that it raised, if it did."""
    try:
        return {"value": wire.plain(await act(key))}, None
    except (ServerUnavailable, StaleLease, TokenInvalid):
        # Not about the step: nothing can be recorded, and another start does it again.
        raise
    except (BoughError, GitError, StepFailed) as error:
        return _error_in(error), error


def _error_in(error: Exception) -> Json:
    code = error.code if isinstance(error, BoughError) else type(error).__name__
    told: Json = {"code": code, "message": _clean(str(error))[:10_000]}
    if isinstance(error, MergeConflict):
        told["paths"] = [_clean(path) for path in error.paths[:1000]]
    return {"error": told}


def _error_of(told: Json) -> Exception:
    if told["code"] == StepFailed.__name__:
        return StepFailed(told["message"])
    if told["code"] == MergeConflict.__name__:
        return MergeConflict(told["message"], told["paths"])
    known = {cls.__name__ for cls in (GitError, *GitError.__subclasses__())}
    if told["code"] in known:
        return GitError(told["message"])
    return from_code(told["code"], told["message"])


def whole_seconds(seconds: float) -> int:
    """A time as the kernel counts it: at least one second, rounded up."""
    return max(1, math.ceil(seconds))
