"""Spare worktrees: made ahead of time, so that a new agent does not wait for a whole checkout.

A spare lies in `.spare` beside the repository's workspaces, detached at some commit, and was never
given to anybody. Taking one renames it and its git directory and writes only the files in which
the wanted commit differs. Guarantees: one spare goes to one agent; killed anywhere, what is left is
a workspace or spare without its ready mark, which the next `create` or `fill` clears away.
When it breaks: `take` returns None or raises GitError or OSError with nothing given away.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
from pathlib import Path

from bough.runner.workspaces.git import Busy, Repo, locked
from bough.runner.workspaces.worktree import (
    READY,
    WORKTREES_LOCK,
    Workspace,
    commit_in,
    discard,
    place_of,
    read_files,
    register,
    write_line,
)

FOLDER = ".spare"
_NAME = "bough-spare-"
_FREE_PART = 0.1  # of the disk; below it no spare is made


def _spares(git_dir: Path, folder: Path, names: str = f"{_NAME}*") -> list[tuple[Path, Path]]:
    """Each spare's git directory and directory, whole or not."""
    found: list[tuple[Path, Path]] = []
    for admin in sorted(git_dir.glob(f"worktrees/{names}")):
        path = place_of(admin)
        if path is not None and path.parent == folder:
            found.append((admin, path))
    return found


def _whole(git_dir: Path, admin: Path, path: Path) -> bool:
    """Say whether a spare is complete and as sparse as the repository is now."""
    pattern = Path("info", "sparse-checkout")
    ours, theirs = (d / pattern for d in (admin, git_dir))
    same = (ours.read_bytes() if ours.exists() else b"") == (
        theirs.read_bytes() if theirs.exists() else b""
    )
    return same and (admin / READY).exists() and (path / ".git").is_file()


def take(git_dir: Path, workspace: Workspace, wanted: str) -> Path | None:
    """Turn a spare, if there is one, into the workspace at the commit `wanted`: its git directory.

    The caller holds the repository's lock; the files follow with `read_files`, after it.
    """
    path = workspace.path
    whole = [s for s in _spares(git_dir, path.parent / FOLDER) if _whole(git_dir, *s)]
    # The one at the very commit needs no file written.
    whole.sort(key=lambda spare: commit_in(spare[0]) != wanted)
    for spare, where in whole:
        admin = git_dir / "worktrees" / path.name
        if os.path.lexists(admin):
            return None
        # In this order a kill leaves either a spare without its mark, or a workspace without.
        (spare / READY).unlink()
        if path.is_dir():
            path.rmdir()
        spare.rename(admin)
        write_line(admin / "gitdir", os.fsencode(path / ".git"))
        where.rename(path)
        write_line(path / ".git", b"gitdir: " + os.fsencode(admin))
        shutil.rmtree(admin / "logs", ignore_errors=True)
        return admin
    return None


async def fill(repository: Repo, folder: Path, *, commit: str, size: int) -> int:
    """Make spares at `commit` until there are `size`, remove broken ones and what is too many.

    `folder` holds the repository's workspaces. How many were made; none when the disk is nearly
    full. Raises GitError or OSError; cancelled, it leaves nothing half made.
    """
    spare = folder / FOLDER
    await _sweep(repository.git_dir, spare, keep=size)
    made = 0
    while len(_spares(repository.git_dir, spare)) < size:
        spare.mkdir(parents=True, exist_ok=True)
        disk = await asyncio.to_thread(shutil.disk_usage, spare)
        if disk.free < disk.total * _FREE_PART:
            break
        await _make(repository, spare / f"{_NAME}{secrets.token_hex(4)}", commit)
        made += 1
    return made


async def _make(repository: Repo, path: Path, commit: str) -> None:
    git_dir = repository.git_dir
    lock = git_dir / WORKTREES_LOCK
    making = contextlib.AsyncExitStack()
    admin: Path | None = None
    async with making:
        try:
            async with locked(lock):
                admin = await register(repository.root, git_dir, path, "--detach", commit)
                await making.enter_async_context(locked(path, patience_s=0))
            await read_files(path, admin, commit)
            (admin / READY).touch()
        except BaseException:
            async with locked(lock):
                await discard(path, admin)
            _forget(path.parent)
            raise


async def _sweep(git_dir: Path, spare: Path, *, keep: int) -> None:
    async with locked(git_dir / WORKTREES_LOCK):
        known: set[Path] = set()
        # Taken half-way, a spare's git directory has its new name already.
        for admin, path in _spares(git_dir, spare, "*"):
            known.add(path)
            whole = _whole(git_dir, admin, path)
            if whole and keep > 0:
                keep -= 1
                continue
            with contextlib.suppress(Busy):  # held: somebody is writing its files just now
                if whole or not path.is_dir():
                    await discard(path, admin)
                    continue
                async with locked(path, patience_s=0):
                    await discard(path, admin)
        for path in spare.iterdir() if spare.is_dir() else ():
            if path not in known:  # taken half-way, before it was renamed
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


async def drain(git_dir: Path, folder: Path) -> None:
    """Remove every spare."""
    await _sweep(git_dir, folder / FOLDER, keep=0)
    _forget(folder / FOLDER)


def _forget(spare: Path) -> None:
    with contextlib.suppress(OSError):  # others may be making one
        spare.rmdir()
