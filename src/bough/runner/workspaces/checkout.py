"""A work tree for a moment, in which hooks and gates see a merge before anything moves.

Guarantees: it lies outside the repository and no branch knows of it; the lock on making worktrees
is held while it is made and removed, not while it is used. What a kill leaves is removed by the
next one. When it breaks: GitError.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from bough.runner.workspaces.git import Busy, GitError, Repo, git, locked
from bough.runner.workspaces.target import WORKTREES_LOCK
from bough.runner.workspaces.worktree import discard, tree_env

_PREFIX = "bough-merge-"


@contextlib.asynccontextmanager
async def checked_out(repository: Repo, commit: str, *, files: str) -> AsyncGenerator[Path]:
    """A detached work tree at `commit` with the files of the tree or commit `files` in its index.

    Its path is the one thing that is given; it is removed with all that is in it.
    """
    place = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    admin: Path | None = None
    try:
        async with locked(place):  # who cleans up leaves alone what is locked
            async with locked(repository.git_dir / WORKTREES_LOCK):
                await _clear_leftovers(repository)
                tree = place / place.name
                args = ("worktree", "add", "-q", "--no-checkout", "--detach", str(tree), commit)
                await git(repository.root, *args)
                admin = repository.git_dir / "worktrees" / place.name
            await git(tree, "read-tree", "--reset", "-u", files, env=tree_env(admin, tree))
            yield tree
    except OSError as error:
        raise GitError(f"cannot check the merge out in {place}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            async with locked(repository.git_dir / WORKTREES_LOCK):
                await discard(place, admin)


async def _clear_leftovers(repository: Repo) -> None:
    for admin in repository.git_dir.glob(f"worktrees/{_PREFIX}*"):
        with contextlib.suppress(OSError, Busy):
            tree = Path(os.fsdecode((admin / "gitdir").read_bytes().rstrip(b"\n"))).parent
            if not tree.parent.is_dir():
                shutil.rmtree(admin)
            elif tree.name == tree.parent.name == admin.name:
                async with locked(tree.parent, patience_s=0):
                    await discard(tree.parent, admin)
