"""Homes for tests of the embedded PostgreSQL: in a public place, stopped and removed afterwards.

Not pytest's tmp_path: for root that is a directory which the server's account cannot enter. One
home is initialised per run and copied, because initdb would be most of the time of every test.
When a test dies half-way its server is still stopped by the fixture.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest

from bough.client import embedded, guardian

SRC = Path(embedded.__file__).parents[2]
USER = """
import asyncio, sys
from pathlib import Path
from bough.client import embedded
server = asyncio.run(embedded.start(Path(sys.argv[1])))
print(server.pid, server.dsn, flush=True)
"""
STAY = "sys.stdin.read()\n"


def _roomy_place() -> str | None:
    # Memory makes the thirteen hundred files of a data directory six times faster than a disk.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2_000_000_000
    return str(memory) if roomy else None


@pytest.fixture(scope="session")
def place() -> Generator[Path]:
    path = Path(tempfile.mkdtemp(prefix="bough-test-", dir=_roomy_place()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def empty_home(place: Path) -> AsyncGenerator[Path]:
    path = new_home(place)
    yield path
    await embedded.stop(path)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
async def initialised(place: Path) -> Path:
    path = place / "initialised"
    await embedded.start(path)
    await embedded.stop(path)
    return path


@pytest.fixture
def home(initialised: Path, empty_home: Path) -> Path:
    subprocess.run(["cp", "-a", f"{initialised}/postgres", empty_home], check=True)
    return empty_home


@pytest.fixture
def user(empty_home: Path) -> Generator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a process that uses the server until its input ends."""
    started: list[subprocess.Popen[str]] = []

    def begin(script: str = USER + STAY, home: Path = empty_home, **env: str):
        process = subprocess.Popen(
            [sys.executable, "-c", script, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SRC), **env},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def new_home(place: Path) -> Path:
    path = Path(tempfile.mkdtemp(dir=place))
    path.chmod(0o755)
    return path


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def proc(*parts: object) -> Path:
    """A file below /proc."""
    return Path("/proc").joinpath(*map(str, parts))


def said(process: "subprocess.Popen[str]") -> str:
    """The next line that a user process prints."""
    assert process.stdout
    return process.stdout.readline().strip()


async def until(condition: Callable[[], object], within_s: float = 20) -> None:
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at, "the condition did not come true"
        await asyncio.sleep(0.01)


def processes_of(home: Path, marks: tuple[bytes, ...] = (b"postgres", b"guardian.py")) -> list[int]:
    """The pids of all postmasters and guardians of a home, as /proc shows them."""
    found: list[int] = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        homes = {os.fsencode(home), os.fsencode(home / "postgres")}
        if homes & set(command) and any(mark in b" ".join(command[:4]) for mark in marks):
            found.append(int(directory.name))
    return found


def guardian_pid(home: Path) -> int:
    (pid,) = processes_of(home, (b"guardian.py",))
    return pid


def is_blocked(pid: int) -> bool:
    """Whether a process sleeps in flock, as /proc/locks shows it."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)


def server_is_gone(home: Path) -> bool:
    return guardian.postmaster_pid(home / "postgres") is None
