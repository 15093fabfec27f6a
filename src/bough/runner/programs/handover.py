"""Handing a program to a keeper: the runner's end of the nursery.

The nursery is started with the first program and lives as long as this process. Guaranteed: a
keeper is given out only after it has answered, so a request is never lost and never run twice.

When things break: a nursery that was killed is replaced at the next program; running programs do
not notice. Out of descriptors or processes: OSError. No keeper answers: CannotStartError.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

from bough.runner.programs.executable import CannotStartError
from bough.runner.programs.nursery import REQUESTS_FD

_TRIES = 3
_ANSWER_S = 30.0


class Handover:
    """The nursery of this process; there is one."""

    def __init__(self) -> None:
        self._pid = 0
        self._requests: socket.socket | None = None

    async def find_keeper(self) -> tuple[socket.socket, dict[str, int]]:
        """Return a keeper's control socket, and what it will write to: stream to pipe to read."""
        for _ in range(_TRIES):
            with contextlib.ExitStack() as near:
                control, pipes = self._plumb(near)
                # A nursery that has just been killed still takes requests. No keeper has answered
                # and nothing has been run, so another one may be asked.
                with contextlib.suppress(ConnectionResetError):
                    if await _answer(control):
                        near.pop_all()
                        return control, pipes
        raise CannotStartError(f"no keeper could be started in {_TRIES} tries; who kills them?")

    def _plumb(self, near: contextlib.ExitStack) -> tuple[socket.socket, dict[str, int]]:
        """Make the control socket and the pipes, and hand their far ends over."""
        with contextlib.ExitStack() as far:
            control, its = socket.socketpair()
            near.enter_context(control)
            far.enter_context(its)
            control.setblocking(False)
            pipes: dict[str, int] = {}
            ends: list[int] = []
            for stream in ("stdout", "stderr"):
                pipes[stream], end = os.pipe()
                near.callback(os.close, pipes[stream])
                far.callback(os.close, end)
                os.set_blocking(pipes[stream], False)
                ends.append(end)
            self._hand_over([its.fileno(), *ends])
        return control, pipes

    def _hand_over(self, fds: list[int]) -> None:
        if self._requests is not None:
            try:
                socket.send_fds(self._requests, [b"+"], fds)
            except (BrokenPipeError, ConnectionResetError):
                self._requests.close()
                os.waitpid(self._pid, 0)
            else:
                return
        self._requests = self._start()
        socket.send_fds(self._requests, [b"+"], fds)

    def _start(self) -> socket.socket:
        ours, its = socket.socketpair()
        packages = str(Path(__file__).parents[3])
        code = (
            f"import sys; sys.path.append({packages!r}); "
            "from bough.runner.programs.nursery import main; main()"
        )
        # Of the runner's environment only what the interpreter may need: the rest may hold keys,
        # and the marker of an agent.
        kept = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
        with its:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", code],
                kept,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, its.fileno(), REQUESTS_FD),
                ],
                setsid=True,
                setsigmask=[],
            )
        return ours


async def _answer(control: socket.socket) -> bytes:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await asyncio.get_running_loop().sock_recv(control, 1)
    except TimeoutError:
        raise CannotStartError(
            f"no keeper answered in {_ANSWER_S:g} s; is the machine overloaded or its nursery "
            "process stopped?"
        ) from None
