"""One running program, with everything that it starts.

`start` runs a command under a keeper (see `keeper`) and reads its output. Guaranteed: `wait`
returns only when no descendant of the program is left and all of its output has been handed over;
when this process dies, in whatever way, the program and its descendants are killed within moments.
A program that waits for input gets end of file.

When things break: an `output` that raises stops the program, and `wait` raises the same error. A
keeper that is killed takes its program with it (reason "keeper_lost", exit status unknown).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bough.runner.programs.executable import (
    CannotStartError,
    DirectoryMissing,
    ProgramNotExecutable,
    ProgramNotFound,
    find,
    refusal,
)
from bough.runner.programs.handover import Handover
from bough.runner.programs.output import Output, pump
from bough.runner.programs.strays import Identity, StraysLeftError, boot_id, kill_strays

__all__ = [
    "CannotStartError",
    "DirectoryMissing",
    "Exit",
    "Identity",
    "Output",
    "Program",
    "ProgramNotExecutable",
    "ProgramNotFound",
    "StraysLeftError",
    "kill_strays",
    "start",
]

MARKER = "BOUGH_AGENT_ID"

_KEEPER_LOST = "the keeper was killed before the program ran; start it again"


_log = logging.getLogger(__name__)
_nursery = Handover()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended: `code` or `signal`, both None when nobody could see it.

    `reason` is "exited", "deadline", "keeper_lost" or the reason given to `stop`, whichever came
    first. `duration_s` runs from the start to the end of the program itself, pauses included.
    """

    code: int | None
    signal: int | None
    reason: str
    duration_s: float


