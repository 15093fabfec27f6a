"""Drivers: how an agent becomes a program that can be started.

A driver turns a claimed agent into a command line; the runner starts it, watches it and records
how it ended. A new kind of agent is one function and one entry in DRIVERS.
"""

from collections.abc import Sequence
from typing import Protocol, cast

from bough.client.rows import Claimed, Json

_NO_COMMAND = "say which program does the work: bough run TASK -- CMD …"


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


DRIVERS: dict[str, Driver] = {"command": command}


def command_line(agent: Claimed) -> Sequence[str]:
    """The command line of an agent by its driver; raises UnknownDriver."""
    return _driver(agent.driver)(agent)


def _driver(name: str) -> Driver:
    if name not in DRIVERS:
        raise UnknownDriver(f"there is no driver '{name}'; there is: {', '.join(sorted(DRIVERS))}")
    return DRIVERS[name]


def check_program(driver: str, program: Json) -> None:
    """Refuse at spawn what could never start; raises UnknownDriver."""
    if _driver(driver) is command and not program.get("argv"):
        raise UnknownDriver(_NO_COMMAND)
