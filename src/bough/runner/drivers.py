"""Drivers: how an agent becomes a program that can be started.

A driver turns a claimed agent into a command line with its variables and files; the runner starts
it, watches it and records how it ended. A new kind of agent is one function and one entry in
DRIVERS; agent programs that many have are presets, see `presets/`.
"""

import re
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from bough.client.rows import Claimed, Json
from bough.runner.launch import Launch, Own
from bough.runner.llm import start
from bough.runner.llm.start import llm
from bough.runner.presets.preset import BRIEFING, ROLE_FILE, Preset, UnknownProgram
from bough.runner.presets.table import PRESETS
from bough.runner.roles.briefing import briefing, prompt_of

_NO_COMMAND = (
    "say which program does the work: bough run TASK -- CMD …, or --driver with one of "
    f"{', '.join(PRESETS)}"
)
_NO_FUNCTION = "say which function does the work: bough run TASK --driver function -- module:name"
_NO_ACP = "say which program speaks the protocol: bough run TASK --driver acp -- opencode acp"


class UnknownDriver(UnknownProgram):
    """No driver has this name."""


class Driver(Protocol):
    """Says how an agent is started. Raises UnknownProgram when it cannot be."""

    def __call__(self, agent: Claimed, own: Own) -> Launch:
        """The command line with its variables, and the files that it needs."""
        ...


def command(agent: Claimed, own: Own) -> Launch:
    """Any program; {task}, {prompt} and {role_file} in its arguments stand for these."""
    argv = [str(word) for word in cast("list[object]", agent.program.get("argv") or [])]
    if not argv:
        raise UnknownProgram(_NO_COMMAND)
    prompt, file = prompt_of(agent), str(own.directory / ROLE_FILE)
    known = {"task": agent.task, "prompt": prompt, "role_file": file}
    # In one go: a task that speaks of {prompt} stays as it is.
    words = [re.sub(r"\{(task|prompt|role_file)\}", lambda m: known[m[1]], w) for w in argv]
    if not prompt and not any("{role_file}" in word for word in argv):
        return Launch(words)
    return Launch(words, {"BOUGH_ROLE_FILE": file}, {ROLE_FILE: prompt})


def function(agent: Claimed, own: Own) -> Launch:
    """A Python async function, by its import path `module:name`; see `runner.function`."""
    path = _checked_path(agent.program)
    prompt, file = prompt_of(agent), str(own.directory / ROLE_FILE)
    # -P: no file of the worktree can take the place of a module that Bough itself needs.
    argv = [sys.executable, "-P", "-m", "bough.runner.function", path]
    return Launch(argv, {"BOUGH_ROLE_FILE": file}, {ROLE_FILE: prompt}) if prompt else Launch(argv)


def acp(agent: Claimed, own: Own) -> Launch:
    """A program that speaks the Agent Client Protocol; see `runner.acp`."""
    words = [str(word) for word in cast("list[object]", agent.program.get("argv") or [])]
    if not words:
        raise UnknownProgram(_NO_ACP)
    argv = [sys.executable, "-P", "-m", "bough.runner.acp", str(own.directory), *words]
    return Launch(argv, {}, {BRIEFING: briefing(agent, mcp=True)})


DRIVERS: dict[str, Driver] = {
    "command": command,
    "function": function,
    "llm": llm,
    "acp": acp,
    **PRESETS,
}


def launch_of(agent: Claimed, own: Own) -> Launch:
    """How an agent is started, by its driver; raises UnknownProgram."""
    return _driver(agent.driver)(agent, own)


def _driver(name: str) -> Driver:
    if name not in DRIVERS:
        raise UnknownDriver(f"there is no driver '{name}'; there is: {', '.join(sorted(DRIVERS))}")
    return DRIVERS[name]


def _checked_path(program: Json) -> str:
    path = program.get("function")
    if not path or not isinstance(path, str):
        raise UnknownProgram(_NO_FUNCTION)
    module, colon, name = path.partition(":")
    words = [*module.split("."), *name.split(".")]
    if not colon or not all(word.isidentifier() for word in words):
        raise UnknownProgram(
            f"'{path}' is no path of a function; give one like mypackage.team:main"
        )
    return path


def program_of(driver: str, words: Sequence[str]) -> Json:
    """The program that words after `--` mean to a driver, checked; raises UnknownProgram."""
    if _driver(driver) is not function:
        program: Json = {"argv": list(words)}
    elif len(words) > 1:
        raise UnknownProgram(f"a function takes no arguments, only its task; {_NO_FUNCTION}")
    else:
        program = {"function": words[0] if words else None}
    if driver not in PRESETS and driver != "llm":
        check_program(driver, program)
    return program


def check_program(driver: str, program: Json) -> None:
    """Refuse at spawn what could never start; raises UnknownProgram."""
    found = _driver(driver)
    if isinstance(found, Preset):
        found.check(program)
    if found is command and not program.get("argv"):
        raise UnknownProgram(_NO_COMMAND)
    if found is llm:
        start.check(program)
    if found is acp and not program.get("argv"):
        raise UnknownProgram(_NO_ACP)
    if found is function:
        _checked_path(program)
