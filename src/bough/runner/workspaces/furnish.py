"""Brings what git leaves out into a new worktree: wanted ignored files, and submodules.

`.worktreeinclude` in the repository's main checkout lists, in the form of `.gitignore`, which of
its ignored files a worktree needs (`.env`, local settings): they are copied, never linked, so that
no agent writes into them. A submodule that the main checkout has gets a worktree of its own on the
agent's branch name, in the submodule's own repository: nothing is fetched, and what is committed
there stays when the worktree goes. When it breaks: GitError or OSError, one line.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path, PurePosixPath

from bough.runner.workspaces.git import GitError, commit_of, git, run
from bough.runner.workspaces.worktree import (
    READY,
    Workspace,
    discard,
    place_of,
    repair,
    tree_env,
)

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


async def missing_submodules(
    git_dir: Path, workspace: Workspace, admin: Path
) -> AsyncGenerator[Workspace]:
    """Each submodule that the repository at `git_dir` has a copy of and the worktree lists."""
    path, env = workspace.path, tree_env(admin, workspace.path)
    if not (git_dir / "modules").is_dir() or not (path / ".gitmodules").is_file():
        return
    wanted = ("config", "-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    for entry in (await run(path, *wanted, env=env)).out.split("\0"):
        key, _, place = entry.partition("\n")
        name = key.removeprefix("submodule.").removesuffix(".path")
        store = git_dir / "modules" / name
        if not entry or not _is_inside(name) or not _is_inside(place) or not store.is_dir():
            continue
        listed = (await git(path, "ls-tree", "HEAD", "--", place, env=env)).split()
        if listed[:2] != ["160000", "commit"]:
            continue
        if await commit_of(store, listed[2]) is None:
            advice = f"fetch it: git -C {workspace.repo} submodule update --init {place}"
            raise GitError(f"submodule {place} lacks its commit {listed[2][:10]}; {advice}")
        yield Workspace(path / place, workspace.branch, listed[2], store)


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not name.startswith("/")


def submodules_of(git_dir: Path, workspace: Workspace) -> list[tuple[Workspace, Path]]:
    """The submodules' worktrees inside a worktree, innermost first, each with its git directory.

    Taken from git's own records, whatever the agent wrote into its files.
    """
    found: list[tuple[Workspace, Path]] = []
    if not (git_dir / "modules").is_dir():
        return found
    for admin in git_dir.glob("modules/**/worktrees/*"):
        path, mark = place_of(admin), admin / READY
        if path and path.is_relative_to(workspace.path) and mark.exists():
            base = mark.read_text().strip()
            found.append((Workspace(path, workspace.branch, base, admin.parents[1]), admin))
    return sorted(found, key=lambda one: len(one[0].path.parts), reverse=True)


async def restore(git_dir: Path, workspace: Workspace, admin: Path) -> None:
    """Give back what was removed by hand: the worktree, then its submodules from outside in."""
    await repair(workspace.path, admin)
    for sub, own in reversed(submodules_of(git_dir, workspace)):
        if sub.path.is_dir() and not any(sub.path.iterdir()):
            sub.path.rmdir()
        await repair(sub.path, own)


async def discard_all(git_dir: Path, workspace: Workspace, admin: Path | None) -> None:
    """Delete a worktree with its submodules; whatever matters in them is in refs already."""
    for sub, own in submodules_of(git_dir, workspace):
        await discard(sub.path, own)
    await discard(workspace.path, admin)