class Program:
    """A running program and everything that it started. Made by `start`."""

    pid: int
    identity: Identity

    def __init__(self, control: socket.socket, marker: str | None) -> None:
        loop = asyncio.get_running_loop()
        self._control = control
        self._marker = marker
        self._heard = b""
        self._begun = loop.time()
        self._started: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._ended: dict[str, Any] | None = None
        self._gone: asyncio.Future[None] = loop.create_future()
        self._hunt: asyncio.Task[None] | None = None
        self._reason: str | None = None
        self._readings: list[asyncio.Task[None]] = []
        self._exit: asyncio.Task[Exit] | None = None

    async def wait(self) -> Exit:
        """Wait until no descendant is left and the output is handed over; cancelling is harmless.

        Raises what `output` raised, if it did, and StraysLeftError when somebody killed keeper and
        nursery and then something below the program could not be ended.
        """
        if self._exit is None:
            self._exit = asyncio.create_task(self._finish())
        return await asyncio.shield(self._exit)

    async def stop(self, *, grace_s: float = 5.0, reason: str = "stopped") -> None:
        """Send SIGTERM to every descendant, SIGKILL after `grace_s` seconds; return when all ended.

        The first reason given stands. Nothing happens to a program that has ended by itself.
        """
        if not grace_s >= 0:
            raise ValueError(f"grace_s is {grace_s}; give seconds, 0 or more")
        if self._reason is None:
            self._reason = reason
        self._tell(f"stop {grace_s}")
        await asyncio.shield(self._gone)

    def pause(self) -> None:
        """Stop every descendant (SIGSTOP), in a moment; the deadline's clock stands still too."""
        self._tell("pause")

    def resume(self) -> None:
        """Let a paused program go on (SIGCONT)."""
        self._tell("resume")

    async def begin(
        self,
        request: bytes,
        pipes: Mapping[str, int],
        output: Output,
        refusal: Callable[[str, int], CannotStartError],
    ) -> None:
        """Send the request to the keeper and wait until the program runs; for `start` only."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._control, request)
            loop.add_reader(self._control, self._listen)
            answer = await self._started
            if answer["event"] == "failed":
                raise refusal(answer["step"], answer["errno"])
        except BaseException as error:
            # The end of file makes the keeper kill whatever it may have started.
            self._hang_up()
            for fd in pipes.values():
                os.close(fd)
            if isinstance(error, BrokenPipeError | ConnectionResetError):
                raise CannotStartError(_KEEPER_LOST) from error
            raise
        self.pid = answer["pid"]
        self.identity = Identity(self.pid, answer["started"], boot_id())
        for stream, fd in pipes.items():
            reading = asyncio.create_task(pump(stream, fd, output, self._gone))
            reading.add_done_callback(self._stop_on_failure)
            self._readings.append(reading)

    def _stop_on_failure(self, reading: asyncio.Task[None]) -> None:
        if reading.cancelled() or reading.exception() is None:
            return
        self._tell("stop 1")

    def _tell(self, command: str) -> None:
        if self._gone.done() or self._control.fileno() < 0:
            return
        try:
            self._control.send(command.encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            _log.debug("keeper of %d has gone", self.pid, extra={"event": "program.keeper_gone"})

    def _listen(self) -> None:
        try:
            heard = self._control.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            heard = b""
        self._heard += heard
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        if not heard and self._control.fileno() >= 0:
            self._hang_up()
            self._lose()

    def _take(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "started":
                self._started.set_result(said)
            case "failed":
                self._hang_up()
                self._started.set_result(said)
            case "ended":
                self._ended = said
            case _:  # "gone" from the keeper or "lost" from the nursery: nothing is left
                self._hang_up()
                if self._started.done():
                    self._gone.set_result(None)
                else:
                    self._started.set_exception(CannotStartError(_KEEPER_LOST))

    def _lose(self) -> None:
        """Both guards were killed: what they guarded has to be hunted for."""
        if self._started.done():
            self._hunt = asyncio.create_task(self._hunt_strays())
        else:
            self._started.set_exception(CannotStartError(_KEEPER_LOST))

    async def _hunt_strays(self) -> None:
        try:
            await kill_strays(self.identity, self._marker)
        except StraysLeftError as error:
            self._gone.set_exception(error)
        else:
            self._gone.set_result(None)

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()

    async def _finish(self) -> Exit:
        await self._gone
        await asyncio.wait(self._readings)
        for reading in self._readings:
            reading.result()
        if self._ended is None:
            duration_s = asyncio.get_running_loop().time() - self._begun
            return Exit(None, None, "keeper_lost", duration_s)
        why = self._ended["why"]
        reason = self._reason or "stopped" if why == "stopped" else why
        return Exit(self._ended["code"], self._ended["signal"], reason, self._ended["duration_s"])


async def start(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: Output,
    deadline_s: float | None = None,
) -> Program:
    """Start a program in `cwd` with exactly the environment `env`; returns when it runs.

    Its standard input is empty, its output goes to `output` as it comes. After `deadline_s` seconds
    of run time (pauses not counted) it is stopped. Raises ProgramNotFound, ProgramNotExecutable,
    DirectoryMissing or another CannotStartError, and ValueError for a deadline that is not above 0.
    """
    if deadline_s is not None and not deadline_s > 0:
        raise ValueError(f"deadline_s is {deadline_s}; give seconds above 0, or None for none")
    file, request = _request(argv, cwd, env, deadline_s)
    try:
        control, pipes = await _nursery.find_keeper()
    except OSError as error:
        raise CannotStartError(
            f"cannot run {argv[0]!r}: {error.strerror}; run fewer programs at once"
        ) from error
    marker = f"{MARKER}={env[MARKER]}" if MARKER in env else None
    program = Program(control, marker)
    await program.begin(request, pipes, output, partial(refusal, argv[0], file, cwd))
    return program


def _request(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], deadline_s: float | None
) -> tuple[str, bytes]:
    """Return the file to run and the line that asks a keeper for it."""
    # The keeper is somewhere else.
    cwd = cwd.absolute()
    file = find(argv, cwd, env)
    request = {
        "executable": file,
        "argv": list(argv),
        "env": dict(env),
        "cwd": str(cwd),
        "deadline_s": deadline_s,
    }
    return file, json.dumps(request).encode() + b"\n"
