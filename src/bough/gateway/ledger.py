"""The money of one call: set aside before it, ended once after it, whatever becomes of the call.

A call that was sent and whose use is not known is charged in full. Ending goes on in a task of its
own until the kernel has answered, also when the program or the gateway's request is gone; if this
process dies first, the kernel charges the reservation in full when it expires.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from bough.client.bound import REFUSAL
from bough.client.budget_rows import Spender
from bough.client.budgets import Usage
from bough.client.errors import (
    AgentEnded,
    BoughError,
    BudgetBusy,
    BudgetExceeded,
    BudgetFrozen,
    ReservationEnded,
    ReservationNotFound,
)
from bough.client.insist import insist
from bough.client.patience import reserve_within
from bough.client.prices import priced
from bough.client.runner_calls import RunnerClient
from bough.gateway.refusals import Refused
from bough.gateway.settings import Settings, Upstream
from bough.gateway.usage import Used

_log = logging.getLogger(__name__)
_END_WITHIN_S = 2.0


@dataclass(slots=True, kw_only=True)
class Held:
    """Tokens set aside for one call, and what is known so far of what it used."""

    key: UUID
    agent_id: UUID
    tokens: int
    model: str
    upstream: Upstream
    sent: bool = False
    used: Used | None = None
    ended: bool = False


class Ledger:
    """Sets aside and ends for all calls of one gateway."""

    def __init__(self, client: RunnerClient, dsn: str, settings: Settings) -> None:
        self._client = client
        self._dsn = dsn
        self._settings = settings
        # The reservation must out-live the call.
        self._expires_s = settings.call_s + settings.drain_s + 60
        self._lines: dict[UUID, asyncio.Lock] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def hold(
        self, who: Spender, upstream: Upstream, *, operation: str, model: str, least: int, most: int
    ) -> Held:
        """Set aside what is there, from least to most tokens; wait for it while others hold it.

        Raises Refused when it will not fit, or did not within the time a call may wait.
        """
        key = uuid4()

        def reserve(wait_s: float) -> Coroutine[Any, Any, Any]:
            return reserve_within(
                self._client,
                self._dsn,
                key,
                who.agent_id,
                most,
                wait_s=wait_s,
                operation=operation,
                model=model,
                expires_s=self._expires_s,
                at_least=least,
            )

        try:
            try:
                made = await reserve(0)
            except BudgetBusy:
                made = await self._in_line(who.agent_id, reserve)
        except (BudgetExceeded, BudgetBusy, BudgetFrozen, AgentEnded) as error:
            raise exhausted(error) from error
        except BaseException:
            # Whether the kernel did it is not known.
            self._later(self._release(key, who.agent_id))
            raise
        return Held(
            key=key,
            agent_id=who.agent_id,
            tokens=made.tokens_reserved,
            model=model,
            upstream=upstream,
        )

    async def _in_line(
        self, agent_id: UUID, reserve: Callable[[float], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Wait in the agent's line: only its head asks, over one connection for each agent."""
        line = self._lines.setdefault(agent_id, asyncio.Lock())
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.queue_s
        try:
            async with asyncio.timeout_at(end):
                await line.acquire()
        except TimeoutError:
            raise BudgetBusy(
                f"budget: other calls hold the tokens, and did for {self._settings.queue_s} s"
            ) from None
        try:
            return await reserve(max(end - loop.time(), 0))
        finally:
            line.release()
            if not line.locked():
                self._lines.pop(agent_id, None)

    async def end(self, held: Held) -> None:
        """End the reservation by what is known of the call; returns soon, done or not."""
        if held.ended:
            return
        held.ended = True
        ending = self._later(self._end(held))
        await asyncio.wait({ending}, timeout=_END_WITHIN_S)

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def close(self, within_s: float) -> None:
        """Wait for what is still being ended; the rest the kernel charges in full by itself."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=within_s)

    async def _end(self, held: Held) -> None:
        if not held.sent:
            await self._release(held.key, held.agent_id)
            return
        usage = self._usage(held)
        try:
            charged = await insist(lambda: self._client.settle(held.key, held.agent_id, usage))
        except ReservationEnded:
            _warn("call.expired", f"a call of agent {held.agent_id} took too long: charged in full")
        except BoughError as error:
            _warn("call.not_settled", f"a call of agent {held.agent_id}: {error}")
        else:
            if charged.tokens_used > charged.tokens_reserved:
                _warn(
                    "call.beyond_bound",
                    f"{held.model}: {charged.tokens_used} tokens billed, "
                    f"{charged.tokens_reserved} were set aside for agent {held.agent_id}",
                )

    def _usage(self, held: Held) -> Usage:
        used = held.used
        if used is None:
            return Usage(tokens=held.tokens, model=held.model)
        known = Usage(
            tokens=used.total,
            input_tokens=used.input,
            output_tokens=used.output,
            cache_read_tokens=used.cache_read,
            cache_write_tokens=used.cache_write,
            model=held.model,
        )
        return priced(known, provider=held.upstream.provider if held.upstream.official else None)

    async def _release(self, key: UUID, agent_id: UUID) -> None:
        try:
            await insist(lambda: self._client.release(key, agent_id))
        except (ReservationNotFound, ReservationEnded):
            return
        except BoughError as error:
            _warn("call.not_released", f"a call of agent {agent_id}: {error}")


def exhausted(error: BoughError) -> Refused:
    """The refusal that makes a program stop cleanly."""
    return Refused(
        "budget",
        f"{REFUSAL}{error}. Do not try again: finish with what you have, "
        "or ask your parent for tokens.",
    )


def _warn(event: str, text: str) -> None:
    _log.warning("%s", text, extra={"event": event})
