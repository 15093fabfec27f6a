"""A keeper: one small process per program, so that nothing the program started survives it.

It starts the program in a session of its own, passes stop, pause and resume on, and when the
program has ended, or the runner has, kills everything that is left below it. It is a child
subreaper: whatever daemonises below it becomes its own child. Guaranteed on Linux: "gone" is said
only when the kernel says that no child is left (ECHILD), and the exit status is the kernel's.

When things break: the runner dies, the control socket ends, and the keeper kills its tree. The
keeper itself is killed: see `nursery`. A process that this user may not signal (setuid) is waited
for. On macOS there is no subreaper: what leaves the tree and the process group is found later, by
its marker only. Standard library only: it runs without site-packages.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import time
from types import FrameType
from typing import Any

from bough.runner.programs.processes import LINUX, Process, below, process, processes, send

DEADLINE_GRACE_S = 5.0
# A second look while killing: events alone suffice, this bounds the harm if one is ever missed.
KILL_AGAIN_S = 0.05
_LONGEST_WAIT_S = 86_400.0
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def reap() -> tuple[list[tuple[int, int]], bool]:
    """Take the (pid, wait status) of every child that has ended, and whether any is left."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended.append((pid, status))


def _wake_up(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing: that a handler exists makes the signal write to the wake-up descriptor."""


class Watch:
    """Waits for a socket and for the end of children, whichever comes first."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._poll.register(channel, select.POLLIN)

    def channel_is_ready(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` or a day; true when the channel can be read."""
        # poll takes at most 24 days; a wait that returns early does no harm.
        ms = math.ceil(min(max(timeout_s, 0), _LONGEST_WAIT_S) * 1000)
        ready = [fd for fd, _ in self._poll.poll(ms)]
        if self._read in ready:
            os.read(self._read, 65536)
        return self._channel.fileno() in ready

    def forget_channel(self) -> None:
        """Stop watching a channel whose other end is closed."""
        self._poll.unregister(self._channel)

    def close(self) -> None:
        """Give the descriptors back (in a forked child that makes its own)."""
        os.close(self._read)
        os.close(self._write)


def say(control: socket.socket, event: str, **values: object) -> None:
    """Tell the runner; one that has gone does not hear it, and its end of file is what counts."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.sendall(json.dumps({"event": event, **values}).encode() + b"\n")


class Keeper:
    """Keeps one program from its start until nothing below it is left."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._watch = Watch(control)
        self._heard = b""
        self._pid = 0
        self._ended = False
        self._why = "exited"
        self._begun = 0.0
        self._kill_at = math.inf
        self._deadline_at = math.inf
        self._left_s: float | None = None  # until the deadline, while paused

    def run(self, out: int, err: int) -> None:
        """Start what the first line asks for and return when nothing of it is left."""
        # Only a keeper that has answered gets a request, so no request is ever lost or run twice.
        self._control.sendall(b"\n")
        while b"\n" not in self._heard:
            heard = self._control.recv(65536)
            if not heard:
                return
            self._heard += heard
        request, _, self._heard = self._heard.partition(b"\n")
        if not self._start(json.loads(request), out, err):
            return
        while self._anything_is_left():
            now = time.monotonic()
            if now >= self._deadline_at:
                self._stop(DEADLINE_GRACE_S, "deadline")
            if now >= self._kill_at:
                for entry in self._tree():
                    send(entry, signal.SIGKILL)
                wait_s = KILL_AGAIN_S
            else:
                wait_s = min(self._kill_at, self._deadline_at) - now
            if self._watch.channel_is_ready(wait_s):
                self._listen()
        say(self._control, "gone")

    def _start(self, request: dict[str, Any], out: int, err: int) -> bool:
        step = "chdir"
        try:
            os.chdir(request["cwd"])
            step = "exec"
            self._begun = time.monotonic()
            self._pid = os.posix_spawn(
                request["executable"],
                request["argv"],
                request["env"],
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[*IGNORED, signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            say(self._control, "failed", step=step, errno=error.errno)
            return False
        finally:
            os.chdir("/")
            os.close(out)
            os.close(err)
        if request["deadline_s"] is not None:
            self._deadline_at = self._begun + request["deadline_s"]
        entry = process(self._pid)
        say(self._control, "started", pid=self._pid, started=entry.started if entry else "")
        return True

    def _anything_is_left(self) -> bool:
        ended, left = reap()
        for pid, status in ended:
            if pid != self._pid:
                continue
            self._ended = True
            if self._why == "exited":
                self._kill_at = -math.inf
            code = os.waitstatus_to_exitcode(status)
            say(
                self._control,
                "ended",
                code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                why=self._why,
                duration_s=time.monotonic() - self._begun,
            )
        return left or (not LINUX and bool(self._tree()))

    def _tree(self) -> list[Process]:
        table = processes()
        found = below(os.getpid(), table)
        if not LINUX:
            known = {entry.pid for entry in found}
            found += [p for p in table if p.group == self._pid and p.pid not in known]
        return found

    def _listen(self) -> None:
        try:
            heard = self._control.recv(65536)
        except ConnectionResetError:
            heard = b""
        if not heard:
            self._watch.forget_channel()
            self._kill_at = -math.inf
        self._heard += heard
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            word, _, value = line.decode().partition(" ")
            if word == "stop":
                self._stop(float(value), "stopped")
            elif word == "pause":
                self._pause()
            elif word == "resume":
                self._resume()

    def _stop(self, grace_s: float, why: str) -> None:
        first = self._why == "exited"
        if self._ended and first:
            return
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)
        if not first:
            return
        self._why = why
        # The group at once, so that a shell cannot go on to its next command in between.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGTERM)
        for entry in self._tree():
            if entry.group != self._pid:
                send(entry, signal.SIGTERM)
        self._resume()
        self._deadline_at = math.inf

    def _pause(self) -> None:
        if self._why != "exited" or self._left_s is not None:
            return
        self._left_s = self._deadline_at - time.monotonic()
        self._deadline_at = math.inf
        stopped: set[int] = set()
        # What is stopped cannot fork, so this ends.
        while new := [p for p in self._tree() if p.pid not in stopped]:
            for entry in new:
                send(entry, signal.SIGSTOP)
                stopped.add(entry.pid)

    def _resume(self) -> None:
        if self._left_s is None:
            return
        self._deadline_at = time.monotonic() + self._left_s
        self._left_s = None
        for entry in self._tree():
            send(entry, signal.SIGCONT)
