"""Starting one embedded PostgreSQL and its guardian as processes that outlive their starter.

Guarantees: at most one postmaster per data directory (callers hold `start.lock`, and PostgreSQL's
own interlocks are never removed); the server sees a clean environment; neither server nor
guardian is a child of the starter, so none becomes a zombie of a long-lived program.

When it breaks it raises EmbeddedError with the reason PostgreSQL gave in its log. A server whose
starter was killed goes on starting, and the next `bring_up` waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bough.client import guardian, postgres_files
from bough.client.guardian import DATA, GUARDIAN_LOCK, open_lock, try_lock
from bough.client.postgres_programs import (
    Account,
    EmbeddedError,
    Programs,
    account_for,
    can_enter,
    clean_environment,
    find_programs,
)

VERSION = "postgres.version"
SOCKET = ".s.PGSQL.5432"
_LOG_BYTES = 16_000_000
_LINGER_S = 900
_LONGEST_LINGER_S = 31_536_000
_POLL_S = 0.02
# Left by a killed server, and gone as soon as the last of its processes has noticed.
_PASSING = ("pre-existing shared memory block", "already exists")

_log = logging.getLogger(__name__)


async def pause(deadline: float, complaint: str) -> None:
    """Sleep for one poll, or raise EmbeddedError with the complaint when it is too late."""
    if time.monotonic() > deadline:
        raise EmbeddedError(complaint)
    await asyncio.sleep(_POLL_S)


async def bring_up(
    home: Path, *, is_ready: Callable[[], bool], lock_fd: int, deadline: float
) -> None:
    """Make what is missing of the server of `home`, start it and wait until it is ready."""
    data_dir = home / DATA
    _linger_s()  # A bad number refuses to start, rather than leave a server without a guardian.
    account = account_for(home)
    if not can_enter(home, account):
        raise EmbeddedError(
            f"PostgreSQL runs as user {account.name}, who cannot enter {home}: set BOUGH_HOME to a"
            " directory that every user may enter, such as /var/lib/bough"
        )
    programs = await asyncio.to_thread(find_programs, home, account)
    if not data_dir.exists():
        await postgres_files.make_data_dir(
            home, programs, account, lock_fd=lock_fd, timeout_s=deadline - time.monotonic()
        )
    postgres_files.check_data_dir(data_dir, programs)
    while True:
        pid = guardian.postmaster_pid(data_dir)
        log_start = _log_size(home)
        if pid is None:
            pid = _launch(home, programs, account)
        while guardian.is_postmaster(pid, data_dir):
            if is_ready():
                event = {"event": "postgres.started"}
                _log.info("PostgreSQL %s started in %s", programs.version, home, extra=event)
                return
            await pause(
                deadline,
                f"PostgreSQL (pid {pid}) in {home} is not ready yet, perhaps still recovering: try"
                f" again, and look into {home / postgres_files.LOG}",
            )
        why = _last_complaint(home, log_start)
        trouble = (
            f"PostgreSQL did not start in {home}: {why}. The whole story is in"
            f" {home / postgres_files.LOG}"
        )
        if not any(sign in why for sign in _PASSING):
            raise EmbeddedError(trouble)
        await pause(deadline, trouble)


def _launch(home: Path, programs: Programs, account: Account) -> int:
    data_dir = home / DATA
    sockets = postgres_files.make_socket_dir(home, account)
    postgres_files.write_settings(data_dir, sockets)
    postgres_files.replace_file(home / VERSION, programs.version + "\n")
    # PostgreSQL will not start while the pid in a stale pid file belongs to some living program,
    # unless that is its starter. Taking the file over in our name, instead of removing it, keeps
    # the check for surviving processes of the old server that the rest of the file is for.
    pid_file = data_dir / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        _, _, rest = pid_file.read_text().partition("\n")
        postgres_files.replace_file(pid_file, f"{os.getpid()}\n{rest}")
    for name in (SOCKET, f"{SOCKET}.lock"):
        (sockets / name).unlink(missing_ok=True)
    return _detach(
        [programs.bin_dir / "postgres", "-D", data_dir],
        home,
        account=account,
        environment={"PG_GRANDPARENT_PID": str(os.getpid())},
    )


def have_guardian(home: Path) -> None:
    """Start a guardian for `home` unless one is there.

    Raises EmbeddedError when BOUGH_LINGER_S is no number of seconds.
    """
    lock = open_lock(home / GUARDIAN_LOCK)
    try:
        if not try_lock(lock, fcntl.LOCK_EX):
            return
        os.ftruncate(lock, 0)
        python = [sys.executable, "-I", "-S", guardian.__file__]
        _detach([*python, home, str(_linger_s()), str(lock)], home, keep=(lock,))
    finally:
        os.close(lock)


async def end_guardian(home: Path, deadline: float) -> None:
    """End the guardian of `home`, if there is one, and wait until it is gone."""
    lock = open_lock(home / GUARDIAN_LOCK)
    try:
        while not try_lock(lock, fcntl.LOCK_EX):
            # Whoever holds the lock has written its pid, or is about to.
            if pid := os.pread(lock, 20, 0):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)
            await pause(deadline, f"the guardian of {home} does not end: kill the process {pid!r}")
    finally:
        os.close(lock)


def _linger_s() -> float:
    told = os.environ.get("BOUGH_LINGER_S", str(_LINGER_S))
    try:
        seconds = float(told)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LONGEST_LINGER_S:
        raise EmbeddedError(
            f"BOUGH_LINGER_S is {told!r}: set it to 0 … {_LONGEST_LINGER_S} seconds"
        )
    return seconds


def _detach(
    argv: list[str | Path],
    home: Path,
    *,
    account: Account | None = None,
    environment: dict[str, str] | None = None,
    keep: tuple[int, ...] = (),
) -> int:
    """Start a program as nobody's child, its output in the log of `home`; returns its pid."""
    log = os.open(
        home / postgres_files.LOG,
        os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
        0o600,
    )
    try:
        # The shell leaves at once; its own output is the pid, its background job's the log.
        shell = subprocess.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env={**clean_environment(), **(environment or {})},
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=account.groups if account else None,
            umask=0o077,
            start_new_session=True,
            pass_fds=keep,
            check=True,
        )
    finally:
        os.close(log)
    return int(shell.stdout)


def shorten_log(home: Path) -> None:
    """Keep the log below some 16 MB, with one older copy beside it; the server may be running."""
    log = home / postgres_files.LOG
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            shutil.copyfile(log, home / f"{postgres_files.LOG}.old")
            os.truncate(log, 0)


def _log_size(home: Path) -> int:
    try:
        return (home / postgres_files.LOG).stat().st_size
    except FileNotFoundError:
        return 0


def _last_complaint(home: Path, offset: int) -> str:
    with (home / postgres_files.LOG).open("rb") as file:
        file.seek(offset)
        lines = file.read(65536).decode(errors="replace").splitlines()
    severe = [line for line in lines if any(f" {word}: " in line for word in ("FATAL", "PANIC"))]
    # Without the time stamp and pid in front.
    return severe[-1].split("] ")[-1] if severe else (lines or ["it said nothing"])[-1]
