"""How long the embedded PostgreSQL lives: as long as it has users, and not much longer."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import embedded_homes
from embedded_homes import (
    STAY,
    USER,
    guardian_pid,
    is_blocked,
    proc,
    processes_of,
    said,
    server_is_gone,
    until,
)

from bough.client import embedded

# Fixtures, so that pytest finds them here.
place, initialised, user = embedded_homes.place, embedded_homes.initialised, embedded_homes.user
empty_home, home = embedded_homes.empty_home, embedded_homes.home
Start = Callable[..., "subprocess.Popen[str]"]


async def test_a_server_survives_kill_9_of_its_starter(home: Path, user: Start):
    starter = user()
    pid = said(starter).split()[0]
    starter.kill()
    starter.wait()
    server = await embedded.start(home)
    assert str(server.pid) == pid


async def test_stop_leaves_no_process(home: Path, user: Start):
    said(user())
    server = await embedded.start(home)
    children = proc(server.pid, "task", server.pid, "children").read_text().split()
    assert len(children) > 3
    assert await embedded.stop(home) is True
    assert processes_of(home) == []
    assert not any(proc(child).exists() for child in children)
    assert await embedded.stop(home) is False
    assert not embedded.status(home).running


async def test_the_guardian_stops_the_server_when_the_last_user_is_gone(home: Path, user: Start):
    first, second = user(BOUGH_LINGER_S="0"), user(BOUGH_LINGER_S="0")
    assert said(first) == said(second)
    await until(lambda: is_blocked(guardian_pid(home)))
    first.kill()
    first.wait()
    assert is_blocked(guardian_pid(home))
    assert embedded.status(home).running
    second.kill()
    await until(lambda: processes_of(home) == [])
    assert not (home / "postgres/postmaster.pid").exists()


async def test_a_user_that_comes_and_goes_in_the_linger_time_begins_it_anew(
    home: Path, user: Start
):
    first = user(USER, BOUGH_LINGER_S="1.5")
    said(first)
    first.wait()
    second = user(USER, BOUGH_LINGER_S="1.5")
    said(second)
    second.wait()
    left_at = time.monotonic()
    await until(lambda: server_is_gone(home))
    assert time.monotonic() - left_at > 1.4


async def test_kill_9_of_the_guardian_hurts_nobody_and_the_next_start_brings_another(
    home: Path, user: Start
):
    first = user(BOUGH_LINGER_S="0")
    answer = said(first)
    killed = guardian_pid(home)
    os.kill(killed, signal.SIGKILL)
    await until(lambda: killed not in processes_of(home))
    assert embedded.status(home).running
    second = user(BOUGH_LINGER_S="0")
    assert said(second) == answer
    assert guardian_pid(home) != killed
    first.kill()
    second.kill()
    await until(lambda: processes_of(home) == [])


async def test_programs_and_forks_of_a_user_do_not_count_as_users(home: Path, user: Start):
    heirs = (
        "import os, subprocess\n"
        "heir = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL)\n"
        "fork = os.fork()\n"
        "if fork == 0: import time; os.close(1); time.sleep(60)\n"
        "print(heir.pid, fork, flush=True)\n"
    )
    process = user(USER + heirs + STAY, BOUGH_LINGER_S="0")
    said(process)
    pids = [int(pid) for pid in said(process).split()]
    process.kill()
    try:
        await until(lambda: processes_of(home) == [])
        assert all(proc(pid).exists() for pid in pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


async def test_a_start_during_the_stop_waits_and_gets_a_working_server(home: Path, user: Start):
    for _ in range(3):
        first = user(USER, BOUGH_LINGER_S="0")
        said(first)
        first.wait()
        second = user(BOUGH_LINGER_S="0")
        assert "dbname=bough" in said(second)
        assert embedded.status(home).running
        second.kill()
        second.wait()
