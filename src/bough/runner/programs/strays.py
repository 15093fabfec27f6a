"""Strays: what an earlier, killed runner left running, found again and ended.

A runner records the identity of each program it starts, and gives each a marker in its environment.
Guaranteed: a process that merely got a recorded number is never touched. Not found is a process
that left the session of its program, cleared its environment and lost all its guards at once; only
a sandbox with its own process namespace holds such a one.

When things break: what still lives after the time-out is named in the error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bough.runner.programs.processes import LINUX, Process, below, processes, send

_AGAIN_S = 0.01

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process this is, for ever: a number alone comes back after a while."""

    pid: int
    started: str
    boot_id: str


class StraysLeftError(Exception):
    """Processes of an earlier run could not be ended."""


def boot_id() -> str:
    """Name this boot of the machine: start times of another boot mean nothing."""
    if LINUX:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def kill_strays(
    identity: Identity | None, marker: str | None, *, timeout_s: float = 5.0
) -> list[int]:
    """Kill what an earlier, killed runner left of one program, and say which processes it was.

    Call it before the program is started again. Taken are: the session of `identity`, if that very
    process still lives (same number, start time and boot); every process whose environment at its
    start held `marker`, a whole `NAME=value`; and all their descendants. Never this process or its
    ancestors. Raises StraysLeftError when some still live after `timeout_s` seconds.
    """
    return await asyncio.to_thread(_kill_strays, identity, marker, timeout_s)


def _kill_strays(identity: Identity | None, marker: str | None, timeout_s: float) -> list[int]:
    killed: set[int] = set()
    until = time.monotonic() + timeout_s
    while strays := _strays(identity, marker):
        if time.monotonic() > until:
            pids = ", ".join(str(stray.pid) for stray in strays)
            raise StraysLeftError(
                f"{len(strays)} processes of an earlier run still live after {timeout_s:g} s "
                f"(pids {pids}); end them as their owner or restart the machine"
            )
        for stray in strays:
            send(stray, signal.SIGKILL)
            killed.add(stray.pid)
        # They are not our children: no event tells when they are gone, and it takes about 1 ms.
        time.sleep(_AGAIN_S)
    if killed:
        _log.warning(
            "killed %d stray processes", len(killed), extra={"event": "program.strays_killed"}
        )
    return sorted(killed)


def _strays(identity: Identity | None, marker: str | None) -> list[Process]:
    table = {entry.pid: entry for entry in processes()}
    spared = {os.getpid()}
    parent = table.get(os.getpid())
    while parent is not None and parent.parent not in spared:
        spared.add(parent.parent)
        parent = table.get(parent.parent)
    leader = table.get(identity.pid) if identity is not None else None
    known = (
        identity is not None
        and leader is not None
        and (leader.started, boot_id()) == (identity.started, identity.boot_id)
    )
    tops = [
        entry
        for entry in table.values()
        if (known and identity is not None and entry.session == identity.pid)
        or (marker is not None and _started_with(entry.pid, marker))
    ]
    found = {entry.pid: entry for entry in tops}
    for top in tops:
        found.update({entry.pid: entry for entry in below(top.pid, table.values())})
    return [p for p in found.values() if p.pid not in spared and p.state not in ("Z", "X")]


def _started_with(pid: int, marker: str) -> bool:
    if not LINUX:
        command = ["/bin/ps", "-wwE", "-o", "command=", "-p", str(pid)]
        words = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return marker in words.split()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return os.fsencode(marker) in environment.split(b"\0")
