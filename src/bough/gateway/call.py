"""One call to a model, from its reservation to its end.

Guarantees: nothing is sent before its worst case is set aside; the reservation has ended, by the
use that the provider reported, before the program hears the end of the answer. Nothing is charged
for an answer that is an error; what cannot be known is charged in full: a stream that broke, a
time-out, a use that was not reported. A program that hangs up is waited for in its place, for a
bounded time, because only the end of the answer tells what it cost.
"""

import asyncio
import json
import logging
from dataclasses import dataclass

import httpx2
from starlette.datastructures import Headers

from bough.client.bound import least_output
from bough.client.budget_rows import Spender
from bough.client.rows import Json
from bough.gateway import upstreams
from bough.gateway.asked import Asked, Wire, sendable
from bough.gateway.bound import Bound, Bounds
from bough.gateway.events import Events
from bough.gateway.ledger import Held, Ledger
from bough.gateway.program import Program
from bough.gateway.refusals import Answer, Refused
from bough.gateway.settings import Settings, Upstream
from bough.gateway.usage import as_object

_log = logging.getLogger(__name__)
_MOST_ANSWER_BYTES = 64 * 2**20
_MOST_ERROR_BYTES = 2**20
_COUNT_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that a program has asked for, with all it needs."""

    wire: Wire
    asked: Asked
    who: Spender
    upstream: Upstream
    headers: Headers
    query: str
    settings: Settings
    ledger: Ledger
    bounds: Bounds
    http: httpx2.AsyncClient

    async def run(self, program: Program) -> None:
        """Do it all. Raises Refused, at most before the answer has begun."""
        async with program.watched() as gone:
            bound = await self._bound()
            held = await self._hold(bound, gone)
            if held is None:
                return
            try:
                async with asyncio.timeout(self.settings.call_s) as limit:
                    gone.add_done_callback(lambda _: self._hurry(limit))
                    await self._forward(held, bound, program)
            except TimeoutError:
                if not program.began and not program.has_gone:
                    raise Refused(
                        "timeout",
                        f"no answer from the provider within {self.settings.call_s} s; the call "
                        f"is charged in full, {held.tokens} tokens",
                    ) from None
            finally:
                await self.ledger.end(held)

    def _hurry(self, limit: asyncio.Timeout) -> None:
        """Nobody waits for the answer any more: bring it to an end soon."""
        when = limit.when()
        soon = asyncio.get_running_loop().time() + self.settings.drain_s
        if when is not None and soon < when and not limit.expired():
            try:
                limit.reschedule(soon)
            except RuntimeError:
                # The call has come to its end in the same moment.
                return

    async def _bound(self) -> Bound:
        bound = self.bounds.of(self.asked)
        needed = bound.tokens + self._output_wanted() * self.asked.times
        if needed <= self.who.available or self.wire.counter is None:
            return bound
        counted = await self._counted(self.wire.counter)
        return bound if counted is None else Bound(min(counted, bound.tokens), bound.name)

    def _output_wanted(self) -> int:
        most = self.settings.max_output_tokens
        return min(self.asked.wanted or most, most)

    async def _counted(self, path: str) -> int | None:
        """The provider's own count, with room for an estimate; None when it gives none."""
        try:
            async with asyncio.timeout(_COUNT_WITHIN_S):
                response = await self.http.post(
                    self.upstream.url + path,
                    content=sendable(self.wire.countable(self.asked.body)),
                    headers=upstreams.request_headers(self.upstream, self.headers),
                )
            found = as_object(response.json()).get("input_tokens")
        except (TimeoutError, httpx2.HTTPError, ValueError):
            return None
        if response.status_code != 200 or not isinstance(found, int) or found <= 0:
            return None
        return found + found // 32 + 256

    async def _hold(self, bound: Bound, gone: asyncio.Task[None]) -> Held | None:
        """Set the worst case aside; None when the program hung up while it waited."""
        wanted, times = self._output_wanted(), self.asked.times
        least = bound.tokens + least_output(self.who.allocated, wanted) * times
        holding = asyncio.create_task(
            self.ledger.hold(
                self.who,
                self.upstream,
                operation=self.wire.shape,
                model=self.asked.model,
                least=least,
                most=bound.tokens + wanted * times,
            )
        )
        try:
            await asyncio.wait({holding, gone}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._give_up(holding)
            raise
        if not holding.done():
            await self._give_up(holding)
            return None
        held = holding.result()
        self.wire.limit(
            self.asked, (held.tokens - bound.tokens) // times, self.settings.chat_max_field
        )
        return held

    async def _give_up(self, holding: asyncio.Task[Held]) -> None:
        """Stop setting aside; what was set aside in the same moment is free again."""
        holding.cancel()
        await asyncio.wait({holding})
        if not holding.cancelled() and not holding.exception():
            await self.ledger.end(holding.result())

    async def _forward(self, held: Held, bound: Bound, program: Program) -> None:
        request = self.http.build_request(
            "POST",
            self.upstream.url + self.wire.path,
            params={"beta": "true"} if "beta=true" in self.query.split("&") else None,
            content=sendable(self.asked.body),
            headers=upstreams.request_headers(self.upstream, self.headers),
        )
        held.sent = True
        try:
            response = await self.http.send(request, stream=True)
        except upstreams.NOT_SENT as error:
            held.sent = False
            raise Refused(
                "unreachable", f"{self.upstream.url} cannot be reached; nothing was charged"
            ) from error
        except httpx2.TransportError as error:
            raise self._broken(held) from error
        try:
            if response.status_code >= 300:
                await self._pass_error(response, held, program)
            elif response.headers.get("content-type", "").startswith("text/event-stream"):
                await self._pass_stream(response, held, bound, program)
            else:
                await self._pass_whole(response, held, bound, program)
        finally:
            await response.aclose()

    def _broken(self, held: Held) -> Refused:
        return Refused(
            "cut",
            f"the provider broke off before its answer; the call is charged in full, "
            f"{held.tokens} tokens, because it may have been billed",
        )

    async def _pass_error(self, response: httpx2.Response, held: Held, program: Program) -> None:
        held.sent = False
        await self.ledger.end(held)
        if response.status_code in (401, 407) or response.status_code < 400:
            # The text of a 401 may hold a part of the key, and the key is not the program's.
            text = f"{self.upstream.provider} answers {response.status_code} to the gateway"
            _log.warning("%s", text, extra={"event": "gateway.upstream_refused"})
            raise Refused("set_up", f"{text}; whoever runs it must check its key and address")
        try:
            body = await _read(response, _MOST_ERROR_BYTES)
        except httpx2.TransportError:
            body = b""
        headers = upstreams.answer_headers(response, self.asked.dropped)
        await program.answer(Answer(response.status_code, headers, body or b""))

    async def _pass_whole(
        self, response: httpx2.Response, held: Held, bound: Bound, program: Program
    ) -> None:
        try:
            body = await _read(response, _MOST_ANSWER_BYTES)
        except httpx2.TransportError as error:
            raise self._broken(held) from error
        if body is None:
            raise self._broken(held)
        held.used = self.wire.used(_parsed(body))
        await self._end(held, bound)
        headers = upstreams.answer_headers(response, self.asked.dropped)
        await program.answer(Answer(response.status_code, headers, body))

    async def _pass_stream(
        self, response: httpx2.Response, held: Held, bound: Bound, program: Program
    ) -> None:
        events, meter = Events(), self.wire.meter(self.asked.usage_wanted)
        headers = upstreams.answer_headers(response, self.asked.dropped)
        await program.begin(response.status_code, headers)
        whole = True
        try:
            async for chunk in response.aiter_bytes():
                passed = [event for event in events.take(chunk) if meter.read(event)]
                if meter.ended and not held.ended:
                    held.used = meter.used
                    await self._end(held, bound)
                if passed:
                    await program.more(b"".join(passed))
        except (httpx2.TransportError, httpx2.DecodingError):
            whole = False
        if not held.ended:
            held.used = meter.used
            await self._end(held, bound)
        if whole:
            await program.finish(events.rest)
        elif events.rest:
            await program.more(events.rest)

    async def _end(self, held: Held, bound: Bound) -> None:
        if held.used and self.asked.goes_on:
            self.bounds.learn(bound, held.used.input_total)
        await self.ledger.end(held)


async def _read(response: httpx2.Response, most: int) -> bytes | None:
    """The whole answer; None when it is larger than `most` bytes."""
    parts: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > most:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _parsed(body: bytes) -> Json:
    try:
        return as_object(json.loads(body))
    except (ValueError, RecursionError):
        return {}
