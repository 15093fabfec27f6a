"""One attempt to put works in line on a branch's tip: what fits, what passes, what is left out.

Guarantees: nothing moves; each step is a commit on top of the one before, and the last one has
passed all gates. When it breaks: GitError, which is no work's own fault.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

from bough.runner.workspaces.commits import wants_signatures, write
from bough.runner.workspaces.git import GitError, Repo, git
from bough.runner.workspaces.settings import MergeSettings, Strategy
from bough.runner.workspaces.strategies import Work, combined, replayed
from bough.runner.workspaces.target import (
    TargetDirty,
    checkout_of,
    ready,
    refuse_if_in_the_way,
)
from bough.runner.workspaces.trees import MergeConflict
from bough.runner.workspaces.trial import Hooks, Verdict, gates_failed, hooks_of
from bough.runner.workspaces.worktree import tree_of

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
class Line(Generic[Key]):
    """The steps that fit, in order, and what became of the works that did not."""

    tip: str
    steps: list[Step[Key]] = field(default_factory=list["Step[Key]"])
    decided: dict[Key, Outcome] = field(default_factory=dict["Key", Outcome])

    def landed(self) -> dict[Key, Outcome]:
        """What became of the steps once the branch is at the end of the line."""
        return {
            s.key: Outcome("merged", s.work.strategy, s.work.commit, s.old, s.new)
            for s in self.steps
        }

    @property
    def end(self) -> str:
        """The commit that the branch is to become."""
        return self.steps[-1].new if self.steps else self.tip


def refused_by(work: Work, error: GitError) -> Outcome:
    """What became of a work that an error kept from landing."""
    status: Status = (
        "conflicted"
        if isinstance(error, MergeConflict)
        else "gate_failed"
        if isinstance(error, GateFailed)
        else "refused"
    )
    return Outcome(status, work.strategy, work.commit, error=error)


class Attempt:
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
        self._trees: dict[str, str] = {}
        self._checkout: Path | None = None
        self._hooks: Hooks | None = None

    async def passing(self, works: Mapping[Key, Work], *, dry_run: bool) -> Line[Key]:
        """The longest line of works that fit and pass; those whose gates fail are left out."""
        left, failed = dict(works), dict[Key, Outcome]()
        while True:
            line = await self._line_that_fits(left)
            culprit = None if dry_run else await self._culprit(line)
            if culprit is None:
                line.decided |= failed
                return line
            failed[culprit[0].key] = self._gate_failed(*culprit)
            del left[culprit[0].key]

    async def still_ready(self, line: Line[Key]) -> Path | None:
        """The checkout, looked at again if gates have run since. Raises TargetDirty."""
        if self._verdicts:
            await self._look(line)
        return self._checkout

    async def _look(self, line: Line[Key]) -> None:
        self._checkout = await ready(self._repository, self._target, old=self._tip, new=line.end)

    async def _line_that_fits(self, works: Mapping[Key, Work]) -> Line[Key]:
        """The steps that the target's checkout can take; who is in its way is left out."""
        for careful in (False, True):
            line = await self._line(works, careful=careful)
            try:
                if line.end != self._tip:
                    await self._look(line)
                return line
            except TargetDirty as error:
                refused = {step.key: refused_by(step.work, error) for step in line.steps}
        line.decided |= refused
        line.steps.clear()
        return line

    async def _line(self, works: Mapping[Key, Work], *, careful: bool) -> Line[Key]:
        line: Line[Key] = Line(self._tip)
        sign = self._settings.sign
        sign = await wants_signatures(self._root) if sign is None else sign
        checkout = await self._clean_checkout() if careful else None
        for key, work in works.items():
            signed = replace(work, recipe=replace(work.recipe, sign=sign))
            try:
                new = await self._next(line.end, signed)
                if checkout and new != line.end:
                    await refuse_if_in_the_way(checkout, self._target, line.end, new)
            except GitError as error:
                line.decided[key] = refused_by(work, error)
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
        if work.strategy == "rebase" and work.settled:
            # The conflict's commits cannot be replayed; what was made of them is one change.
            work = replace(work, strategy="squash")
        if work.strategy == "rebase":
            return await replayed(self._root, self._target, tip, work)
        tip_tree = await self._tree(tip)
        tree, parents = await combined(self._root, self._target, tip, tip_tree, work)
        if not parents:
            return tip
        message = work.recipe.message
        if self._settings.hooks:
            self._hooks = self._hooks or await hooks_of(self._repository, self._settings)
            message = await self._hooks.run(tip, tree, message, work.strategy)
        new = await write(self._root, tree, parents, replace(work.recipe, message=message))
        self._trees[new] = tree
        return new

    async def _tree(self, commit: str) -> str:
        if commit not in self._trees:
            self._trees[commit] = await tree_of(self._root, commit)
        return self._trees[commit]

    async def _culprit(self, line: Line[Key]) -> tuple[Step[Key], Verdict] | None:
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
        tree = await self._tree(step.new)
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
        return refused_by(step.work, GateFailed(message, verdict.output))
