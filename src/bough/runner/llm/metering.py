"""Pays for the calls of a program that no gateway serves: set aside, sent, settled, one by one.

Guarantees: nothing is sent before its worst case is set aside; a call whose use is not known is
charged in full; an answer that is an error, and a call that was never sent, cost nothing. When the
program dies in between, the kernel charges the reservation in full when it expires.
"""

import contextlib
import json
import time
from typing import Any
from uuid import UUID, uuid4

import httpx2
from pydantic_ai.usage import RequestUsage

from bough.client.bound import REFUSAL, TEMPLATE_TOKENS, least_output, size
from bough.client.budget_rows import Reserved
from bough.client.budgets import Usage
from bough.client.errors import BoughError, BudgetBusy, BudgetExceeded, BudgetFrozen
from bough.client.prices import priced
from bough.client.remote import RemoteClient, RemoteHints

CALL_S = 900
_QUEUE_S = 60.0
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


class Metering(httpx2.AsyncBaseTransport):
    """A way to a provider for one agent, one call at a time."""

    def __init__(
        self, client: RemoteClient, agent_id: UUID, *, provider: str, official: bool, model: str
    ) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self._client = client
        self._agent_id = agent_id
        self._provider = provider if official else None
        self._model = model
        self._held: Reserved | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a call that is paid; refused as a gateway refuses. Raises what the way raises."""
        body: dict[str, Any] = json.loads(await request.aread())
        bound = size(json.dumps(body, ensure_ascii=False)) + TEMPLATE_TOKENS
        field = next(name for name in _FIELDS if name in body)
        try:
            held = await self._reserve(bound, int(body[field]))
        except (BudgetExceeded, BudgetBusy, BudgetFrozen) as error:
            told = {"error": {"code": "budget_exhausted", "message": f"{REFUSAL}{error}"}}
            return httpx2.Response(402, json=told, request=request)
        self._held = held
        body[field] = held.tokens_reserved - bound
        headers = [(k, v) for k, v in request.headers.raw if k.lower() != b"content-length"]
        sent = httpx2.Request(
            request.method,
            request.url,
            headers=headers,
            content=json.dumps(body).encode(),
            extensions=request.extensions,
        )
        try:
            response = await self._inner.handle_async_request(sent)
        except _NOT_SENT:
            await self._release()
            raise
        if response.status_code >= 300:
            await self._release()
        return response

    async def _reserve(self, bound: int, wanted: int) -> Reserved:
        allocated = (await self._client.account(self._agent_id)).allocated
        key, hints = uuid4(), RemoteHints(self._client)
        give_up_at = time.monotonic() + _QUEUE_S
        while True:
            try:
                return await self._client.reserve(
                    key,
                    self._agent_id,
                    bound + wanted,
                    operation="llm",
                    model=self._model,
                    expires_s=CALL_S + 60,
                    at_least=bound + least_output(allocated, wanted),
                )
            except BudgetBusy:
                if time.monotonic() > give_up_at:
                    raise
            await hints.wait(5.0)

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            await self._client.release(held.id, self._agent_id)

    async def settle(self, usage: RequestUsage | None) -> None:
        """End the call with what it used; None or nothing at all: it is not known."""
        held, self._held = self._held, None
        if held is None:
            return
        total = usage.input_tokens + usage.output_tokens if usage else 0
        if usage is None or not total:
            used = Usage(tokens=held.tokens_reserved, model=self._model)
        else:
            cached = usage.cache_read_tokens + usage.cache_write_tokens
            known = Usage(
                tokens=total,
                input_tokens=usage.input_tokens - cached,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                model=self._model,
            )
            used = priced(known, provider=self._provider)
        await self._client.settle(held.id, self._agent_id, used)

    async def lost(self) -> bool:
        """The call ended with an error; what is still held was sent: whether it is charged."""
        charged = self._held is not None
        # What cannot be told now expires, and is charged in full then.
        with contextlib.suppress(BoughError):
            await self.settle(None)
        return charged

    async def aclose(self) -> None:
        """Close connections."""
        await self._inner.aclose()
