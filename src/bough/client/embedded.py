"""The PostgreSQL that needs no set-up: a private server in the user's data directory.

`start` gives every bough process of one home the same server and starts it when it is down. The
process counts as a user until it ends, and a guardian process (`guardian.py`, which also tells the
protocol of the locks) stops the server when there has been no user for BOUGH_LINGER_S seconds
(default 900). A server lives on when its starter or its guardian is killed.

Guarantees: one server per home, whatever starts at once; what was committed survives kill -9 and
power cuts; the server listens on a unix socket that only its own account and root can reach. A
running server is recognised by its pid file saying "ready" and its socket answering, so a stale
pid file fools nobody, and a `start` that finds one starts no program.

When it breaks it raises EmbeddedError, one line that says what to do; PostgreSQL's own words are
in `<home>/postgres.log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

from bough.client import guardian, postgres_files, postgres_launch
from bough.client.guardian import DATA, open_lock, try_lock
from bough.client.postgres_launch import pause
from bough.client.postgres_programs import EmbeddedError

__all__ = ["EmbeddedError", "EmbeddedServer", "default_home", "start", "status", "stop"]

_log = logging.getLogger(__name__)
# One shared lock per home, kept open on purpose until the process ends.
_users: dict[Path, int] = {}


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """What is known about the server of one data directory.

    `dsn` is where the server answers, or would; `version` ("18.6") is that of the last start and
    None before the first; `pid` is None unless `running`, which means: accepts connections.
    """

    data_dir: Path
    running: bool
    pid: int | None
    version: str | None
    dsn: str


def default_home() -> Path:
    """BOUGH_HOME, else /var/lib/bough for root, else the user's data directory.

    Root's own home is of no use: the account the server runs as cannot enter it.
    """
    if chosen := os.environ.get("BOUGH_HOME"):
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/bough")
    from platformdirs import user_data_dir

    return Path(user_data_dir("bough"))


async def start(home: Path | None = None, *, timeout_s: float = 60) -> EmbeddedServer:
    """Return the running server of `home`, started if need be, with its database `bough`.

    From now until it ends, this process keeps the server from being stopped for want of users.
    Raises EmbeddedError, also when the server is not ready within `timeout_s`; it may then still
    be recovering, and another call goes on waiting.
    """
    home = _resolved(home)
    with _one_line(home):
        server = _warm(home)
        return server or await _cold(home, time.monotonic() + timeout_s)


async def stop(home: Path | None = None, *, timeout_s: float = 30) -> bool:
    """Stop the server of `home` and its guardian; True when a server was stopped.

    Sessions are cut and their transactions rolled back, also those of other processes. Raises
    EmbeddedError when it has not stopped within `timeout_s`.
    """
    home = _resolved(home)
    deadline = time.monotonic() + timeout_s
    with _one_line(home):
        if not (home / DATA).exists():
            return False
        async with _start_lock(home, deadline):
            if (held := _users.pop(home, None)) is not None:
                os.close(held)
            await postgres_launch.end_guardian(home, deadline)
            pid = guardian.postmaster_pid(home / DATA)
            if pid is None:
                return False
            while guardian.is_postmaster(pid, home / DATA):
                guardian.ask_to_stop(pid)
                await pause(deadline, f"PostgreSQL (pid {pid}) has not stopped in {timeout_s} s")
    _log.info("PostgreSQL stopped in %s", home, extra={"event": "postgres.stopped"})
    return True


def status(home: Path | None = None) -> EmbeddedServer:
    """What is known about the server of `home`; starts, writes and locks nothing."""
    home = _resolved(home)
    with _one_line(home):
        version = None
        with contextlib.suppress(FileNotFoundError):
            version = (home / postgres_launch.VERSION).read_text().strip()
        pid, sockets = _answering(home)
        sockets = sockets or str(postgres_files.socket_dir(home))
        return EmbeddedServer(
            data_dir=home / DATA,
            running=pid is not None,
            pid=pid,
            version=version,
            dsn=f"host={sockets} port=5432 user=bough dbname=bough",
        )


def _resolved(home: Path | None) -> Path:
    return (default_home() if home is None else home).expanduser().resolve()


@contextlib.contextmanager
def _one_line(home: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or home
        raise EmbeddedError(
            f"the embedded PostgreSQL in {home} cannot be used: {error.strerror or error}"
            f" ({where}). Make it writable or free some space, or set BOUGH_HOME"
        ) from error


def _answering(home: Path) -> tuple[int | None, str | None]:
    """The pid of the postmaster and its socket directory, or (None, None)."""
    try:
        lines = (home / DATA / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None, None
    # Line 5 is the socket directory; line 8 is written when recovery is over.
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None, None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(f"{lines[4]}/{postgres_launch.SOCKET}")
        except (BlockingIOError, TimeoutError):
            pass  # A full queue is proof that somebody listens.
        except (FileNotFoundError, ConnectionRefusedError):
            return None, None
    return int(lines[0]), lines[4]


def _warm(home: Path) -> EmbeddedServer | None:
    if not _become_user(home):
        return None
    server = status(home)
    if not server.running:
        return None
    postgres_launch.shorten_log(home)
    postgres_launch.have_guardian(home)
    return server


def _make_home(home: Path) -> None:
    if not home.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        # Root's server runs as somebody else, who must get in; the data directory itself is 0700.
        home.chmod(0o755 if os.geteuid() == 0 else 0o700)


async def _cold(home: Path, deadline: float) -> EmbeddedServer:
    _make_home(home)
    while not _become_user(home):
        await pause(deadline, f"the server in {home} is still being stopped: try again")
    async with _start_lock(home, deadline) as lock_fd:
        if (server := _warm(home)) is None:
            await postgres_launch.bring_up(
                home,
                is_ready=lambda: _answering(home)[0] is not None,
                lock_fd=lock_fd,
                deadline=deadline,
            )
            server = _warm(home)
    if server is None:
        raise EmbeddedError(f"the server in {home} stopped as soon as it had started: try again")
    return server


@contextlib.asynccontextmanager
async def _start_lock(home: Path, deadline: float) -> AsyncGenerator[int]:
    lock = open_lock(home / guardian.START_LOCK)
    try:
        while not try_lock(lock, fcntl.LOCK_EX):
            await pause(
                deadline,
                f"another process has been starting or stopping the server in {home} all the time:"
                f" look at what holds {guardian.START_LOCK} there, and try again",
            )
        yield lock
    finally:
        os.close(lock)


def _become_user(home: Path) -> bool:
    """Hold the shared lock of `home`; False while a guardian is stopping the server."""
    path = home / guardian.USERS_LOCK
    held = _users.get(home)
    try:
        if held is not None:
            if os.path.samestat(os.fstat(held), path.stat()):
                return True
            os.close(_users.pop(home))
        fd = open_lock(path)
    except FileNotFoundError:
        return False
    if not try_lock(fd, fcntl.LOCK_SH):
        os.close(fd)
        return False
    os.utime(fd)
    _users[home] = fd
    return True


def _forget_users() -> None:
    while _users:
        os.close(_users.popitem()[1])


# A forked child shares its parent's lock and could outlive it without using the server.
os.register_at_fork(after_in_child=_forget_users)
