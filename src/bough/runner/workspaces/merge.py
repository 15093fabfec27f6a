"""Merges one branch or commit into a branch, without a checkout or together with the branch's own.

Guarantees: the result holds both sides; merges into one target go one after the other (flock in
the git directory) and the branch moves by compare and swap, so none is lost; a conflict, a refusal
or a dry run changes neither ref, index nor file. Merging again finishes what a kill left.
When it breaks: MergeConflict with the paths, TargetDirty, TargetMoved, NoCommit or GitError.
"""

from dataclasses import dataclass

from bough.runner.workspaces.batch import GateFailed, Outcome, Step, land
from bough.runner.workspaces.commits import Recipe
from bough.runner.workspaces.git import NoCommit, Repo, commit_of, is_ancestor
from bough.runner.workspaces.queue_lock import held
from bough.runner.workspaces.settings import MergeSettings, Strategy
from bough.runner.workspaces.strategies import Work
from bough.runner.workspaces.target import TargetDirty, TargetMoved, lock_of
from bough.runner.workspaces.trees import MergeConflict, merge_trees

__all__ = [
    "GateFailed",
    "MergeConflict",
    "Merged",
    "TargetDirty",
    "TargetMoved",
    "merge",
    "merge_trees",
]


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge: the target branch's commit now and before; the same commit when the source was
    already contained. `fast_forward`: the target had nothing that the source lacked."""

    target: str
    commit: str
    previous: str
    fast_forward: bool

    @property
    def already_contained(self) -> bool:
        """Say whether there was nothing to merge."""
        return self.commit == self.previous


async def merge(
    repository: Repo,
    *,
    source: str,
    target: str,
    message: str,
    author_name: str,
    author_email: str,
    strategy: Strategy = "merge",
    settings: MergeSettings = MergeSettings(sign=False, hooks=False),  # noqa: B008 - frozen
    dry_run: bool = False,
) -> Merged:
    """Merge `source` (branch or commit) into the branch `target`, whether checked out or not.

    With `dry_run` all checks are made and the merge commit is written, but nothing refers to it.
    """
    root, target = repository.root, target.removeprefix("refs/heads/")
    commit = await commit_of(root, source)
    if commit is None:
        advice = f"see what it has: git -C {root} branch -a"
        raise NoCommit(f"{root} has no commit or branch {source!r}; {advice}")
    who = (author_name, author_email)
    work = Work(source, commit, strategy, Recipe(message, *who, committer=who))

    async def plan(steps: list[Step[str]]) -> bool:
        return bool(steps)

    async def record(landed: dict[str, Outcome]) -> None:
        del landed

    async with held(lock_of(repository, target)):
        only = {source: work}
        landed = await land(
            repository, target, only, plan=plan, record=record, settings=settings, dry_run=dry_run
        )
    outcome = (landed or {})[source]
    if outcome.error:
        raise outcome.error
    forward = outcome.commit != outcome.previous and await is_ancestor(
        root, outcome.previous, commit
    )
    return Merged(target, outcome.commit, outcome.previous, forward)
