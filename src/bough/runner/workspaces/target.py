"""The branch that takes a merge: its checkout if there is one, and how both move together.

Guarantees: the branch moves by compare and swap, so nothing that landed meanwhile is lost; where it
is checked out, files and index move first and the ref last, so a kill leaves the merge's files in
front of the old commit, never the old files in front of the merge, which the next commit would
silently undo. Moving again finishes what a kill left. Work in the checkout is never touched.
When it breaks: TargetDirty, nothing has changed; GitError.
"""

import asyncio
import hashlib
import os
from pathlib import Path

from bough.runner.workspaces.git import (
    GitError,
    Repo,
    commit_of,
    failure,
    git,
    locked,
    quoted,
    run,
)

WORKTREES_LOCK = "bough-worktrees.lock"
_LOOKS, _LOOK_S = 40, 0.05  # how often we look whether another git is still at work there


class TargetDirty(GitError):
    """The checkout of the target branch holds work that the merge would touch."""


class TargetMoved(GitError):
    """The target branch kept moving under the merge."""


def lock_of(repository: Repo, target: str) -> Path:
    """The file whose flock is held by whoever merges into `target`; its directory exists."""
    place = repository.git_dir / "bough-merge"
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise GitError(f"cannot make {place}: {error.strerror}") from error
    return place / f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}.lock"


async def checkout_of(repository: Repo, target: str) -> Path | None:
    """Find the work tree, main or linked, that has `target` checked out. Raises TargetDirty."""
    # Half-made worktrees of somebody else make `worktree list` fail, so it waits for them.
    async with locked(repository.git_dir / WORKTREES_LOCK):
        listing = await git(repository.root, "worktree", "list", "--porcelain", "-z")
    found: list[Path] = []
    for number, record in enumerate(filter(None, listing.split("\0\0"))):
        first, *lines = record.strip("\0").split("\0")
        path = Path(first.removeprefix("worktree ")) if number else repository.root
        if f"branch refs/heads/{target}" in lines and (path / ".git").exists():
            found.append(path)
    if len(found) > 1:
        places = " and ".join(map(str, found))
        raise TargetDirty(f"{target} is checked out in {places}; leave it in one of them")
    return found[0] if found else None


async def _names(where: Path, *args: str) -> list[str]:
    return [path for path in (await git(where, *args)).split("\0") if path]


async def _changed(checkout: Path) -> list[str]:
    status = ("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
    return [line[3:] for line in await _names(checkout, *status)]


async def refuse_if_in_the_way(checkout: Path, target: str, old: str, new: str) -> None:
    """Refuse to overwrite a file that git does not track."""
    compare = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A")
    added = await _names(checkout, *compare, old, new)
    in_the_way = [path for path in added if os.path.lexists(checkout / path)]
    if in_the_way:
        message = f"{len(in_the_way)} files in {checkout} that git does not track are in the way"
        raise TargetDirty(
            f"{message} of the merge into {target} ({quoted(in_the_way)}); move them away"
        )


async def refuse_if_dirty(checkout: Path, target: str, old: str, new: str) -> None:
    """Refuse what would touch somebody's work; what a killed merge to `new` left is none."""
    changed = await _changed(checkout)
    if not changed:
        await refuse_if_in_the_way(checkout, target, old, new)
    elif not await _is_left_by(checkout, new):
        message = f"{target} is checked out in {checkout} with {len(changed)} uncommitted"
        advice = "commit or stash it there, then merge again"
        raise TargetDirty(f"{message} changes ({quoted(changed)}); {advice}")


async def _is_left_by(checkout: Path, new: str) -> bool:
    """Say whether files and index are those of the merge already, and only the ref is not."""
    same = ("diff", "--no-ext-diff", "--quiet", new)
    files, index = await run(checkout, *same), await run(checkout, *same, "--cached")
    return not files.code and not index.code


async def mend(checkout: Path, old: str, new: str) -> bool:
    """Take back what a merge from `old` to `new` left when it was killed among the files.

    Done only when every file that differs from `old` is that of `new`, byte for byte: then
    nobody's work is there. False when there was nothing to do or it is somebody's work.
    """
    compare = ("diff-tree", "-r", "-z", "--name-only", "--no-renames")
    moved = await _names(checkout, *compare, old, new)
    added = set(await _names(checkout, *compare, "--diff-filter=A", old, new))
    left = set(await _changed(checkout))
    left |= {path for path in added if os.path.lexists(checkout / path)}
    if not left or not left <= set(moved) or await _is_left_by(checkout, new):
        return False
    for path in left:
        if not await _is_file_of(checkout, path, new):
            return False
    await git(checkout, "read-tree", "--reset", old)
    for path in left & added:
        (checkout / path).unlink(missing_ok=True)
    await git(checkout, "checkout-index", "-f", "-z", "--stdin", input="\0".join(left - added))
    return not await _changed(checkout)


async def _is_file_of(checkout: Path, path: str, commit: str) -> bool:
    blob = await run(checkout, "rev-parse", "-q", "--verify", f"{commit}:{path}")
    if not os.path.lexists(checkout / path):
        return blob.code != 0
    if blob.code != 0 or (checkout / path).is_symlink() or not (checkout / path).is_file():
        return False
    return (await git(checkout, "hash-object", "--", path)).strip() == blob.out.strip()


async def _no_other_git(checkout: Path) -> None:
    """Wait a moment for a git that is at work here, such as the one of a merge that was killed."""
    admin = checkout / ".git"
    if admin.is_file():
        admin = Path(os.fsdecode(admin.read_bytes()).removeprefix("gitdir: ").rstrip("\n"))
    for _ in range(_LOOKS):
        if not (admin / "index.lock").exists():
            return
        await asyncio.sleep(_LOOK_S)


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


async def ready(repository: Repo, target: str, *, old: str, new: str) -> Path | None:
    """The target's checkout, if there is one, which can go from `old` to `new`; changes nothing.

    Raises TargetDirty.
    """
    checkout = await checkout_of(repository, target)
    if checkout:
        await _no_other_git(checkout)
        await refuse_if_dirty(checkout, target, old, new)
    return checkout


async def move(repository: Repo, target: str, checkout: Path | None, *, old: str, new: str) -> bool:
    """Make the target's ref and its checkout, as `ready` gave it, the commit `new`.

    False when the ref was not `old` any more. Raises TargetDirty, GitError.
    """
    ref = f"refs/heads/{target}"
    if checkout:
        return await _forward(checkout, ref=ref, old=old, new=new)
    args = ("update-ref", "-m", "bough: merge", ref, new, old)
    moved = await run(repository.root, *args)
    if moved.code and await commit_of(repository.root, ref) == old:
        raise failure(moved, args)
    return moved.code == 0
