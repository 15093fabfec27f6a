"""Whoever is killed, runner, keeper or nursery: nothing that they guarded lives on."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from programs import (
    DAEMON,
    PYTHON,
    RUNNER,
    Taken,
    alive,
    descriptors,
    end,
    nothing_is_left,
    parent,
    start,
    until,
)

from bough.runner.programs import processes, program

pytestmark = pytest.mark.skipif(not processes.LINUX, reason="looks into /proc")


@pytest.fixture(autouse=True)
async def clean() -> AsyncIterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    await nothing_is_left()


@asynccontextmanager
async def runner_with_programs(
    tmp_path: Path, count: int, pass_fds: Sequence[int] = ()
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, list[int], list[int]]]:
    """A real runner, its programs, and everything below it; SIGKILLed at the end, if not before."""
    places = [tmp_path / str(number) for number in range(count)]
    for place in places:
        place.mkdir()
    runner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUNNER, DAEMON, *map(str, places)),
        stdout=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
    )
    try:
        assert runner.stdout is not None
        programs = [int(await runner.stdout.readline()) for _ in places]
        await until(lambda: all((p / "daemon").exists() for p in places), "all daemons run")
        found = processes.below(runner.pid, processes.processes())
        yield runner, programs, [entry.pid for entry in found]
    finally:
        if runner.returncode is None:
            runner.kill()
        await runner.wait()


async def test_a_runner_that_is_sigkilled_with_20_agents_leaves_nothing(tmp_path: Path) -> None:
    async with runner_with_programs(tmp_path, 20) as (runner, _, pids):
        assert len(pids) >= 1 + 20 * 3  # nursery, keepers, programs, daemons
        runner.kill()
        await runner.wait()
        await until(lambda: not any(map(alive, pids)), "everything below the runner is gone")


async def test_a_keeper_that_is_sigkilled_takes_its_program_and_daemons_along(
    tmp_path: Path,
) -> None:
    taken, other_taken = Taken(), Taken()
    running = await start([*PYTHON, DAEMON, "stay", "clear"], tmp_path, taken)
    other = await start(["sh", "-c", "echo ready; sleep 1000"], tmp_path, other_taken)
    await taken.has("ready")
    os.kill(parent(running.pid), signal.SIGKILL)
    ended = await end(running)
    assert (ended.code, ended.signal, ended.reason) == (None, None, "keeper_lost")
    assert not alive(running.pid)
    assert not alive(int((tmp_path / "daemon").read_text()))
    await other_taken.has("ready")
    assert alive(other.pid)
    await other.stop()


async def test_a_nursery_that_is_sigkilled_harms_no_program_and_is_replaced(
    tmp_path: Path,
) -> None:
    taken = Taken()
    running = await start(["sh", "-c", "echo ready; sleep 1000"], tmp_path, taken)
    await taken.has("ready")
    os.kill(parent(parent(running.pid)), signal.SIGKILL)
    assert (await end(await start(["sh", "-c", "exit 6"], tmp_path))).code == 6
    assert alive(running.pid)
    await running.stop()
    assert (await end(running)).signal == signal.SIGTERM


async def test_when_nursery_and_keeper_are_sigkilled_the_runner_hunts_for_strays(
    tmp_path: Path,
) -> None:
    taken = Taken()
    mark = f"test-{os.getpid()}-both"
    running = await start([*PYTHON, DAEMON, "stay"], tmp_path, taken, BOUGH_AGENT_ID=mark)
    await taken.has("ready")
    keeper = parent(running.pid)
    for pid in (parent(keeper), keeper):
        os.kill(pid, signal.SIGKILL)
    assert (await end(running)).reason == "keeper_lost"
    assert not alive(running.pid)
    assert not alive(int((tmp_path / "daemon").read_text()))


async def test_strays_are_killed_by_identity_but_never_a_process_that_got_their_number(
    tmp_path: Path,
) -> None:
    taken = Taken()
    running = await start(["sh", "-c", "echo ready; sleep 1000"], tmp_path, taken)
    await taken.has("ready")
    real = running.identity
    for wrong in (
        program.Identity(real.pid, str(int(real.started) - 1), real.boot_id),
        program.Identity(real.pid, real.started, "another boot"),
    ):
        assert await program.kill_strays(wrong, None) == []
    assert alive(real.pid)
    assert real.pid in await program.kill_strays(real, None)
    assert (await end(running)).signal == signal.SIGKILL


async def test_strays_are_killed_by_a_whole_marker_only(tmp_path: Path) -> None:
    taken = Taken()
    mark = f"test-{os.getpid()}-1"
    running = await start([*PYTHON, DAEMON, "stay"], tmp_path, taken, BOUGH_AGENT_ID=mark)
    await taken.has("ready")
    daemon = int((tmp_path / "daemon").read_text())
    assert await program.kill_strays(None, f"BOUGH_AGENT_ID={mark[:-1]}") == []
    killed = await program.kill_strays(None, f"BOUGH_AGENT_ID={mark}")
    assert {running.pid, daemon} <= set(killed)
    assert (await end(running)).signal == signal.SIGKILL


async def test_a_program_gets_no_descriptor_that_its_runner_was_started_with(
    tmp_path: Path,
) -> None:
    read, write = os.pipe()
    try:
        async with runner_with_programs(tmp_path, 1, [write]) as (runner, programs, _):
            pipe = descriptors(runner.pid)[str(write)]
            assert pipe not in descriptors(programs[0]).values()
    finally:
        os.close(read)
        os.close(write)
