"""Brings ignored files that a worktree needs into a new one.

`.worktreeinclude` in the repository's main checkout lists, in the form of `.gitignore`, which of
its ignored files a worktree needs (`.env`, local settings): they are copied, never linked, so that
no agent writes into them. When it breaks: GitError or OSError, one line.
"""

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from bough.runner.workspaces.git import git, run

INCLUDE = ".worktreeinclude"


async def include(root: Path, path: Path) -> list[str]:
    """Copy the ignored files that `.worktreeinclude` names from the checkout at `root`."""
    if not (root / INCLUDE).is_file():
        return []
    listing = ("ls-files", "-z", "--others", "--ignored", f"--exclude-from={INCLUDE}")
    named = await git(root, *listing)
    # Both: a file that git does not ignore would look like work of the agent.
    ignored = await run(root, "check-ignore", "-z", "--stdin", input=named)
    files = [name for name in ignored.out.split("\0") if name and not name.endswith("/")]
    return await asyncio.to_thread(_copy, root, path, files)


def _copy(root: Path, path: Path, names: Iterable[str]) -> list[str]:
    copied: list[str] = []
    inside = path.resolve()
    for name in names:
        source, target = root / name, path / name
        # What the commit has wins, and a linked directory in it must not lead out of the worktree.
        if os.path.lexists(target) or not target.parent.resolve().is_relative_to(inside):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
        copied.append(name)
    return copied
