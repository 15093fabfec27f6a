"""Drivers: how an agent becomes a program that can be started.

A driver turns a claimed agent into a command line; the runner starts it, watches it and records
how it ended. A new kind of agent is one function and one entry in DRIVERS.
"""

import sys
from collections.abc import Sequence
from typing import Protocol, cast

from bough.client.rows import Claimed, Json

_NO_COMMAND = "say which program does the work: bough run TASK -- CMD …"
_NO_FUNCTION = "say which function does the work: bough run TASK --driver function -- module:name"


class UnknownDriver(Exception):
    """No driver has this name, or the agent's program is not what its driver needs."""


class Driver(Protocol):
    """Says which command line runs an agent. Raises UnknownDriver when it cannot."""

    def __call__(self, agent: Claimed) -> Sequence[str]:
        """The program and its arguments."""
        ...


def command(agent: Claimed) -> Sequence[str]:
    """Any program; `{task}` in its arguments stands for the task."""
    argv = cast("list[object]", agent.program.get("argv") or [])
    if not argv:
        raise UnknownDriver(_NO_COMMAND)
    return [str(word).replace("{task}", agent.task) for word in argv]


def function(agent: Claimed) -> Sequence[str]:
    """A Python async function, by its import path `module:name`; see `runner.function`."""
    path = _checked_path(agent.program)
    # -P: no file of the worktree can take the place of a module that Bough itself needs.
    return [sys.executable, "-P", "-m", "bough.runner.function", path]


DRIVERS: dict[str, Driver] = {"command": command, "function": function}


def command_line(agent: Claimed) -> Sequence[str]:
    """The command line of an agent by its driver; raises UnknownDriver."""
    return _driver(agent.driver)(agent)


def _driver(name: str) -> Driver:
    if name not in DRIVERS:
        raise UnknownDriver(f"there is no driver '{name}'; there is: {', '.join(sorted(DRIVERS))}")
    return DRIVERS[name]


def _checked_path(program: Json) -> str:
    path = program.get("function")
    if not path or not isinstance(path, str):
        raise UnknownDriver(_NO_FUNCTION)
    module, colon, name = path.partition(":")
    words = [*module.split("."), *name.split(".")]
    if not colon or not all(word.isidentifier() for word in words):
        raise UnknownDriver(f"'{path}' is no path of a function; give one like mypackage.team:main")
    return path


def program_of(driver: str, words: Sequence[str]) -> Json:
    """The program that words after `--` mean to a driver, checked; raises UnknownDriver."""
    if _driver(driver) is not function:
        program: Json = {"argv": list(words)}
    elif len(words) > 1:
        raise UnknownDriver(f"a function takes no arguments, only its task; {_NO_FUNCTION}")
    else:
        program = {"function": words[0] if words else None}
    check_program(driver, program)
    return program


def check_program(driver: str, program: Json) -> None:
    """Refuse at spawn what could never start; raises UnknownDriver."""
    if _driver(driver) is command and not program.get("argv"):
        raise UnknownDriver(_NO_COMMAND)
    if _driver(driver) is function:
        _checked_path(program)
