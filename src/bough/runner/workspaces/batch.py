"""Brings several agents' work onto one branch in one move, each on top of the one before.

Guarantees: what does not fit (a conflict, a failed hook or gate) is left out and changes nothing
for the others; the branch moves once, to a commit on which all gates have passed, and only after
the caller has written down what it will be. Whoever calls it holds the target's lock.
When it breaks: TargetMoved when the branch kept moving; BadConfiguration, GitError.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from bough.runner.workspaces.git import NoCommit, Repo, commit_of
from bough.runner.workspaces.line import (
    Attempt,
    GateFailed,
    Key,
    Outcome,
    Step,
    refused_by,
)
from bough.runner.workspaces.settings import MergeSettings, settings_at
from bough.runner.workspaces.strategies import Work
from bough.runner.workspaces.target import (
    TargetDirty,
    TargetMoved,
    move,
)

__all__ = ["GateFailed", "Outcome", "Step", "land"]

_ATTEMPTS = 5


async def land(
    repository: Repo,
    target: str,
    works: Mapping[Key, Work],
    *,
    plan: Callable[[list[Step[Key]]], Awaitable[bool]],
    record: Callable[[dict[Key, Outcome]], Awaitable[object]],
    tell: Callable[[str], None] = lambda _: None,
    settings: MergeSettings | None = None,
    dry_run: bool = False,
) -> dict[Key, Outcome] | None:
    """Bring the works onto `target` in order; what became of each.

    `plan` hears the steps just before the branch moves and may refuse, then nothing has moved and
    the result is None; `record` hears what has landed, just after. `settings`: those of the
    target's own commit unless given. With `dry_run` every check but the gates is made and nothing
    moves.
    """
    for _ in range(_ATTEMPTS):
        tip = await commit_of(repository.root, f"refs/heads/{target}")
        if tip is None:
            advice = f"see what it has: git -C {repository.root} branch -a"
            raise NoCommit(f"{repository.root} has no branch {target!r}; {advice}")
        holds = settings or (await settings_at(repository.root, tip)).merge
        batch = Attempt(repository, target, tip, holds, tell)
        line = await batch.passing(works, dry_run=dry_run)
        if line.end != tip and not dry_run:
            if not await plan(line.steps):
                return None
            try:
                checkout = await batch.still_ready(line)
                moving = move(repository, target, checkout, old=tip, new=line.end)
                if not await _to_its_end(_noted(moving, line.landed(), record)):
                    continue
            except TargetDirty as error:
                line.decided |= {step.key: refused_by(step.work, error) for step in line.steps}
                return line.decided
        return line.decided | line.landed()
    raise TargetMoved(f"{target} moved during {_ATTEMPTS} attempts to merge; try again")


async def _noted(
    moving: Coroutine[Any, Any, bool],
    landed: dict[Key, Outcome],
    record: Callable[[dict[Key, Outcome]], Awaitable[object]],
) -> bool:
    moved = await moving
    if moved:
        await record(landed)
    return moved


async def _to_its_end(moving: Coroutine[Any, Any, bool]) -> bool:
    """Let what moves files finish before a cancellation goes on its way."""
    task = asyncio.create_task(moving)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
    return task.result()
