"""Brings several agents' work onto one branch in one move, each on top of the one before.

Guarantees: what does not fit (a conflict, a failed hook or gate) is left out and changes nothing
for the others; the branch moves once, to a commit on which all gates have passed, and only after
the caller has written down what it will be. Whoever calls it holds the target's lock.
When it breaks: TargetMoved when the branch kept moving; BadConfiguration, GitError.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from bough.runner.workspaces.commits import wants_signatures, write
from bough.runner.workspaces.git import GitError, NoCommit, Repo, commit_of, git, is_ancestor
from bough.runner.workspaces.settings import MergeSettings, Strategy, settings_at
from bough.runner.workspaces.strategies import Work, combined, replayed
from bough.runner.workspaces.target import (
    TargetDirty,
    TargetMoved,
    checkout_of,
    place,
    refuse_if_in_the_way,
)
from bough.runner.workspaces.trees import MergeConflict
from bough.runner.workspaces.trial import Verdict, gates_failed, hooked

_ATTEMPTS = 5
Key = TypeVar("Key", bound=Hashable)
Status = Literal["merged", "conflicted", "refused", "gate_failed"]


class GateFailed(GitError):
    """A gate of the target did not pass on the merge; `output` is the last of what it printed."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True, slots=True)
class Step(Generic[Key]):
    """One work on top of what came before: the commit before and after, the same if contained."""

    key: Key
    work: Work
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one work: landed between two commits (the same: it was there), or why not."""

    status: Status
    strategy: Strategy
    source: str
    previous: str = ""
    commit: str = ""
    error: GitError | None = None


@dataclass(slots=True)
class _Line(Generic[Key]):
    """The steps that fit, in order, and what became of the works that did not."""

    tip: str
    steps: list[Step[Key]] = field(default_factory=list["Step[Key]"])
    decided: dict[Key, Outcome] = field(default_factory=dict["Key", Outcome])

    def landed(self) -> dict[Key, Outcome]:
        return {
            s.key: Outcome("merged", s.work.strategy, s.work.commit, s.old, s.new)
            for s in self.steps
        }

    @property
    def end(self) -> str:
        return self.steps[-1].new if self.steps else self.tip


def _refused(work: Work, error: GitError) -> Outcome:
    status: Status = (
        "conflicted"
        if isinstance(error, MergeConflict)
        else "gate_failed"
        if isinstance(error, GateFailed)
        else "refused"
    )
    return Outcome(status, work.strategy, work.commit, error=error)


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
        batch = _Batch(repository, target, tip, holds, tell)
        line = await batch.passing(works, dry_run=dry_run)
        if line.end != tip and not dry_run:
            if not await plan(line.steps):
                return None
            try:
                moving = place(repository, target, old=tip, new=line.end)
                if not await _to_its_end(_noted(moving, line.landed(), record)):
                    continue
            except TargetDirty as error:
                line.decided |= {step.key: _refused(step.work, error) for step in line.steps}
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


class _Batch:
    """One attempt on one tip of the target."""

    def __init__(
        self,
        repository: Repo,
        target: str,
        tip: str,
        settings: MergeSettings,
        tell: Callable[[str], None],
    ) -> None:
        self._repository = repository
        self._root = repository.root
        self._target = target
        self._tip = tip
        self._settings = settings
        self._tell = tell
        self._verdicts: dict[str, Verdict | None] = {}

    async def passing(self, works: Mapping[Key, Work], *, dry_run: bool) -> _Line[Key]:
        """The longest line of works that fit and pass; those whose gates fail are left out."""
        left, failed = dict(works), dict[Key, Outcome]()
        while True:
            line = await self._line(left)
            if line.end != self._tip:
                try:
                    await place(
                        self._repository, self._target, old=self._tip, new=line.end, dry_run=True
                    )
                except TargetDirty as error:
                    line.decided |= {step.key: _refused(step.work, error) for step in line.steps}
                    line.steps.clear()
            culprit = None if dry_run else await self._culprit(line)
            if culprit is None:
                line.decided |= failed
                return line
            failed[culprit[0].key] = self._gate_failed(*culprit)
            del left[culprit[0].key]

    async def _line(self, works: Mapping[Key, Work]) -> _Line[Key]:
        line: _Line[Key] = _Line(self._tip)
        sign = self._settings.sign
        sign = await wants_signatures(self._root) if sign is None else sign
        checkout = await self._clean_checkout()
        for key, work in works.items():
            signed = replace(work, recipe=replace(work.recipe, sign=sign))
            try:
                new = await self._next(line.end, signed)
                if checkout and new != line.end:
                    await refuse_if_in_the_way(checkout, self._target, line.end, new)
            except GitError as error:
                line.decided[key] = _refused(work, error)
            else:
                line.steps.append(Step(key, work, line.end, new))
        return line

    async def _clean_checkout(self) -> Path | None:
        """The target's checkout, if nothing in it is changed; one that is dirty is seen later."""
        try:
            checkout = await checkout_of(self._repository, self._target)
        except TargetDirty:
            return None
        if checkout is None:
            return None
        changed = await git(checkout, "status", "--porcelain", "--untracked-files=no")
        return None if changed else checkout

    async def _next(self, tip: str, work: Work) -> str:
        if await is_ancestor(self._root, work.commit, tip):
            return tip
        if work.strategy == "rebase" and work.settled:
            # The conflict's commits cannot be replayed; what was made of them is one change.
            work = replace(work, strategy="squash")
        if work.strategy == "rebase":
            return await replayed(self._root, self._target, tip, work)
        tree, parents = await combined(self._root, self._target, tip, work)
        if not parents:
            return tip
        message = await hooked(
            self._repository, tip, tree, work.recipe.message, work.strategy, self._settings
        )
        return await write(self._root, tree, parents, replace(work.recipe, message=message))

    async def _culprit(self, line: _Line[Key]) -> tuple[Step[Key], Verdict] | None:
        """The first step after which the gates fail, found by halving; None when they pass."""
        steps = [step for step in line.steps if step.new != step.old]
        if not self._settings.gates or not steps:
            return None
        passes, fails = -1, len(steps) - 1
        verdict = await self._verdict(steps[fails], fails + 1)
        if verdict is None:
            return None
        while fails - passes > 1:
            middle = (passes + fails) // 2
            found = await self._verdict(steps[middle], middle + 1)
            if found is None:
                passes = middle
            else:
                fails, verdict = middle, found
        return steps[fails], verdict

    async def _verdict(self, step: Step[Key], count: int) -> Verdict | None:
        tree = (await git(self._root, "rev-parse", f"{step.new}^{{tree}}")).strip()
        if tree not in self._verdicts:
            merges = "1 merge" if count == 1 else f"{count} merges"
            gates = "; ".join(self._settings.gates)
            self._tell(f"{self._target}: gates on {merges}, the last {step.work.name}: {gates}")
            self._verdicts[tree] = await gates_failed(self._repository, step.new, self._settings)
        return self._verdicts[tree]

    def _gate_failed(self, step: Step[Key], verdict: Verdict) -> Outcome:
        message = (
            f"{step.work.name} is not merged into {self._target}: gate '{verdict.what}' "
            f"{verdict.why}: {verdict.last_line}; nothing of it was changed"
        )
        return _refused(step.work, GateFailed(message, verdict.output))
