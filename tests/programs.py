"""Programs that misbehave, and ways to look at what becomes of them.

Nothing here replaces a part of ours: the programs, the runner and the process table are real. Every
wait has a bound, and a test that leaves a process behind fails in `nothing_is_left`.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bough.runner.programs import processes, program

PYTHON = [sys.executable, "-I", "-S", "-c"]
DAEMON = """
import os, sys, time
loop = "echo $$ >daemon.new; mv daemon.new daemon; while :; do sleep 1000; done"
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    env = {"PATH": "/usr/bin:/bin"} if "clear" in sys.argv else os.environ
    os.execve("/bin/sh", ["sh", "-c", loop], env)
while not os.path.exists("daemon"): time.sleep(0.001)
print("ready", flush=True)
if "stay" in sys.argv: time.sleep(1000)
"""
RUNNER = """
import asyncio, os, sys
from pathlib import Path
from bough.runner.programs import program
async def nowhere(stream, chunk): pass
async def main():
    argv = [sys.executable, "-I", "-S", "-c", sys.argv[1], "stay", "clear"]
    for place in sys.argv[2:]:
        running = await program.start(
            argv, cwd=Path(place), env=dict(os.environ), output=nowhere)
        print(running.pid, flush=True)
    await running.wait()
asyncio.run(main())
"""


class Taken:
    """An output that keeps everything and lets a test wait for a text."""

    def __init__(self) -> None:
        self.text = {"stdout": "", "stderr": ""}
        self._more = asyncio.Condition()

    async def __call__(self, stream: str, chunk: bytes) -> None:
        async with self._more:
            self.text[stream] += chunk.decode()
            self._more.notify_all()

    async def has(self, text: str) -> None:
        async with asyncio.timeout(10), self._more:
            await self._more.wait_for(lambda: text in self.text["stdout"])


async def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, f"not within 10 s: {what}"
        await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    found = processes.process(pid)
    return found is not None and found.state not in ("Z", "X")


def state(pid: int) -> str:
    found = processes.process(pid)
    return found.state if found else ""


def parent(pid: int) -> int:
    found = processes.process(pid)
    assert found is not None
    return found.parent


def descriptors(pid: int | str = "self") -> dict[str, Path]:
    """What each open descriptor of a process leads to."""
    names = [entry for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists()]
    return {entry.name: entry.readlink() for entry in names}


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **more}


async def start(
    argv: list[str], cwd: Path, taken: program.Output | None = None, **env: str
) -> program.Program:
    return await program.start(argv, cwd=cwd, env=environment(**env), output=taken or Taken())


async def end(running: program.Program) -> program.Exit:
    async with asyncio.timeout(15):
        return await running.wait()


async def nothing_is_left() -> None:
    """Fail unless all keepers and programs of this process end."""
    nurseries = [entry for entry in processes.processes() if entry.parent == os.getpid()]

    def only_nurseries_are_left() -> bool:
        table = processes.processes()
        return not [entry for one in nurseries for entry in processes.below(one.pid, table)]

    await until(only_nurseries_are_left, "no keeper and no program is left")
