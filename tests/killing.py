"""Runs one of our operations in a process that is killed with SIGKILL at its n-th git command.

PYTEST_DONT_REWRITE: imported as a module. The `git` on the victim's PATH counts its calls and, at
the chosen one, kills its parent before or after it does its work. It stands before the real git,
which does everything else.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from live import until

WHEN = ("before", "after")
# Two that start at once must not count as one: who makes the directory has its number.
_WRAPPER = """#!/bin/sh
n=1
until mkdir '{count}'/$n 2>/dev/null; do n=$((n + 1)); done
if [ $n -ne {number} ]; then
  '{git}' "$@"
  code=$?
  touch '{count}'/$n/ended
  exit $code
fi
[ {when} = after ] && '{git}' "$@" >/dev/null 2>&1
touch '{count}'/$n/ended
kill -9 $PPID
"""


def killed(
    operation: Callable[[], Coroutine[Any, Any, object]], place: Path, number: int, when: str
) -> bool:
    """Run it in a child; True when it was killed, False when it ended before that many calls."""
    tools = place / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    (tools / "count").mkdir(parents=True)
    values = {"count": tools / "count", "number": number, "when": when, "git": shutil.which("git")}
    (tools / "git").write_text(_WRAPPER.format(**values))
    (tools / "git").chmod(0o755)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
            asyncio.run(operation())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        # What ran beside the victim's last command is not part of the next attempt.
        calls = tools / "count"
        until(lambda: all((n / "ended").exists() for n in calls.iterdir()), "git commands ended")
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False
