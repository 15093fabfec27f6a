"""From a program's pipes to whoever keeps its output, in bounded memory.

`pump` reads one pipe and awaits an output for each chunk. `Batches` is such an output: it turns
chunks into few writes of text, never makes the program wait, and never grows. What comes faster
than the rate, or while a write is slow, is left out in the middle: one line says how much, and the
last 64 KiB before the gap's end are kept. Guaranteed: about 1 MiB per stream is held at most, and
text never holds a NUL (PostgreSQL text cannot) or half a character.

When things break: a write that raises ends the batching, and the next `add` or `close` raises the
same error, which stops the program.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Output = Callable[[str, bytes], Awaitable[None]]
"""Takes ("stdout" or "stderr", a chunk of at most 64 KiB); awaited before more is read."""

Write = Callable[[str, str], Awaitable[None]]
"""Takes ("stdout" or "stderr", text)."""

READ_BYTES = 65536
MIB = 1024 * 1024
# So much text is held while a write is slow, before the middle is left out.
_HELD_FLUSHES = 8
# A program that is noisy for ever shows a sign of life this often.
GAP_AT_MOST_S = 30.0


async def pump(stream: str, fd: int, output: Output, until: asyncio.Future[None]) -> None:
    """Hand over what comes out of the pipe `fd`, then close it.

    Ends at end of file, or, when somebody outside the program's tree keeps the pipe open, as soon
    as `until` is done and the pipe is empty.
    """
    try:
        while chunk := await _read(fd, until):
            await output(stream, chunk)
            # A fast program and a fast output must not keep everybody else waiting.
            await asyncio.sleep(0)
    finally:
        os.close(fd)


async def _read(fd: int, until: asyncio.Future[None]) -> bytes:
    while True:
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:
            if until.done():
                return b""
        await _readable(fd, until)


async def _readable(fd: int, until: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def wake(_: object = None) -> None:
        ready.set()

    loop.add_reader(fd, wake)
    until.add_done_callback(wake)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
        until.remove_done_callback(wake)


def left_out(count: int) -> str:
    """Return the line that stands for `count` bytes."""
    if count >= MIB:
        return f"… {count / MIB:.1f} MiB left out …\n"
    if count >= 1024:
        return f"… {count / 1024:.1f} KiB left out …\n"
    return f"… {count} bytes left out …\n"


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


@dataclass(slots=True)
class _Stream:
    """What one stream has pending: text to write, then perhaps a gap and the bytes after it."""

    text: list[str] = field(default_factory=list[str])
    text_bytes: int = 0
    decoder: codecs.IncrementalDecoder = field(default_factory=_decoder)
    at_line_start: bool = True
    gap_since: float | None = None
    gap_bytes: int = 0
    tail: bytearray = field(default_factory=bytearray)

    def keep(self, chunk: bytes, *, final: bool = False) -> None:
        text = self.decoder.decode(chunk, final).replace("\0", "\ufffd")
        if text:
            self.text.append(text)
            self.text_bytes += len(chunk)
            self.at_line_start = text.endswith("\n")

    def drop(self, chunk: bytes, tail_bytes: int) -> None:
        self.tail += chunk
        excess = len(self.tail) - tail_bytes
        if excess > 0:
            self.gap_bytes += excess
            del self.tail[:excess]

    def close_gap(self) -> None:
        """Put the line that says what is left out, and what came last, after the text."""
        tail = bytes(self.tail)
        if self.gap_bytes:
            self.keep(b"", final=True)
            # The tail may begin within a character: at most three bytes belong to its rest.
            cut = next((i for i in range(min(3, len(tail))) if tail[i] & 0xC0 != 0x80), 0)
            line = left_out(self.gap_bytes + cut)
            self.text.append(line if self.at_line_start else "\n" + line)
            self.at_line_start = True
            tail = tail[cut:]
            self.decoder.reset()
        self.gap_since, self.gap_bytes = None, 0
        self.tail.clear()
        self.keep(tail)

    def take(self) -> str:
        text = "".join(self.text)
        self.text.clear()
        self.text_bytes = 0
        return text


class Batches:
    """Collects output and writes it in batches; give its `add` to `program.start` as output."""

    def __init__(
        self,
        write: Write,
        *,
        flush_s: float = 0.1,
        flush_bytes: int = 65536,
        rate_bytes_per_s: int = MIB,
        burst_bytes: int = MIB,
        tail_bytes: int = 65536,
    ) -> None:
        """Write after `flush_s` seconds or `flush_bytes`, whichever comes first.

        Everything is kept while no more came than `burst_bytes` and `rate_bytes_per_s` since then.
        The order between the two streams is kept from batch to batch, not within one.
        """
        self._write = write
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._rate = rate_bytes_per_s
        self._burst = burst_bytes
        self._tail_bytes = tail_bytes
        self._streams: dict[str, _Stream] = {}
        self._allowance = float(burst_bytes)
        self._counted_at = asyncio.get_running_loop().time()
        self._something = asyncio.Event()
        self._enough = asyncio.Event()
        self._closing = False
        self._flusher = asyncio.create_task(self._run())

    async def add(self, stream: str, chunk: bytes) -> None:
        """Take a chunk, never waiting for a write; raises what an earlier write raised."""
        if self._flusher.done():
            self._flusher.result()
        allowance = self._count(len(chunk))
        state = self._streams.setdefault(stream, _Stream())
        if state.gap_since is None and (
            allowance < 0 or state.text_bytes >= _HELD_FLUSHES * self._flush_bytes
        ):
            state.gap_since = self._counted_at
        if state.gap_since is None:
            state.keep(chunk)
        else:
            state.drop(chunk, self._tail_bytes)
        self._something.set()
        if state.text_bytes >= self._flush_bytes:
            self._enough.set()

    async def close(self) -> None:
        """Write what is left; raises what a write raised."""
        self._closing = True
        self._something.set()
        self._enough.set()
        await self._flusher

    def _count(self, arrived: int) -> float:
        # What is left out counts too, down to minus one burst: a gap lasts until it is calm again.
        now = asyncio.get_running_loop().time()
        earned = (now - self._counted_at) * self._rate
        self._counted_at = now
        available = min(float(self._burst), self._allowance + earned)
        self._allowance = max(-float(self._burst), available - arrived)
        return self._allowance

    async def _run(self) -> None:
        while not self._closing:
            await self._something.wait()
            self._something.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), self._flush_s)
            self._enough.clear()
            await self._flush()
            if any(state.gap_since is not None for state in self._streams.values()):
                self._something.set()
        await self._flush()

    async def _flush(self) -> None:
        calm = self._count(0) >= 0
        for stream, state in list(self._streams.items()):
            since = state.gap_since
            if since is not None and (
                calm or self._closing or self._counted_at - since > GAP_AT_MOST_S
            ):
                state.close_gap()
            if self._closing:
                state.keep(b"", final=True)
            if text := state.take():
                await self._write(stream, text)
