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

WHEN = ("before", "after")
_WRAPPER = """#!/bin/sh
printf x >> '{count}'
[ "$(wc -c < '{count}')" -ne {number} ] && exec '{git}' "$@"
[ {when} = after ] && '{git}' "$@" >/dev/null 2>&1
kill -9 $PPID
"""


def killed(
    operation: Callable[[], Coroutine[Any, Any, object]], place: Path, number: int, when: str
) -> bool:
    """Run it in a child; True when it was killed, False when it ended before that many calls."""
    tools = place / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
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
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False
