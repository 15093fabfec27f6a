"""A command that runs beside the test: its output as it comes, and waits that have a bound."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUND_S = 20.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition gives something true, and return that."""
    end = time.monotonic() + BOUND_S
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {BOUND_S:g} s: {what}"
        time.sleep(0.01)
    return found


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class Live:
    """A command that runs; its output is read as it comes."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._text = {"out": b"", "err": b""}
        streams = (("out", self.process.stdout), ("err", self.process.stderr))
        self._readers = [threading.Thread(target=self._read, args=pair) for pair in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        while chunk := stream.read1(65536):
            self._text[name] += chunk

    def text(self, name: str) -> str:
        return self._text[name].decode("utf-8", "replace")

    def says(self, text: str, *, on: str = "out") -> str:
        until(lambda: text in self.text(on) or self.process.poll() is not None, f"{text!r}")
        assert text in self.text(on), (self.text("out"), self.text("err"))
        return self.text(on)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self) -> Done:
        # Its output ends with it, and an end of file is noticed at once; `wait` looks every 50 ms.
        for reader in self._readers:
            reader.join(BOUND_S)
        code = self.process.wait(BOUND_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return Done(code, self.text("out"), self.text("err"))

    def close(self) -> None:
        """End it if it still runs; a stopped one is let go on first."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        if self.process.stdin and not self.process.stdin.closed:
            self.ends()
