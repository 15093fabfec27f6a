"""The process table: who is below whom, and signals that cannot hit the wrong process.

Guaranteed: a signal goes only to the process that was looked at (number and start time, through a
pidfd), so a reused number is never hit; a process that exists throughout a reading is in it. A
process that ends while it is read is simply absent. Linux reads /proc; macOS asks `ps`, where the
start time has a resolution of a second. Standard library only: the nursery runs without
site-packages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

LINUX = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table; `started` is in clock ticks since boot (Linux)."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: str


def process(pid: int) -> Process | None:
    """Read one process, a zombie too; None when it does not exist."""
    if not LINUX:
        return next((p for p in _processes_from_ps() if p.pid == pid), None)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may itself hold spaces and parentheses.
    field = stat.rpartition(")")[2].split()
    return Process(pid, int(field[1]), int(field[2]), int(field[3]), field[0], field[19])


def processes() -> list[Process]:
    """Read the process table; one that exists all through the call is never missed."""
    if not LINUX:
        return _processes_from_ps()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [found for pid in pids if (found := process(pid)) is not None]


def _processes_from_ps() -> list[Process]:
    command = ["/bin/ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,lstart="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(None, 4) for line in lines]
    return [Process(int(a), int(b), int(c), int(c), d[:1], e.strip()) for a, b, c, d, e in rows]


def below(root: int, table: Iterable[Process], *, but: Container[int] = ()) -> list[Process]:
    """Everything below `root`, parents first, zombies too, without the trees of `but`."""
    children: dict[int, list[Process]] = {}
    for entry in table:
        children.setdefault(entry.parent, []).append(entry)
    found: list[Process] = []
    parents = [root]
    for parent in parents:
        for child in children.get(parent, ()):
            if child.pid not in but:
                found.append(child)
                parents.append(child.pid)
    return found


def send(to: Process, signum: int) -> None:
    """Signal exactly this process: one that has its number but not its start time is left alone."""
    try:
        if not LINUX:
            os.kill(to.pid, signum)
            return
        handle = os.pidfd_open(to.pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        now = process(to.pid)
        if now is not None and now.started == to.started:
            signal.pidfd_send_signal(handle, signum)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(handle)
