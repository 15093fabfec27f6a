"""One commit to start from, made of several: what an agent needs that builds on several others.

The merge is computed without a checkout and kept by a ref until something else reaches it. When it
breaks: NoCommit, MergeConflict with the paths; nothing was changed.
"""

from collections.abc import Sequence

from bough.runner.workspaces.git import (
    NoCommit,
    Repo,
    commit_of,
    commit_tree,
    git,
    is_ancestor,
    quoted,
)
from bough.runner.workspaces.trees import MergeConflict, merge_trees

_WHO = {"name": "bough", "email": "bough@localhost"}


async def joined(repository: Repo, names: Sequence[str]) -> str:
    """The commit that contains all of `names` (branches or commits), merged in this order.

    One name, or one that contains the others, is that commit itself. Raises MergeConflict,
    NoCommit.
    """
    root = repository.root
    base: str | None = None
    for name in names:
        commit = await commit_of(root, name)
        if commit is None:
            advice = f"see what it has: git -C {root} branch -a"
            raise NoCommit(f"{root} has no commit or branch {name!r}; {advice}")
        if base is None or await is_ancestor(root, base, commit):
            base = commit
        elif not await is_ancestor(root, commit, base):
            base = await _merged(repository, base, commit, name)
    if base is None:
        raise NoCommit("nothing to start from was named; give a branch or commit")
    return base


async def _merged(repository: Repo, base: str, commit: str, name: str) -> str:
    root = repository.root
    tree, conflicts = await merge_trees(root, base, commit)
    if conflicts:
        what = f"{name} and what comes before it conflict in {len(conflicts)} paths"
        advice = "nothing was made: merge them by hand, or start from one of them"
        raise MergeConflict(f"{what} ({quoted([*conflicts])}); {advice}", [*conflicts])
    made = await commit_tree(
        root, tree, parents=(base, commit), message=f"Start from {name} too", **_WHO
    )
    await git(root, "update-ref", f"refs/bough/start/{made}", made)
    return made
