"""Finds what killed programs have left below our directories and in git's, and what is not ours.

Guarantees: only what no work can be in is swept: worktrees that were never ready, halves of
removals and repairs, snapshots that nobody takes any more. Whatever else is found is told and left
alone. Who is just making, saving or removing holds a lock, and is passed over.
When it breaks: GitError or OSError; sweeping again ends the same.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bough.runner.workspaces import pool
from bough.runner.workspaces.git import Busy, GitError, locked
from bough.runner.workspaces.removal import GONE, delete, hide, may_hold_work, names_of_the_gone
from bough.runner.workspaces.worktree import SNAPSHOT, WORKTREES_LOCK, admin_of

_STALE_S = 3600.0  # a snapshot or a repair takes seconds, and holds a lock besides
_OF_A_SNAPSHOT = {"index", "index.lock", "objects"}


@dataclass(frozen=True, slots=True)
class Leftover:
    """A directory that belongs to no agent. git_dir and admin are those of a worktree half made;
    `swept` says whether it may be deleted."""

    path: Path
    reason: str
    swept: bool
    git_dir: Path | None = None
    admin: Path | None = None


def leftovers(places: Iterable[Path], git_dirs: Iterable[Path], known: set[Path]) -> list[Leftover]:
    """All there is in the directories `places` of worktrees, in repositories, and for snapshots.

    `known` are the worktrees that belong to agents, living or ended.
    """
    repositories = list(git_dirs)
    found: list[Leftover] = []
    for place in places:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted(place.iterdir()):
                if path not in known and path.name != pool.FOLDER:
                    found.append(_in_home(path, repositories))
    for git_dir in repositories:
        why = "left by a removal that was killed"
        found += [Leftover(p, why, True) for p in git_dir.glob(f"{SNAPSHOT}{GONE}-*")]
        found += _snapshots(git_dir.glob(f"worktrees/*/{SNAPSHOT}*"))
    return found + list(_snapshots(Path(tempfile.gettempdir()).glob(f"{SNAPSHOT}*")))


def _in_home(path: Path, git_dirs: list[Path]) -> Leftover:
    if path.suffix == f".{GONE}":
        return Leftover(path, "left by a removal that was killed", True)
    if path.suffix == ".part":
        return Leftover(path, "left by a repair that was killed", _is_old(path.lstat()))
    git_dir, admin = _record_of(path, git_dirs)
    if git_dir and admin and not may_hold_work(path, admin):
        return Leftover(path, "half made by a runner that was killed", True, git_dir, admin)
    if admin:
        return Leftover(path, "no agent in this database has it", False)
    if path.is_dir() and not any(path.iterdir()):
        return Leftover(path, "empty", False)
    return Leftover(path, "not a worktree that git knows; save what you need and delete it", False)


def _record_of(path: Path, git_dirs: list[Path]) -> tuple[Path | None, Path | None]:
    """Git's common directory and its directory for the worktree at `path`, if they agree on it."""
    for git_dir in git_dirs:
        if admin := admin_of(git_dir, path):
            return git_dir, admin
    with contextlib.suppress(OSError):
        words = (path / ".git").read_bytes().removeprefix(b"gitdir: ").rstrip(b"\n")
        named = Path(os.fsdecode(words))
        if (admin := admin_of(named.parent.parent, path)) == named:
            return named.parent.parent, admin
    return None, None


def _snapshots(places: Iterable[Path]) -> Iterator[Leftover]:
    for place in places:
        with contextlib.suppress(OSError):
            stat = place.lstat()
            old, mine = (
                _is_old(stat),
                stat.st_uid == os.geteuid() and place.is_dir() and not place.is_symlink(),
            )
            if old and mine and set() < {p.name for p in place.iterdir()} <= _OF_A_SNAPSHOT:
                yield Leftover(place, "left by a snapshot that was killed", True)


def _is_old(stat: os.stat_result) -> bool:
    return time.time() - stat.st_mtime > _STALE_S


async def idle(leftover: Leftover) -> bool:
    """Say whether nobody is at it."""
    try:
        async with locked(leftover.path, patience_s=0):
            return True
    except GitError:
        return False


async def sweep(leftover: Leftover) -> bool:
    """Delete what may be deleted; False when somebody is at it and it was left."""
    path, git_dir, admin = leftover.path, leftover.git_dir, leftover.admin
    try:
        if git_dir and admin:
            return await _sweep_half_made(path, git_dir, admin)
        async with locked(path, patience_s=0):
            await delete(path)
    except Busy:
        return False
    except GitError:
        if path.exists():
            raise
    return True


async def _sweep_half_made(path: Path, git_dir: Path, admin: Path) -> bool:
    """Under both locks of a creator: whoever makes a worktree holds one of them all the time."""
    doomed = names_of_the_gone(git_dir, path, admin)
    for place in doomed:
        await delete(place)
    async with locked(git_dir / WORKTREES_LOCK), locked(path, patience_s=0):
        if may_hold_work(path, admin):
            return False
        hide(path, admin, doomed)
    for place in doomed:
        await delete(place)
    return True
