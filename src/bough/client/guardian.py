"""The guardian of one embedded PostgreSQL: a small process that stops the server nobody uses.

It is run by its path (`python -I -S guardian.py HOME LINGER_SECONDS LOCK_FD`), so it imports the
standard library only; `embedded.py` borrows from it what both must agree on: the names of the
lock files and how to tell the live postmaster of a data directory from a stale pid file.

The protocol is three flocks in HOME, which the operating system gives back however a process ends:
- `users.lock`, shared: held by every process that uses the server, for as long as it lives. Each
  new user also touches the file.
- `guardian.lock`, exclusive: held by the guardian and inherited from whoever started it, so that
  two starters never make two guardians. The file holds the guardian's pid.
- `start.lock`, exclusive: held while somebody makes, starts or stops the server on purpose.

The guardian sleeps in a blocking flock on `users.lock`. When it gets the lock there are no users;
it gives the lock back, lingers, and takes it again. If nobody touched the file in the meantime it
stops the server while it holds the lock, so a new user waits for the stop instead of losing a
server it was just given.

When the guardian is killed the server lives on, and the next `start` makes another guardian. When
the server dies first, the guardian leaves at the end of its linger time. Programs that connect
without having called `start` are not counted as users.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

DATA = "postgres"
USERS_LOCK = "users.lock"
GUARDIAN_LOCK = "guardian.lock"
START_LOCK = "start.lock"

_STOP_PATIENCE_S = 120
_POLL_S = 0.05


def open_lock(path: Path) -> int:
    """Open a lock file, made if missing, never inherited by programs; the caller closes it."""
    # A symlink planted in somebody else's directory must not make root create a file elsewhere.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(fd: int, operation: int) -> bool:
    """Take LOCK_SH or LOCK_EX at once, or say False because somebody else is in the way."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_postmaster(pid: int, data_dir: Path) -> bool:
    """Whether this process is, at this moment, the postmaster of this data directory.

    A pid alone proves nothing: after a crash or a reboot it may belong to any program. A zombie
    has no command line and counts as gone.
    """
    proc = Path("/proc")
    try:
        if (proc / "self").exists():
            command = (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ")
        else:  # macOS
            ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
            command = subprocess.run(ps, capture_output=True, check=False).stdout
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"/postgres -D " + os.fsencode(data_dir) + b" " in command.rstrip() + b" "


def postmaster_pid(data_dir: Path) -> int | None:
    """The pid of the live postmaster of a data directory, starting and stopping ones included."""
    try:
        first = (data_dir / "postmaster.pid").read_text().split("\n", 1)[0]
        pid = int(first)
    except (FileNotFoundError, ValueError):
        return None
    return pid if pid > 0 and is_postmaster(pid, data_dir) else None


def ask_to_stop(pid: int) -> None:
    """Ask a postmaster for its fast shutdown: sessions are cut, transactions roll back."""
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return


def _stop_server(data_dir: Path) -> None:
    pid = postmaster_pid(data_dir)
    give_up_at = time.monotonic() + _STOP_PATIENCE_S
    while pid and is_postmaster(pid, data_dir) and time.monotonic() < give_up_at:
        # Repeated, because a postmaster in its first milliseconds still ignores the signal.
        ask_to_stop(pid)
        time.sleep(_POLL_S)


def watch(home: Path, linger_s: float, lock_fd: int) -> None:
    """Wait until nobody has used the server of `home` for `linger_s` seconds, then stop it.

    `lock_fd` is the inherited, already exclusive, descriptor of `guardian.lock`.
    """
    os.set_inheritable(lock_fd, False)
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, str(os.getpid()).encode(), 0)
    users = open_lock(home / USERS_LOCK)
    fcntl.flock(users, fcntl.LOCK_EX)
    last_use = None
    # Compared for change only and never with a clock, which may jump.
    while last_use != (seen := os.fstat(users).st_mtime_ns):
        last_use = seen
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(linger_s)
        fcntl.flock(users, fcntl.LOCK_EX)
    # A home that was removed, and perhaps made anew, is no longer this guardian's business.
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(users), (home / USERS_LOCK).stat()):
            _stop_server(home / DATA)
    # In this order: a new user that gets in must find the guardian's place free.
    os.close(lock_fd)
    os.close(users)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
