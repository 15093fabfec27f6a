"""A scripted provider on loopback: three wires, streaming or not. It is a script, not a model.

It bills exactly and tells what it billed (`bills`). It misbehaves on order: the order stands in
the model's name, like `m?status=429` or `m?out=50&cut=3`, so that it needs no state. Orders:
status, out (tokens it would say), cut (after so many), hang, gate (say half, wait for `gate`),
usage (none, zero), cache and wrote (parts of the input), beyond (bills more than it may), error (in
the stream), delay_ms (before each piece). What it says comes from `says`, which a test may replace.
Alone: PYTHONPATH=tests python -m provider [PORT [MODULE]]; `says` of the module says what it says,
GET /bills tells the bills, GET /open opens the gate.
"""

import asyncio
import contextlib
import importlib
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import provider_wires as wires
from provider_wires import Said

KEY = "sk-the-operators-own-key"
MODEL = "claude-sonnet-4-5"


@dataclass
class Order:
    """What one call asks for, by the name of its model."""

    status: int = 0
    out: int = 20
    cut: int = -1
    hang: bool = False
    gate: bool = False
    usage: str = ""
    cache: int = 0
    wrote: int = 0
    beyond: int = 0
    error: bool = False
    delay_ms: int = 0


def order_of(model: str) -> Order:
    order = Order()
    for name, value in parse_qsl(model.partition("?")[2]):
        now: Any = getattr(order, name)
        kind: Any = now.__class__
        setattr(order, name, value if kind is str else kind(int(value)))
    return order


@dataclass
class Bill:
    """What a provider would have billed for one call."""

    model: str
    input: int
    output: int

    @property
    def tokens(self) -> int:
        return self.input + self.output


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def says_words(path: str, body: Any, tokens: int) -> Said:
    """A text of one word a token."""
    del path, body
    return Said(text=[f"w{n} " for n in range(tokens)])


