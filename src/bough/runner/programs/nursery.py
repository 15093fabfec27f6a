"""The nursery: one process per runner that forks a keeper for every program.

Forking this small process takes about two milliseconds, a new interpreter ten times as long. And it
is a child subreaper with no other children than keepers, so when a keeper is killed, whatever it
kept becomes the nursery's child: it kills exactly those and says "lost" in the keeper's place.

When things break: the runner dies, the request socket ends, the keepers end what they keep and
the nursery leaves last. The nursery is killed: keepers go on unharmed and the runner's next program
brings a new nursery (see `handover`). Nursery and keeper both killed: the runner sees its control
socket end and hunts for strays. Standard library only: it runs without site-packages, so the
packages `bough` and `bough.runner` import nothing by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import signal
import socket
import traceback
from pathlib import Path

from bough.runner.programs.keeper import IGNORED, KILL_AGAIN_S, Keeper, Watch, reap, say
from bough.runner.programs.processes import LINUX, below, processes, send

_PR_SET_CHILD_SUBREAPER = 36
REQUESTS_FD = 3


def _become_subreaper() -> None:
    if LINUX and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed; Linux 3.4 needed")


class _Nursery:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._watch = Watch(requests)
        self._listening = True
        self._keepers: dict[int, socket.socket] = {}
        self._lost: list[socket.socket] = []

    def run(self) -> None:
        """Fork a keeper for each request; return when the runner and all keepers have gone."""
        while True:
            self._take_the_ended()
            self._clean_up_after_the_lost()
            if not (self._listening or self._keepers or self._lost):
                return
            if self._watch.channel_is_ready(KILL_AGAIN_S if self._lost else math.inf):
                self._take_a_request()

    def _take_the_ended(self) -> None:
        for pid, status in reap()[0]:
            control = self._keepers.pop(pid, None)
            if control is None:
                continue
            if status == 0:
                control.close()
            else:
                self._lost.append(control)

    def _clean_up_after_the_lost(self) -> None:
        if not self._lost:
            return
        orphans = below(os.getpid(), processes(), but=self._keepers)
        for orphan in orphans:
            send(orphan, signal.SIGKILL)
        while self._lost and not orphans:
            control = self._lost.pop()
            say(control, "lost")
            control.close()

    def _take_a_request(self) -> None:
        asked, fds, _, _ = socket.recv_fds(self._requests, 1, 3)
        if not asked:
            self._listening = False
            self._watch.forget_channel()
        elif len(fds) == 3:
            for fd in fds:
                # A program that inherited one would keep the runner from seeing its end of file.
                os.set_inheritable(fd, False)
            self._fork_keeper(*fds)
        else:
            # Out of descriptors: closing what came tells the runner by its end of file.
            for fd in fds:
                os.close(fd)

    def _fork_keeper(self, control_fd: int, out: int, err: int) -> None:
        control = socket.socket(fileno=control_fd)
        pid = os.fork()
        if pid != 0:
            os.close(out)
            os.close(err)
            self._keepers[pid] = control
            return
        status = 1
        try:
            # An end of somebody else's socket kept here would hide its end of file.
            for other in (self._requests, self._watch, *self._keepers.values(), *self._lost):
                other.close()
            _become_subreaper()
            Keeper(control).run(out, err)
            status = 0
        except BaseException:  # noqa: BLE001 - a fork must never fall back into the nursery's loop
            traceback.print_exc()
        os._exit(status)


def main() -> None:
    """Be the nursery; the request socket is descriptor 3."""
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    # What the runner itself was started with is no business of the programs.
    for entry in list(Path("/proc/self/fd" if LINUX else "/dev/fd").iterdir()):
        if int(entry.name) > REQUESTS_FD:
            with contextlib.suppress(OSError):
                os.close(int(entry.name))
    os.set_inheritable(REQUESTS_FD, False)
    os.chdir("/")
    _become_subreaper()
    gc.freeze()
    _Nursery(socket.socket(fileno=REQUESTS_FD)).run()
