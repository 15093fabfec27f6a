"""What two commits make together, computed without a checkout.

Guarantees: no ref, index or file changes; objects that nothing refers to are left behind, which git
collects in time. When it breaks: GitError; who needs the result clean raises MergeConflict.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bough.runner.workspaces.git import GitError, commit_tree, failure, git, run

_SYNTHETIC = {"message": "base", "name": "bough", "email": "bough@localhost"}


class MergeConflict(GitError):
    """Both sides changed the same thing; `paths` lists where, `kinds` what git calls each."""

    def __init__(
        self, message: str, paths: Sequence[str], kinds: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.paths = list(paths)
        self.kinds = dict(kinds or {})


async def merge_trees(where: Path, ours: str, theirs: str) -> tuple[str, dict[str, str]]:
    """Merge two commits: the tree, and each path in conflict with its kind (empty: clean).

    In conflict, the files in the tree hold git's markers. Raises GitError when git is older than
    2.38 or the histories have nothing in common.
    """
    args = ("merge-tree", "--write-tree", "-z", "--name-only", "--messages", ours, theirs)
    finished = await run(where, *args)
    if finished.code not in (0, 1) or not finished.out:
        version = (await git(where, "version")).removeprefix("git version ").strip()
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if numbers < (2, 38):
            raise GitError(f"git {version} cannot merge without a checkout; install git 2.38+")
        raise failure(finished, args)
    tree, _, rest = finished.out.partition("\0")
    if finished.code == 0:
        return tree, {}
    names, _, messages = rest.partition("\0\0")
    kinds = _kinds(messages)
    found = {path: kinds.get(path, "conflict") for path in sorted(filter(None, names.split("\0")))}
    return tree, found or {"(a conflict without a path)": "conflict"}


def _kinds(messages: str) -> dict[str, str]:
    """The first kind of conflict that git names for each path."""
    found: dict[str, str] = {}
    fields = iter(messages.split("\0"))
    for count in fields:
        if not count.isdigit():
            break
        paths = [next(fields) for _ in range(int(count))]
        kind, _ = next(fields), next(fields)
        if kind.startswith("CONFLICT ("):
            for path in paths:
                found.setdefault(path, kind.removeprefix("CONFLICT (").removesuffix(")"))
    return found


async def replay(where: Path, commit: str, parent: str, onto: str) -> tuple[str, dict[str, str]]:
    """What `commit` changed against `parent`, done again on `onto`: the tree, and conflicts.

    merge-tree takes the common ancestor of both sides as base. A commit with the files of `onto`
    and the parent `parent` makes that ancestor be `parent`.
    """
    tree = (await git(where, "rev-parse", f"{onto}^{{tree}}")).strip()
    ours = await commit_tree(where, tree, parents=(parent,), **_SYNTHETIC)
    return await merge_trees(where, ours, commit)