@dataclass
class Provider:
    """The provider's books, and its gate."""

    bills: list[Bill] = field(default_factory=list[Bill])
    received: list[Received] = field(default_factory=list[Received])
    says: Callable[[str, Any, int], Said] = says_words
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    counts: bool = True
    open_calls: int = 0
    most_open: int = 0
    url: str = ""

    @property
    def billed(self) -> int:
        return sum(bill.tokens for bill in self.bills)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(raw) if raw else None
        self.received.append(Received(method, path, headers, body))
        self.arrived.set()
        self.open_calls += 1
        self.most_open = max(self.most_open, self.open_calls)
        try:
            return await self._answer(path.partition("?")[0], headers, body, reader, writer)
        finally:
            self.open_calls -= 1

    async def _answer(
        self,
        path: str,
        headers: dict[str, str],
        body: Any,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if path == "/bills":
            found = [[bill.model, bill.input, bill.output] for bill in self.bills]
            return _whole(writer, 200, found)
        if path == "/open":
            self.gate.set()
            return _whole(writer, 200, {})
        if KEY not in (headers.get("x-api-key"), headers.get("authorization", "")[7:]):
            error = {"error": {"message": f"Incorrect API key provided: {KEY[:8]}***"}}
            return _whole(writer, 401, error)
        if path.endswith("/models"):
            return _whole(writer, 200, {"object": "list", "data": [{"id": MODEL}]})
        if path.endswith(("/count_tokens", "/input_tokens")) and self.counts:
            return _whole(writer, 200, {"input_tokens": tokens_of(body)})
        wire = wires.of(path)
        if wire is None:
            return _whole(writer, 404, {"error": {"message": "no such path"}})
        order = order_of(body["model"])
        if order.status:
            return _whole(writer, order.status, wire.error(order.status), {"Retry-After": "7"})
        said = self.says(path, body, min(order.out, wire.most(body)))
        answer = Answer(self, wire, order, body, said, reader, writer)
        return await (answer.stream() if body.get("stream") else answer.whole())


def tokens_of(body: Any) -> int:
    """How many tokens a request has, by this provider's count: four bytes make one."""
    names = ("system", "messages", "tools", "instructions", "input")
    return 8 + len(json.dumps([body.get(n) for n in names])) // 4


class Answer:
    """One answer and its bill."""

    def __init__(
        self,
        books: Provider,
        wire: Any,
        order: Order,
        body: Any,
        said: Said,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.books, self.wire, self.order, self.body, self.said = books, wire, order, body, said
        self.reader, self.writer = reader, writer
        given = tokens_of(body)
        self.bill = Bill(body["model"], given, 0)
        self.cache, self.wrote = min(order.cache, given), min(order.wrote, given)

    def usage(self) -> Any:
        if self.order.usage == "none":
            return None
        if self.order.usage == "zero":
            return self.wire.usage(0, 0, 0, 0)
        rest = self.bill.input - self.cache - self.wrote
        return self.wire.usage(rest, self.bill.output, self.cache, self.wrote)

    async def whole(self) -> bool:
        self.bill.output = self.said.tokens + self.order.beyond
        self.books.bills.append(self.bill)
        if self.order.hang:
            return await self._hang()
        if self.order.gate:
            await self._gate()
        if self.order.cut >= 0:
            return False
        await asyncio.sleep(self.order.delay_ms / 1000)
        return _whole(self.writer, 200, self.wire.whole(self.body, self.said, self.usage()))

    async def stream(self) -> bool:
        self.books.bills.append(self.bill)
        if self.order.hang:
            return await self._hang()
        _head(self.writer, 200, {"Content-Type": "text/event-stream; charset=utf-8"})
        _head(self.writer, None, {"Transfer-Encoding": "chunked"})
        events = self.wire.events(self.body, self.said, self.bill.input, self.usage)
        middle = len(self.said.text) // 2
        for event, tokens in events:
            if tokens and self.bill.output == self.order.cut:
                return await self._cut()
            if tokens and self.order.gate and self.bill.output == middle:
                await self._gate()
            self.bill.output += tokens
            _chunk(self.writer, event)
            await self.writer.drain()
            if self.order.delay_ms:
                await asyncio.sleep(self.order.delay_ms / 1000)
            if self.reader.at_eof():
                return False
            if tokens and self.order.error:
                _chunk(self.writer, self.wire.broken)
                break
            if tokens and self.bill.output == self.said.tokens:
                # What it was not allowed to say shows in the usage that follows.
                self.bill.output += self.order.beyond
        if self.order.cut >= self.said.tokens:
            return await self._cut()
        _chunk(self.writer, b"")
        await self.writer.drain()
        return True

    async def _gate(self) -> None:
        await self.writer.drain()
        gone = asyncio.create_task(self.reader.read(1))
        opened = asyncio.create_task(self.books.gate.wait())
        await asyncio.wait({gone, opened}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        opened.cancel()
        await asyncio.wait({gone, opened})

    async def _hang(self) -> bool:
        """Say nothing until the other side has hung up."""
        await self.reader.read(1)
        return False

    async def _cut(self) -> bool:
        await self.writer.drain()
        return False


def _head(writer: asyncio.StreamWriter, status: int | None, headers: dict[str, str]) -> None:
    if status:
        writer.write(f"HTTP/1.1 {status} Scripted\r\n".encode())
    writer.write("".join(f"{n}: {v}\r\n" for n, v in headers.items()).encode())
    if not status:
        writer.write(b"\r\n")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def _whole(
    writer: asyncio.StreamWriter, status: int, body: Any, more: dict[str, str] | None = None
) -> bool:
    raw = json.dumps(body).encode()
    _head(writer, status, {"Content-Type": "application/json", "Request-Id": "r-1"} | (more or {}))
    _head(writer, None, {"Content-Length": str(len(raw))})
    writer.write(raw)
    return True


@asynccontextmanager
async def provided(port: int = 0) -> AsyncGenerator[Provider]:
    """A provider that answers while the block runs."""
    provider = Provider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", port, limit=2**26)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        provider.gate.set()


async def main() -> None:
    """Serve until stopped; the address on stdout."""
    async with provided(int(sys.argv[1]) if sys.argv[1:] else 0) as provider:
        if sys.argv[2:]:
            provider.says = importlib.import_module(sys.argv[2]).says
        print(provider.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
