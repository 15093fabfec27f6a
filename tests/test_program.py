"""Programs under their keepers: nothing survives, nothing blocks, what is reported is true."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from programs import (
    DAEMON,
    PYTHON,
    Taken,
    alive,
    descriptors,
    end,
    environment,
    nothing_is_left,
    parent,
    start,
    state,
    until,
)

from bough.runner.programs import processes, program

pytestmark = pytest.mark.skipif(not processes.LINUX, reason="looks into /proc")


@pytest.fixture(autouse=True)
async def clean() -> AsyncIterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    await nothing_is_left()


async def test_exit_code_and_output_are_reported(tmp_path: Path) -> None:
    taken = Taken()
    running = await start(
        ["sh", "-c", "pwd; echo $WORD; echo no >&2; exit 7"], tmp_path, taken, WORD="é"
    )
    ended = await end(running)
    assert (ended.code, ended.signal, ended.reason) == (7, None, "exited")
    assert 0 < ended.duration_s < 5
    assert taken.text == {"stdout": f"{tmp_path}\né\n", "stderr": "no\n"}
    assert not alive(running.pid)


async def test_a_signal_is_reported_as_that_signal(tmp_path: Path) -> None:
    ended = await end(await start(["sh", "-c", "kill -SEGV $$"], tmp_path))
    assert (ended.code, ended.signal, ended.reason) == (None, signal.SIGSEGV, "exited")


async def test_a_program_gets_default_signals_its_own_session_and_no_descriptors(
    tmp_path: Path,
) -> None:
    taken = Taken()
    script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; ps -o sid= -p $$"
    running = await start(["sh", "-c", script], tmp_path, taken)
    await end(running)
    blocked, ignored, open_files, session = taken.text["stdout"].splitlines()
    standard = 0x7FFFFFFF
    assert int(blocked.split()[1], 16) & standard == 0
    assert int(ignored.split()[1], 16) & standard == 0
    assert int(open_files) == 4  # the three, and the one ls reads the directory with
    assert int(session) == running.pid


async def test_a_grandchild_that_daemonised_itself_is_gone(tmp_path: Path) -> None:
    taken = Taken()
    running = await start([*PYTHON, DAEMON, "clear"], tmp_path, taken)
    # The daemon holds stdout open too: that must not block wait() either.
    ended = await end(running)
    assert ended.code == 0
    assert taken.text["stdout"] == "ready\n"
    assert not alive(int((tmp_path / "daemon").read_text()))


async def test_a_program_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    taken = Taken()
    running = await start(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 9; done"], tmp_path, taken
    )
    await taken.has("ready")
    begun = time.monotonic()
    await running.stop(grace_s=0.3, reason="terminated")
    assert 0.3 <= time.monotonic() - begun < 5
    assert not alive(running.pid)
    ended = await end(running)
    assert (ended.code, ended.signal, ended.reason) == (None, signal.SIGKILL, "terminated")


async def test_a_program_may_use_its_grace_to_end_well(tmp_path: Path) -> None:
    taken = Taken()
    script = "trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    running = await start(["sh", "-c", script], tmp_path, taken)
    await taken.has("ready")
    await running.stop(grace_s=10)
    ended = await end(running)
    assert (ended.code, ended.reason) == (3, "stopped")
    assert taken.text["stdout"] == "ready\nsaved\n"


async def test_a_program_that_waits_for_input_gets_end_of_file(tmp_path: Path) -> None:
    ended = await end(await start(["sh", "-c", "read line || exit 5"], tmp_path))
    assert ended.code == 5


async def test_output_arrives_while_the_program_runs(tmp_path: Path) -> None:
    taken = Taken()
    running = await start(["sh", "-c", "echo early; sleep 1000"], tmp_path, taken)
    await taken.has("early")
    assert alive(running.pid)
    await running.stop()


async def test_a_program_that_closed_its_output_is_waited_for(tmp_path: Path) -> None:
    script = "exec >&- 2>&-; while ! test -e go; do sleep 0.01; done; touch went; exit 4"
    running = await start(["sh", "-c", script], tmp_path)
    waiting = asyncio.create_task(end(running))
    await until(lambda: not Path(f"/proc/{running.pid}/fd/1").exists(), "stdout is closed")
    assert not waiting.done()
    (tmp_path / "go").touch()
    assert (await waiting).code == 4
    assert (tmp_path / "went").exists()


async def test_pause_stops_every_descendant_and_resume_lets_it_go_on(tmp_path: Path) -> None:
    taken = Taken()
    running = await start([*PYTHON, DAEMON, "stay"], tmp_path, taken)
    await taken.has("ready")
    pids = [running.pid, int((tmp_path / "daemon").read_text())]
    running.pause()
    await until(lambda: [state(pid) for pid in pids] == ["T", "T"], "both are stopped")
    running.resume()
    await until(lambda: [state(pid) for pid in pids] == ["S", "S"], "both go on")
    running.pause()
    await until(lambda: state(running.pid) == "T", "stopped again")
    await running.stop(grace_s=10)
    assert (await end(running)).signal == signal.SIGTERM


async def test_the_deadline_stops_a_program_and_says_so(tmp_path: Path) -> None:
    running = await program.start(
        ["sleep", "1000"], cwd=tmp_path, env=environment(), output=Taken(), deadline_s=0.2
    )
    ended = await end(running)
    assert (ended.signal, ended.reason) == (signal.SIGTERM, "deadline")
    assert 0.2 <= ended.duration_s < 5


@pytest.mark.parametrize("deadline_s", [1e12, float("inf")])
async def test_a_deadline_may_be_as_far_away_as_one_likes(
    tmp_path: Path, deadline_s: float
) -> None:
    running = await program.start(
        ["sh", "-c", "exit 3"],
        cwd=tmp_path,
        env=environment(),
        output=Taken(),
        deadline_s=deadline_s,
    )
    assert (await end(running)).code == 3


@pytest.mark.parametrize("deadline_s", [0, -1.0, float("nan")])
async def test_a_bad_deadline_refuses_to_start(tmp_path: Path, deadline_s: float) -> None:
    with pytest.raises(ValueError, match="deadline_s is"):
        await program.start(["true"], cwd=tmp_path, env={}, output=Taken(), deadline_s=deadline_s)


async def test_what_cannot_be_run_is_refused_with_what_to_do(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    with pytest.raises(program.ProgramNotExecutable, match=r"is not executable \(mode 0644\)"):
        await start(["./plain"], tmp_path)
    with pytest.raises(program.ProgramNotFound, match=r"cannot run 'no-such': not found in the"):
        await start(["no-such"], tmp_path)
    with pytest.raises(program.ProgramNotFound, match="there is no file"):
        await start(["./no-such"], tmp_path)
    plain.write_text("#!/no/such/shell\n")
    plain.chmod(0o755)
    with pytest.raises(program.ProgramNotFound, match="interpreter"):
        await start(["./plain"], tmp_path)
    plain.write_bytes(b"\0\1\2")
    with pytest.raises(program.ProgramNotExecutable, match="no program for this machine"):
        await start(["./plain"], tmp_path)
    with pytest.raises(program.DirectoryMissing, match="there is no directory"):
        await start(["true"], tmp_path / "gone")
    with pytest.raises(program.CannotStartError, match="empty command"):
        await start([], tmp_path)
    with pytest.raises(program.CannotStartError, match="128 KiB"):
        await start(["echo", "x" * 200_000], tmp_path)


async def test_fifty_programs_run_at_once(tmp_path: Path) -> None:
    async def one(number: int) -> tuple[int | None, str]:
        taken = Taken()
        running = await start(["sh", "-c", f"echo {number}; exit {number}"], tmp_path, taken)
        return (await end(running)).code, taken.text["stdout"]

    await one(0)
    before = descriptors()
    ended = await asyncio.gather(*(one(number) for number in range(50)))
    assert ended == [(number, f"{number}\n") for number in range(50)]
    assert descriptors() == before


async def test_an_output_that_fails_stops_the_program_and_wait_raises_it(tmp_path: Path) -> None:
    async def full(_stream: str, _chunk: bytes) -> None:
        raise OSError("disk full")

    running = await start(["sh", "-c", "echo x; sleep 1000"], tmp_path, full)
    with pytest.raises(OSError, match="disk full"):
        await end(running)
    assert not alive(running.pid)


async def test_a_family_that_forks_all_the_time_is_killed(tmp_path: Path) -> None:
    taken = Taken()
    # Bounded, so that a failure of this test does not take the machine along.
    script = "n=0; while test $((n+=1)) -lt 400; do (setsid sleep 1000 &); echo $n.; done"
    running = await start(["bash", "-c", script], tmp_path, taken)
    await taken.has("20.")
    keeper = parent(running.pid)
    await running.stop(grace_s=0)
    assert not alive(keeper) or not processes.below(keeper, processes.processes())
    assert (await end(running)).signal is not None


async def test_a_pipe_that_an_outsider_keeps_open_does_not_block_wait(tmp_path: Path) -> None:
    taken = Taken()
    running = await start(["sh", "-c", "echo ready; sleep 1000"], tmp_path, taken)
    await taken.has("ready")
    outsider = os.open(f"/proc/{running.pid}/fd/1", os.O_WRONLY)
    try:
        await running.stop()
        os.write(outsider, b"late")
        assert (await end(running)).reason == "stopped"
    finally:
        os.close(outsider)


async def test_cancelling_wait_leaves_the_program_running(tmp_path: Path) -> None:
    taken = Taken()
    running = await start(["sh", "-c", "echo ready; sleep 1000"], tmp_path, taken)
    await taken.has("ready")
    waiting = asyncio.create_task(running.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert alive(running.pid)
    await running.stop()


async def test_a_pause_does_not_use_up_the_deadline(tmp_path: Path) -> None:
    running = await program.start(
        ["sleep", "1000"], cwd=tmp_path, env=environment(), output=Taken(), deadline_s=0.3
    )
    running.pause()
    await until(lambda: state(running.pid) == "T", "paused")
    paused_at = time.monotonic()
    await until(lambda: time.monotonic() > paused_at + 0.5, "longer than the deadline")
    assert state(running.pid) == "T"
    running.resume()
    ended = await end(running)
    assert ended.reason == "deadline"
    assert ended.duration_s > 0.75


async def test_a_directory_given_relative_is_relative_to_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    taken = Taken()
    await end(await start(["pwd"], Path("here"), taken))
    assert taken.text["stdout"] == f"{tmp_path}/here\n"
