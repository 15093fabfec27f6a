"""What a person or a program asks for, checked and made into a spawn, for every surface alike.

Options that are given win over those of the role, a command after `--` over the role's driver. A
role is read from the commit that the tree's work starts from here: a root's own, a child's its
parent's, which the parent cannot have written. Raises BoughError and GitError; nothing is made.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from bough.client.client import Spawn
from bough.client.errors import AgentNotFound, InvalidInput
from bough.client.rows import Agent, Json
from bough.client.runner_calls import RunnerClient
from bough.client.tools import granted
from bough.runner.drivers import check_program, program_of
from bough.runner.lineage import start_below, start_from
from bough.runner.presets.preset import UnknownProgram
from bough.runner.presets.table import PRESETS
from bough.runner.workspaces.git import open_repository

if TYPE_CHECKING:
    from bough.runner.roles.library import Library
    from bough.runner.roles.role import Role

ROOT_BUDGET = 100_000
Hint = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for; None where nothing was said. budget in tokens, timeout_s in seconds.

    usual: the driver when neither this, nor a command, nor the role says one.
    """

    task: str
    words: Sequence[str] = ()
    role: str | None = None
    budget: int | None = None
    repo: Path = Path()
    driver: str | None = None
    model: str | None = None
    timeout_s: int | None = None
    max_depth: int | None = None
    max_children: int | None = None
    max_running: int | None = None
    base: Sequence[str] = ()
    ports: int | None = None
    scratch: bool = False
    usual: str = "command"


async def plan(client: RunnerClient, parent: Agent | None, order: Order, hint: Hint) -> Spawn:
    """Everything checked that can be before anything is made; remarks go to hint."""
    if order.role is not None and not 0 < len(order.role.strip()) <= 200:
        raise InvalidInput("a role has a name of 1 to 200 characters, like implementer")
    start = await start_below(parent) if parent else None
    if start is None:
        repository = await open_repository(order.repo.absolute())
        start = str(repository.root), repository.head, repository.branch
    if order.base:
        start = start[0], await start_from(client, Path(start[0]), order.base), start[2]
    seen = parent.base_commit if parent and parent.base_commit else start[1]
    role = await _role(order, Path(start[0]), seen, hint) if order.role else None
    driver, program = _program(parent, order, role)
    budget = order.budget or (role.budget if role else None)
    if budget is None and parent:
        raise InvalidInput(
            f"say how much of the parent's {parent.available:,} tokens it gets: --budget 30k"
        )
    return Spawn(
        key=uuid4(),
        task=order.task,
        budget=budget or ROOT_BUDGET,
        parent_id=parent.id if parent else None,
        role=order.role or "agent",
        driver=driver,
        program=program,
        repo_path=start[0],
        base_commit=start[1],
        target_branch=start[2],
        timeout_s=_first(order.timeout_s, role and role.timeout_s),
        max_depth=_first(order.max_depth, role and role.max_depth),
        max_children=_first(order.max_children, role and role.max_children),
        max_running=_first(order.max_running, role and role.max_running),
    )


def _first(asked: int | None, usual: int | None) -> int | None:
    return usual if asked is None else asked


async def _role(order: Order, root: Path, commit: str, hint: Hint) -> "Role | None":
    # YAML is slow to import, and most spawns name no role.
    from bough.runner.roles.library import library

    name = str(order.role)
    found = await library(root, commit)
    role = found.roles.get(name)
    if role is None:
        hint(_unknown(name, found, root))
        return None
    for warning in role.warnings:
        hint(f"warning: {warning}")
    if role.broken:
        raise InvalidInput(f"the role {name} cannot be used: {role.broken}")
    return role


def _unknown(name: str, found: "Library", root: Path) -> str:
    broken = [w for w in found.warnings if f"/{name}.md" in w]
    if broken:
        return f"the role '{name}' is a bare name: {broken[0]}"
    if any((root / place / f"{name}.md").is_file() for place in (".bough/roles", ".claude/agents")):
        return f"the role '{name}' is a bare name: its file is not committed; commit it first"
    near = get_close_matches(name, found.roles, n=1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return f"the role '{name}' is a bare name, without a prompt; {meant}see bough role list"


def _program(parent: Agent | None, order: Order, role: "Role | None") -> tuple[str, Json]:
    driver = order.driver or (None if order.words else (role and role.driver) or order.usual)
    driver = driver or "command"
    try:
        program = program_of(driver, order.words)
        model = order.model or (role.model if role else None)
        if role and model is None and role.origin == driver:
            model = role.native_model
        if driver == "llm" and model is None:
            model = os.environ.get("BOUGH_MODEL") or _model_of(parent)
        above = cast("list[str] | None", parent.program.get("tools")) if parent else None
        tools = granted(role.allow if role else None, role.deny if role else (), above)
        if role:
            program |= {"prompt": role.prompt, "role_source": role.source}
            program |= {"gates": list(role.gates)} if role.gates else {}
        program |= {"ports": order.ports} if order.ports else {}
        program |= {"scratch": True} if order.scratch else {}
        program |= {} if model is None else {"model": model}
        program |= {} if tools is None else {"tools": tools}
        check_program(driver, program)
    except UnknownProgram as error:
        raise InvalidInput(str(error)) from error
    _check_installed(driver, program)
    return driver, program


def _model_of(parent: Agent | None) -> str | None:
    return parent.program.get("model") if parent and parent.driver == "llm" else None


def _check_installed(driver: str, program: Json) -> None:
    preset = PRESETS.get(driver)
    if preset and shutil.which(preset.program) is None:
        raise AgentNotFound(f"{preset.program} is not installed; get it: {preset.install}")
    argv = cast("list[str]", program.get("argv") or [])
    for name in [] if preset else argv[:1]:
        # A relative path is looked up in the worktree, which is not there yet.
        if (Path(name).is_absolute() or "/" not in name) and shutil.which(name) is None:
            raise AgentNotFound(f"there is no program '{name}'; install it or give another path")
