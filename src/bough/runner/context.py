"""What a function gets as `ctx`: the words of the command line, each a durable step.

Every word is numbered and recorded (see `journal`), those that read too, so that a function that
starts again decides as it did before. Words that wait park: no process is left while they do.
Raises what the command line would refuse, by the classes of `client.errors`; times are seconds.
"""

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from bough.client.budgets import Usage
from bough.client.client import Spawn
from bough.client.errors import InvalidInput, NotYours
from bough.client.prices import priced
from bough.client.remote import RemoteClient
from bough.client.rows import Agent, Json
from bough.runner.drivers import program_of
from bough.runner.journal import IN_STEP, Journal, NotYet, StepFailed, whole_seconds
from bough.runner.lineage import start_below
from bough.runner.merging import merge_agents, merged_of, wishes_of
from bough.runner.presets.preset import UnknownProgram
from bough.runner.talk import Talk
from bough.runner.workspaces.merge import Merged
from bough.runner.workspaces.settings import Strategy

_SHORT_S = 0.5
"""So short a sleep is not worth a new process."""
_LONGEST_S = 315_360_000


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that has ended: completed, failed or terminated, with what it gave."""

    id: UUID
    role: str
    status: str
    result: Json | None
    error_code: str | None
    error_message: str | None

    @property
    def ok(self) -> bool:
        """True when it completed."""
        return self.status == "completed"


class Context(Talk):
    """The words of one function. Ids are UUIDs, budgets tokens."""

    def __init__(
        self, client: RemoteClient, journal: Journal, *, task: str, role: str, workspace: Path
    ) -> None:
        super().__init__(client, journal)
        self.task = task
        self.role = role
        self.workspace = workspace

    async def step(self, name: str, fn: Callable[[], Any]) -> Any:
        """What `fn` (async or plain) gives, as JSON; done once. Raises StepFailed if it raises."""

        async def act(_: UUID) -> Any:
            token = IN_STEP.set(True)
            try:
                found = fn()
                if inspect.isawaitable(found):
                    found = await found
                return json.loads(json.dumps(found, allow_nan=False))
            except Exception as error:
                raise StepFailed(f"{type(error).__name__}: {error}") from error
            finally:
                IN_STEP.reset(token)

        if not name.strip():
            raise InvalidInput("a step has a name")
        return await self._do("step", name, act, Any)

    async def spawn(
        self,
        task: str,
        *,
        budget: int,
        argv: Sequence[str] | None = None,
        function: str | None = None,
        role: str = "agent",
        timeout_s: int | None = None,
        max_depth: int | None = None,
        max_children: int | None = None,
        max_running: int | None = None,
    ) -> UUID:
        """A child that runs the program argv or the function module:name; its id."""
        if (argv is None) == (function is None):
            raise InvalidInput("give argv or function, one of them")
        driver = "command" if function is None else "function"
        try:
            program = program_of(driver, list(argv or [str(function)]))
        except UnknownProgram as error:
            raise InvalidInput(str(error)) from error

        async def act(key: UUID) -> UUID:
            start = await start_below(await self._client.show(self.agent_id))
            root, base, branch = start or (None, None, None)
            what = Spawn(
                key=key,
                task=task,
                budget=budget,
                parent_id=self.agent_id,
                role=role,
                driver=driver,
                program=program,
                repo_path=root,
                base_commit=base,
                target_branch=branch,
                timeout_s=timeout_s,
                max_depth=max_depth,
                max_children=max_children,
                max_running=max_running,
            )
            return (await self._client.spawn(what)).id

        return await self._do("spawn", task, act, UUID)

    async def wait(self, *children: UUID) -> list[Ended]:
        """Wait until all these children have ended; how, in the order of the arguments."""
        return await self._ended("wait", children, "all")

    async def wait_any(self, *children: UUID) -> list[Ended]:
        """Wait until one of these children has ended; those that have by then."""
        return await self._ended("wait_any", children, "any")

    async def _ended(self, word: str, children: Sequence[UUID], how: str) -> list[Ended]:
        if not children:
            raise InvalidInput("say which children to wait for")

        async def act(_: UUID) -> list[UUID]:
            ended = [a.id for a in [await self._child(c) for c in children] if a.has_ended]
            if len(ended) == len(children) or (how == "any" and ended):
                return ended
            raise NotYet(for_children=how, children=[str(c) for c in children])

        name = " ".join(sorted(str(c)[:8] for c in children))
        # Of what has ended nothing changes any more, so ids are all there is to keep.
        found = [await self._client.show(i) for i in await self._do(word, name, act, list[UUID])]
        return [
            Ended(a.id, a.role, a.status, a.result, a.error_code, a.error_message) for a in found
        ]

    async def _child(self, agent_id: UUID) -> Agent:
        agent = await self._client.show(agent_id)
        if agent.parent_id != self.agent_id:
            raise NotYours(f"agent {str(agent_id)[:8]} is not a child of this one")
        return agent

    async def merge(
        self, child: UUID, *, into: str | None = None, strategy: Strategy | None = None
    ) -> Merged:
        """Merge a child's work into this agent's branch. Raises MergeConflict and as `merge`."""

        async def act(_: UUID) -> Merged:
            [wish] = await wishes_of([await self._child(child)], into, strategy)
            [merge] = await merge_agents(self._client, self._client.listening, [wish])
            return await merged_of(wish, merge)

        return await self._do("merge", str(child)[:8], act, Merged)

    async def sleep(self, seconds: float) -> None:
        """Go on after so many seconds, counted from the first start."""

        if not 0 <= seconds < _LONGEST_S:
            raise InvalidInput(f"a sleep takes 0 to {_LONGEST_S} seconds")

        async def act(_: UUID) -> float:
            return time.time() + seconds

        until = await self._do("sleep", f"{seconds:g}", act, float)
        while (left := until - time.time()) > 0:
            if left > _SHORT_S:
                await self._park(seconds=whole_seconds(left))
            await asyncio.sleep(left)

    async def wait_for_tokens(self, tokens: int) -> int:
        """Wait until so many tokens are available; how many are."""
        if tokens < 1:
            raise InvalidInput("wait for at least 1 token")

        async def act(_: UUID) -> int:
            found = (await self._client.account(self.agent_id)).available
            if found < tokens:
                raise NotYet(for_tokens=tokens)
            return found

        return await self._do("wait_for_tokens", str(tokens), act, int)

    async def budget(self) -> int:
        """How many tokens are available."""

        async def act(_: UUID) -> int:
            return (await self._client.account(self.agent_id)).available

        return await self._do("budget", None, act, int)

    async def charge(self, usage: int | Usage, *, operation: str = "charge") -> int:
        """Say what a call to a model has used; how much is left, below 0 when overdrawn."""
        used = _usage(usage)

        async def act(key: UUID) -> int:
            done = await self._client.charge(key, self.agent_id, used, operation=operation)
            return done.available

        return await self._do("charge", operation, act, int)

    async def reserve(
        self,
        tokens: int,
        *,
        operation: str = "call",
        model: str | None = None,
        expires_s: int = 600,
    ) -> UUID:
        """Set tokens aside for one call; `settle` it with what it used. Raises BudgetExceeded."""

        async def act(key: UUID) -> UUID:
            more: dict[str, Any] = {"operation": operation, "model": model}
            made = self._client.reserve(key, self.agent_id, tokens, expires_s=expires_s, **more)
            return (await made).id

        return await self._do("reserve", operation, act, UUID)

    async def settle(self, reservation: UUID, usage: int | Usage) -> int:
        """End a reservation with what was used; how much is left."""
        used = _usage(usage)

        async def act(_: UUID) -> int:
            return (await self._client.settle(reservation, self.agent_id, used)).available

        return await self._do("settle", str(reservation)[:8], act, int)

    async def report(self, note: str, *, progress: float | None = None) -> None:
        """Tell how far it is: a line, and a fraction from 0 to 1."""

        async def act(_: UUID) -> None:
            await self._client.report(self.agent_id, epoch=0, progress=progress, note=note)

        await self._do("report", None, act, None)


def _usage(told: int | Usage) -> Usage:
    return Usage(tokens=told) if isinstance(told, int) else priced(told)
