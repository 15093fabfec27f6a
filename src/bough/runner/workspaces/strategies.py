"""Three ways to bring an agent's work onto a branch: merge, squash, rebase. No checkout is needed.

Guarantees: what comes out is a commit on top of the target's tip that holds both sides, or the tip
itself when there is nothing to bring; neither ref, index nor file changes. A rebase that would lose
what the agent's own merges resolved ends with one more commit that holds just that.
When it breaks: MergeConflict with every path, or GitError.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from bough.runner.workspaces.commits import Recipe, recipe_of, write
from bough.runner.workspaces.git import GitError, commit_of, git, is_ancestor, quoted, run
from bough.runner.workspaces.settings import Strategy
from bough.runner.workspaces.trees import MergeConflict, merge_trees, replay
from bough.runner.workspaces.worktree import tree_of


@dataclass(frozen=True, slots=True)
class Work:
    """What is brought: the branch's name, its commit, how, and the message, author and committer.

    `settled` are paths that were in conflict and whose markers somebody has worked away.
    """

    name: str
    commit: str
    strategy: Strategy
    recipe: Recipe
    settled: tuple[str, ...] = ()


def conflict(work: Work, target: str, kinds: dict[str, str]) -> MergeConflict:
    """The error for paths in conflict."""
    paths = f"{len(kinds)} paths ({quoted(list(kinds))})"
    text = f"{work.name} and {target} conflict in {paths}"
    return MergeConflict(f"{text}; nothing was changed: resolve them first", list(kinds), kinds)


async def combined(
    root: Path, target: str, tip: str, tip_tree: str, work: Work
) -> tuple[str, tuple[str, ...]]:
    """The tree of `work` on `tip` and the parents its commit gets; no parents: nothing to bring.

    For merge and squash, whose one commit is written by the caller. Raises MergeConflict.
    """
    tree, kinds = await merge_trees(root, tip, work.commit)
    if kinds:
        raise conflict(work, target, kinds)
    await _refuse_markers(root, tree, work)
    # What is contained changes nothing; asking only then saves a process for all the others.
    if tree == tip_tree and (
        work.strategy == "squash" or await is_ancestor(root, work.commit, tip)
    ):
        return tree, ()
    return tree, (tip, work.commit) if work.strategy == "merge" else (tip,)


async def replayed(root: Path, target: str, tip: str, work: Work) -> str:
    """The last of the agent's commits, done again one by one on `tip`; empty ones are left out."""
    order = ("rev-list", "--reverse", "--topo-order", f"{tip}..{work.commit}")
    listed = await git(root, *order, "--no-merges", "--parents")
    at = tip
    for line in listed.splitlines():
        commit, *parents = line.split()
        if not parents:
            raise GitError(f"{work.name} and {target} have unrelated histories; squash it instead")
        tree, kinds = await replay(root, commit, parents[0], at)
        if kinds:
            raise conflict(work, target, kinds)
        if tree != await tree_of(root, at):
            at = await write(root, tree, (at,), await recipe_of(root, commit, work.recipe))
    if await git(root, "rev-list", "-1", "--merges", f"{tip}..{work.commit}"):
        at = await _with_what_merges_resolved(root, tip, at, work)
    return at


async def _with_what_merges_resolved(root: Path, tip: str, at: str, work: Work) -> str:
    tree, kinds = await merge_trees(root, tip, work.commit)
    if kinds or tree == await tree_of(root, at):
        return at
    subject = f"What merges in {work.name} resolved\n\n"
    recipe = replace(work.recipe, message=subject + work.recipe.message)
    return await write(root, tree, (at,), recipe)


async def _refuse_markers(root: Path, tree: str, work: Work) -> None:
    """Refuse a resolution that still holds git's markers. Raises MergeConflict with path:line."""
    left: dict[str, str] = {}
    for path in work.settled:
        shown = await run(root, "cat-file", "blob", f"{tree}:{path}")
        for number, line in enumerate(shown.out.split("\n") if shown.code == 0 else (), 1):
            if line.startswith(("<<<<<<< ", ">>>>>>> ", "||||||| ")):
                left[path] = f"{path}:{number}"
                break
    if left:
        places = ", ".join(list(left.values())[:5])
        raise MergeConflict(
            f"{work.name} still holds conflict markers at {places}; resolve them there first",
            list(left),
            dict.fromkeys(left, "markers left"),
        )


async def is_landed(root: Path, tip: str, commit: str) -> bool:
    """Say whether `tip` contains a commit, which may be gone."""
    return await commit_of(root, commit) is not None and await is_ancestor(root, commit, tip)
