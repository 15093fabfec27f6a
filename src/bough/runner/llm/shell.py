"""The tool shell: one command in the worktree, bounded in time and output, ended whole.

Guarantees: when the tool returns, the command's process group is gone, whatever it left in the
background; it gets end-of-file for input; its beginning and its end are kept of a long output. A
daemon that left the group lives until the agent ends. Keys of providers are not in its environment.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import Field

from bough.runner.llm.tool import Arguments, Gave, Tool

_USUAL_S = 120
_LONGEST_S = 1_800
_GRACE_S = 2.0
_MOST_CHARS = 30_000
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; code None: its time was up."""

    code: int | None
    text: str


class _Kept:
    """The head and the tail of a stream of bytes."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head = b""
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._all = 0

    def add(self, data: bytes) -> None:
        """Take in what came."""
        self._all += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        rest = data[room:] if room < len(data) else b""
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._half:
            self._tail_size -= len(self._tail.popleft())

    def text(self) -> str:
        """What is kept, with what was left out counted."""
        tail = b"".join(self._tail)[-self._half :]
        left_out = self._all - len(self._head) - len(tail)
        parts = [self._head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")]
        gap = f"\n[… {left_out} bytes are left out …]\n" if left_out else ""
        return gap.join(parts)


async def bounded_run(
    argv: Sequence[str],
    directory: Path,
    *,
    time_s: float,
    most_chars: int = _MOST_CHARS,
    env: Mapping[str, str] | None = None,
) -> Ran:
    """Run a command to its end or for time_s seconds; stdout and stderr as they came."""
    mine, its = os.pipe()
    kept = _Kept(most_chars)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=directory,
            env=None if env is None else dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
    except BaseException:
        os.close(mine)
        raise
    finally:
        os.close(its)
    reading = asyncio.create_task(_read(mine, kept))
    code: int | None = None
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_s):
                code = await process.wait()
        if code is None:
            await _ask_to_end(process)
    finally:
        _signal(process.pid, signal.SIGKILL)
        # Whoever left the group may hold the pipe for ever.
        await asyncio.wait({reading}, timeout=_GRACE_S)
        reading.cancel()
        await asyncio.wait({reading})
    await process.wait()
    return Ran(code, kept.text())


async def _read(descriptor: int, kept: _Kept) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        while data := await reader.read(_CHUNK):
            kept.add(data)
    finally:
        transport.close()


async def _ask_to_end(process: asyncio.subprocess.Process) -> None:
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_S):
            await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    # The group can out-live its leader, whose pid is not given anew while it does.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class Shell(Arguments):
    """Arguments of shell."""

    command: Annotated[str, Field(description="For bash, in the worktree.", min_length=1)]
    seconds: Annotated[int, Field(description="Stop it after so long.", ge=1, le=_LONGEST_S)] = (
        _USUAL_S
    )


class Shells:
    """Runs commands in one worktree."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self._root = root
        self._env = env
        self._shell = shutil.which("bash") or "/bin/sh"

    async def shell(self, told: Shell, key: UUID) -> Gave:
        """A command's exit code and output."""
        del key
        argv = [self._shell, "-c", told.command]
        ran = await bounded_run(argv, self._root, time_s=told.seconds, env=self._env)
        if ran.code is None:
            how = f"stopped after {told.seconds} s, its time was up"
        else:
            how = f"exit code {ran.code}" if ran.code >= 0 else f"ended by signal {-ran.code}"
        return Gave(f"[{how}]\n{ran.text}".rstrip())

    def tools(self) -> list[Tool]:
        """The tool."""
        text = (
            "Run a command in the worktree; long output is cut in the middle. Nothing that"
            " it starts in the background stays. There is no input: give options like --yes."
        )
        return [
            Tool(name="shell", text=text, arguments=Shell, act=self.shell, needs="shell",
                 changes=True),
        ]  # fmt: skip
