"""The program at the other end of a call: what it sent, what it is sent, whether it is still there.

Guarantees: an answer begins once; a program that hangs up is noticed while we wait for others. An
answer that is not finished is cut, so that nobody takes a part for the whole.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Send

from bough.client.rows import Json
from bough.gateway.refusals import Answer, Refused
from bough.gateway.usage import as_object

MOST_BYTES = 32_000_000


class Program:
    """Sends to a program over ASGI; `gone` is done when it has hung up."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = False
        self.gone: asyncio.Task[None] | None = None

    @property
    def has_gone(self) -> bool:
        """Whether it has hung up."""
        return self.gone is not None and self.gone.done()

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[asyncio.Task[None]]:
        """While the block runs, notice when it hangs up; the request must have been read."""
        self.gone = asyncio.create_task(self._hangs_up())
        try:
            yield self.gone
        finally:
            if not self.gone.done():
                self.gone.cancel()

    async def _hangs_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and the headers."""
        self.began = True
        raw = [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def more(self, body: bytes) -> None:
        """Send a piece of the answer; waits for a program that reads slowly."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, body: bytes = b"") -> None:
        """Send the last piece."""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer(self, answer: Answer) -> None:
        """Send a whole answer."""
        if not self.began:
            headers = answer.headers | {"content-length": str(len(answer.body))}
            await self.begin(answer.status, headers)
            await self.finish(answer.body)


def token_of(headers: Headers) -> str:
    """The token, as either of the two wires sends a key. Raises Refused."""
    key = headers.get("x-api-key", "").strip()
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    token = key or (bearer.strip() if scheme.lower() == "bearer" else "")
    if not token:
        raise Refused("token", "there is no key; send the agent's BOUGH_TOKEN as the API key")
    return token


async def body_of(request: Request) -> Json:
    """The JSON object that was sent. Raises Refused."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        # Who is cut while it sends never reads why; so a large request is read, and thrown away.
        if size <= MOST_BYTES:
            parts.append(chunk)
        elif size > 4 * MOST_BYTES:
            break
    if size > MOST_BYTES:
        raise Refused("too_large", f"the request has {size} bytes, at most {MOST_BYTES} are taken")
    raw = _plain(b"".join(parts), request.headers.get("content-encoding", "identity"))
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100] or "nested too deeply"
        raise Refused("input", f"the request is not JSON: {reason}") from error
    if not isinstance(found, dict):
        raise Refused("input", "the request is not a JSON object")
    return as_object(found)


def _plain(raw: bytes, coding: str) -> bytes:
    if coding == "identity":
        return raw
    if coding != "gzip":
        raise Refused("encoding", f"a request in {coding[:20]} is not taken; send it plain or gzip")
    try:
        unzip = zlib.decompressobj(wbits=31)
        plain = unzip.decompress(raw, MOST_BYTES + 1)
    except zlib.error as error:
        raise Refused("input", f"the request is not gzip: {error}") from error
    if len(plain) > MOST_BYTES:
        raise Refused("too_large", f"the request has more than {MOST_BYTES} bytes when unpacked")
    return plain
