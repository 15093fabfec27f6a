"""Merges an agent's work into a branch without a checkout, or together with the branch's checkout.

Guarantees: the result is always a commit with both parents, unless the target contains the source
already; merges into one repository go one after the other (flock in the git directory) and the
branch moves by compare and swap, so none is lost; a conflict, a refusal or a dry run changes
neither ref, index nor file. Where the target is checked out, files and index move first and the ref
last: a kill in between leaves the merge's files in front of the old commit, never the old files in
front of the merge, which the next commit would silently undo. Merging again finishes it.
When it breaks: MergeConflict with the paths, TargetDirty, TargetMoved, NoCommit or GitError.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bough.runner.workspaces.git import (
    GitError,
    NoCommit,
    Repo,
    commit_of,
    commit_tree,
    failure,
    git,
    is_ancestor,
    locked,
    quoted,
    run,
)

_ATTEMPTS = 5


class MergeConflict(GitError):
    """Both sides changed the same thing; `paths` lists where."""

    def __init__(self, message: str, paths: list[str]) -> None:
        super().__init__(message)
        self.paths = paths


class TargetDirty(GitError):
    """The checkout of the target branch holds work that the merge would touch."""


class TargetMoved(GitError):
    """The target branch kept moving under the merge."""


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


async def merge_trees(where: Path, ours: str, theirs: str) -> tuple[str, list[str]]:
    """Merge two commits without a checkout: the tree, and the paths in conflict (empty: clean).

    Raises GitError when git is older than 2.38 or the histories have nothing in common.
    """
    args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
    finished = await run(where, *args)
    if finished.code not in (0, 1) or not finished.out:
        version = (await git(where, "version")).removeprefix("git version ").strip()
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if numbers < (2, 38):
            raise GitError(f"git {version} cannot merge without a checkout; install git 2.38+")
        raise failure(finished, args)
    tree, *paths = finished.out.split("\0")
    conflicts = sorted({path for path in paths if path})
    return tree, conflicts or ["(a conflict without a path)"] * finished.code


async def _checkouts(repository: Repo, ref: str) -> list[Path]:
    """List the work trees, main or linked, that have `ref` checked out and still exist."""
    # Half-made worktrees of somebody else make `worktree list` fail, so it waits for them.
    async with locked(repository.git_dir / "bough-worktrees.lock"):
        listing = await git(repository.root, "worktree", "list", "--porcelain", "-z")
    found: list[Path] = []
    for place, record in enumerate(filter(None, listing.split("\0\0"))):
        first, *lines = record.strip("\0").split("\0")
        path = Path(first.removeprefix("worktree ")) if place else repository.root
        if f"branch {ref}" in lines and (path / ".git").exists():
            found.append(path)
    return found


async def _refuse_if_dirty(checkout: Path, *, target: str, old: str, new: str) -> None:
    status = ("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
    changed = [line[3:] for line in (await git(checkout, *status)).split("\0") if line]
    if changed:
        # A merge that was killed before it moved the ref left exactly its own result here.
        same = ("diff", "--no-ext-diff", "--quiet", new)
        files, index = await run(checkout, *same), await run(checkout, *same, "--cached")
        if files.code or index.code:
            advice = "commit or stash it there, then merge again"
            message = f"{target} is checked out in {checkout} with {len(changed)} uncommitted"
            raise TargetDirty(f"{message} changes ({quoted(changed)}); {advice}")
        return
    compare = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A")
    added = await git(checkout, *compare, old, new)
    in_the_way = [path for path in added.split("\0") if path and os.path.lexists(checkout / path)]
    if in_the_way:
        message = f"{len(in_the_way)} files in {checkout} that git does not track are in the way"
        raise TargetDirty(
            f"{message} of the merge into {target} ({quoted(in_the_way)}); move them away"
        )


async def _forward(checkout: Path, *, ref: str, old: str, new: str) -> bool:
    """Bring a clean checkout, its index and `ref` to `new`; False when the ref moved meanwhile."""
    options = ("--no-overwrite-ignore", "--no-autostash", "--no-verify-signatures", "--no-stat")
    finished = await run(checkout, "merge", "--ff-only", "-q", *options, new)
    now = await commit_of(checkout, ref)
    if now == new:
        return True
    if now != old or finished.code == 0:
        return False
    reason = failure(finished, ("merge",))
    raise TargetDirty(f"{checkout} cannot take the merge; {reason}") from reason


async def _place(repository: Repo, merged: Merged, *, dry_run: bool) -> bool:
    """Make the target's ref and its checkout, if any, the merge; False when the ref moved."""
    root, ref = repository.root, f"refs/heads/{merged.target}"
    old, new = merged.previous, merged.commit
    checkouts = await _checkouts(repository, ref)
    if len(checkouts) > 1:
        places = " and ".join(map(str, checkouts))
        raise TargetDirty(f"{merged.target} is checked out in {places}; leave it in one of them")
    for checkout in checkouts:
        await _refuse_if_dirty(checkout, target=merged.target, old=old, new=new)
    if dry_run:
        return True
    if checkouts:
        return await _forward(checkouts[0], ref=ref, old=old, new=new)
    args = ("update-ref", "-m", "bough: merge", ref, new, old)
    moved = await run(root, *args)
    if moved.code and await commit_of(root, ref) == old:
        raise failure(moved, args)
    return moved.code == 0


async def merge(
    repository: Repo,
    *,
    source: str,
    target: str,
    message: str,
    author_name: str,
    author_email: str,
    dry_run: bool = False,
) -> Merged:
    """Merge `source` (branch or commit) into the branch `target`, whether checked out or not.

    With `dry_run` all checks are made and the merge commit is written, but nothing refers to it.
    """
    root, target = repository.root, target.removeprefix("refs/heads/")
    who = {"message": message, "name": author_name, "email": author_email}
    async with locked(repository.git_dir / "bough-merge.lock"):
        for _ in range(_ATTEMPTS):
            theirs = await commit_of(root, source)
            old = await commit_of(root, f"refs/heads/{target}")
            if theirs is None or old is None:
                missing = f"commit or branch {source!r}" if theirs is None else f"branch {target!r}"
                raise NoCommit(f"{root} has no {missing}; see what it has: git -C {root} branch -a")
            if await is_ancestor(root, theirs, old):
                return Merged(target, old, old, fast_forward=False)
            tree, conflicts = await merge_trees(root, old, theirs)
            if conflicts:
                paths = f"{len(conflicts)} paths ({quoted(conflicts)})"
                text = f"{source} and {target} conflict in {paths}"
                raise MergeConflict(f"{text}; nothing was changed: resolve them first", conflicts)
            new = await commit_tree(root, tree, parents=(old, theirs), **who)
            merged = Merged(target, new, old, await is_ancestor(root, old, theirs))
            if await _place(repository, merged, dry_run=dry_run):
                return merged
    raise TargetMoved(f"{target} moved during {_ATTEMPTS} attempts to merge; try again")
