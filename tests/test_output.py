"""Output in bounded memory: what is kept, what is left out, and that nobody waits."""

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from programs import end, nothing_is_left, start, until

from bough.runner.programs import output, processes

pytestmark = pytest.mark.skipif(not processes.LINUX, reason="looks into /proc")


@pytest.fixture(autouse=True)
async def clean() -> AsyncIterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    await nothing_is_left()


class Log:
    """A write that keeps what it gets and can be told to be slow."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.written: list[tuple[str, str]] = []
        self._gate = gate

    async def __call__(self, stream: str, text: str) -> None:
        self.written.append((stream, text))
        if self._gate is not None:
            await self._gate.wait()

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.written)


async def test_a_program_that_prints_1_gb_ends_and_little_of_it_is_written(tmp_path: Path) -> None:
    log = Log()
    batches = output.Batches(log)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = "echo first; yes | head -c 1073741824; echo last"
    running = await start(["sh", "-c", script], tmp_path, batches.add)
    async with asyncio.timeout(60):
        assert (await running.wait()).code == 0
    await batches.close()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 32 * 1024
    assert log.text.startswith("first\ny\ny\n")
    assert log.text.endswith("y\nlast\n")
    assert len(log.text) < 2 * 1024 * 1024
    gaps = [line for line in log.text.splitlines() if "left out" in line]
    assert len(gaps) <= 2
    assert gaps[0].startswith("… 10") or len(gaps) == 2
    after = log.text.rpartition(" left out …\n")[2]
    assert len(after) >= 65536


async def test_nothing_is_left_out_of_what_comes_at_a_normal_rate() -> None:
    log = Log()
    batches = output.Batches(log, flush_s=0.001)
    text = "".join(f"line {number} äöü\n" for number in range(20_000))
    data = text.encode()
    for start_at in range(0, len(data), 1001):
        await batches.add("stdout", data[start_at : start_at + 1001])
        await asyncio.sleep(0)
    await batches.close()
    assert log.text == text


async def test_while_a_write_is_slow_the_middle_is_left_out_and_counted_exactly() -> None:
    gate = asyncio.Event()
    log = Log(gate)
    batches = output.Batches(log, flush_s=0.001, flush_bytes=1000, tail_bytes=500)
    await batches.add("stdout", b"begin")
    await until(lambda: bool(log.written), "the first write is under way")
    for number in range(1000):
        await batches.add("stdout", f"{number:09}\n".encode())
    gate.set()
    await batches.close()
    before, line, after = log.text.partition("… 1.5 KiB left out …\n")
    assert line
    assert before.endswith("000000799\n")
    assert after == "".join(f"{number:09}\n" for number in range(950, 1000))


async def test_characters_are_never_cut_and_nul_never_reaches_the_database() -> None:
    log = Log()
    batches = output.Batches(log, flush_s=0.001)
    for byte in "a€😀\0b".encode():
        await batches.add("stdout", bytes([byte]))
        await asyncio.sleep(0.003)
    await batches.add("stderr", b"\xff\xe2\x82")
    await batches.close()
    streams = {
        name: "".join(text for stream, text in log.written if stream == name)
        for name in ("stdout", "stderr")
    }
    assert streams == {"stdout": "a€😀\ufffdb", "stderr": "\ufffd\ufffd"}


async def test_a_write_that_fails_is_raised_to_the_program_and_at_close(tmp_path: Path) -> None:
    async def broken(_stream: str, _text: str) -> None:
        raise ConnectionError("database gone")

    batches = output.Batches(broken, flush_s=0.001)
    running = await start(
        ["sh", "-c", "while :; do echo x; sleep 0.01; done"], tmp_path, batches.add
    )
    with pytest.raises(ConnectionError, match="database gone"):
        await end(running)
    with pytest.raises(ConnectionError, match="database gone"):
        await batches.close()
