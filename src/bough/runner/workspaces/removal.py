"""Takes a worktree away once a ref reaches all that was in it.

Guarantees: uncommitted work and commits that nothing else reaches get rescue refs first, also when
the directory was removed by hand; one that somebody uses, has locked, or that holds what no ref
can keep (other repositories, work in submodules) stays as it is. Directories are renamed before
they are deleted: killed anywhere, removing again ends the same, and what is left of the names
`*.gone` and `bough-gone-*` is garbage. Call it only when the agent's processes have ended.
When it breaks: WorkspaceError, one line that says what keeps it; nothing is deleted then.
"""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

from bough.runner.workspaces.git import (
    Busy,
    commit_of,
    commit_tree,
    git,
    locked,
    quoted,
    rescue,
    run,
)
from bough.runner.workspaces.submodules import bring_home, set_aside, submodules_of
from bough.runner.workspaces.worktree import (
    READY,
    SNAPSHOT,
    WORKTREES_LOCK,
    Workspace,
    WorkspaceError,
    admin_of,
    commit_snapshot,
    mentioned,
    named,
    places,
    repair,
    snapshot,
    tree_env,
    tree_of,
)

log = logging.getLogger(__name__)
GONE = "gone"
"""How a directory ends, or in git's directory begins, that is only to be deleted."""


async def remove(workspace: Workspace, *, keep_branch: bool = True) -> None:
    """Delete the worktree, and the branch if told so, once a ref reaches all that was in it.

    Ignored files go. Refused, with nothing deleted: what `obstacle` names, or while somebody holds
    the worktree, as a runner does as long as it works there.
    """
    with named(f"{workspace.path} is not removed"):
        git_dir, admin = await places(workspace)
        async with alone(git_dir, workspace.path, admin) as admin:
            loose: list[str] = []
            if admin:
                why = await obstacle(workspace, admin)
                if why:
                    raise WorkspaceError(f"{workspace.path} {why}")
                loose = await _last_commits(workspace, admin)
            repo, ref = workspace.repo, f"refs/heads/{workspace.branch}"
            if not keep_branch:
                loose += [await commit_of(repo, ref) or "", *mentioned(git_dir / "logs" / ref)]
            agent, slug = workspace.branch.split("/")[1:]
            await rescue(repo, agent=agent, commits=loose, leaving="" if keep_branch else ref)
            for sub in submodules_of(workspace, admin) if admin else ():
                await set_aside(sub)
                await bring_home(sub)
            await vanish(git_dir, workspace.path, admin)
        if not keep_branch:
            doomed = ("--format=delete %(refname)", ref, f"refs/bough/base/{agent}/{slug}")
            orders = await git(repo, "for-each-ref", *doomed)
            await git(repo, "update-ref", "--stdin", input=orders)
    log.info("removed %s", workspace.path, extra={"event": "workspace.removed"})


@contextlib.asynccontextmanager
async def alone(git_dir: Path, path: Path, admin: Path | None) -> AsyncGenerator[Path | None]:
    """Hold a worktree against everybody; None inside when another has removed it meanwhile."""
    async with contextlib.AsyncExitStack() as stack:
        if admin:
            try:
                await stack.enter_async_context(locked(admin, patience_s=0))
            except Busy as error:
                message = f"{path} is in use by its runner or by another bough gc"
                raise WorkspaceError(f"{message}; try again when that has ended") from error
        yield admin_of(git_dir, path)


async def obstacle(workspace: Workspace, admin: Path) -> str | None:
    """Say what forbids to remove a worktree, as the end of a sentence; changes nothing."""
    path, env = workspace.path, tree_env(admin, workspace.path)
    if (admin / "locked").exists():
        return f"is locked; first run: git -C {workspace.repo} worktree unlock {path}"
    if not may_hold_work(path, admin):
        return None
    ours = {place for sub in submodules_of(workspace, admin) for place in (sub.space.path, sub.own)}
    busy = await _submodules_at_work(path, admin, ours)
    if path.is_dir():
        others = await run(path, "ls-files", "-z", "--others", "--exclude-standard", env=env)
        inside = [name[:-1] for name in others.out.split("\0") if name.endswith("/")]
        inside += [".git"] * (path / ".git").is_dir()
        if inside:
            return f"holds other repositories ({quoted(inside)}); move them away"
    if busy:
        return f"has submodules with work that was not pushed ({quoted(busy)}); push it first"
    return None


def may_hold_work(path: Path, admin: Path) -> bool:
    """Whether somebody can have been in a worktree: without the ready mark no agent was, but
    perhaps a person, who made it anew by hand; git writes the index when all files are there."""
    return (admin / READY).exists() or (path.is_dir() and (admin / "index").exists())


async def _submodules_at_work(path: Path, admin: Path, ours: set[Path]) -> list[str]:
    """Name the submodules whose repository lies here and holds what no remote of theirs has.

    Those that we made lose nothing: what they hold is brought home first.
    """
    listing = await run(path.parent, "ls-files", "-z", "--stage", env={"GIT_DIR": str(admin)})
    links = [line.split("\t", 1)[1] for line in listing.out.split("\0") if line[:6] == "160000"]
    places = {name: path / name for name in links if path / name not in ours}
    trees = {name: place for name, place in places.items() if os.path.lexists(place / ".git")}
    heads = [head.parent for head in (admin / "modules").rglob("HEAD")]
    theirs = [p for p in heads if (p / "objects").is_dir() and p not in ours]
    stores = {str(p.relative_to(admin)): p for p in theirs}
    busy: list[str] = []
    unpushed = ("rev-list", "-n", "1", "HEAD", "--branches", "--reflog", "--not", "--remotes")
    for name, place in {**stores, **trees}.items():
        asked = [await run(place, *unpushed)]
        if name in trees:
            asked.append(await run(place, "status", "--porcelain"))
        if any(answer.code or answer.out for answer in asked):
            busy.append(name)
    return busy


async def _last_commits(workspace: Workspace, admin: Path) -> list[str]:
    """Commit what is uncommitted, on no branch, and list every commit the worktree knows of."""
    repo, path = workspace.repo, workspace.path
    if not may_hold_work(path, admin):
        return []
    env = {"GIT_DIR": str(admin)}
    start = await commit_of(repo, "HEAD", env=env) or workspace.base_commit
    if not path.is_dir():
        staged = await _staged_tree(repo, admin)
        if staged is not None:
            unsaved = staged != await tree_of(repo, start)
            left = await _commit_staged(workspace, staged, start) if unsaved else start
            return [left, *mentioned(admin)]
    await repair(path, admin)
    async with snapshot(path, admin, keep=True) as shot:
        left = await _known(workspace, shot.tree, start) or await commit_snapshot(
            workspace, admin, shot, work=start, tip=None, **_who(path)
        )
    return [left, *mentioned(admin)]


async def _staged_tree(repo: Path, admin: Path) -> str | None:
    """Write what the index holds as a tree; None when there is none, or a conflict is open."""
    if not (admin / "index").exists():
        return None
    written = await run(repo, "write-tree", env={"GIT_DIR": str(admin)})
    return written.out.strip() if written.code == 0 else None


async def _commit_staged(workspace: Workspace, tree: str, parent: str) -> str:
    known = await _known(workspace, tree, parent)
    if known:
        return known
    return await commit_tree(workspace.repo, tree, parents=[parent], **_who(workspace.path))


def _who(path: Path) -> dict[str, str]:
    return {"name": "Bough", "email": "bough@localhost", "message": f"Left in {path}"}


async def _known(workspace: Workspace, tree: str, parent: str) -> str | None:
    """Find this very work under a rescue ref, where a removal that was killed has put it."""
    prefix = f"refs/bough/rescue/{workspace.branch.split('/')[1]}/"
    fields = ("for-each-ref", "--format=%(objectname) %(tree) %(parent)", prefix)
    for line in (await git(workspace.repo, *fields)).splitlines():
        commit, has, *parents = line.split()
        if has == tree and parents[:1] == [parent]:
            return commit
    return None


async def vanish(git_dir: Path, path: Path, admin: Path | None) -> None:
    """Take a worktree and git's record of it out of sight at once, then delete them."""
    doomed = names_of_the_gone(git_dir, path, admin)
    for place in doomed:
        await delete(place)
    async with locked(git_dir / WORKTREES_LOCK):
        hide(path, admin, doomed)
    for place in doomed:
        await delete(place)


def names_of_the_gone(git_dir: Path, path: Path, admin: Path | None) -> list[Path]:
    """What a worktree and git's directory for it are called while they are deleted."""
    record = [git_dir / f"{SNAPSHOT}{GONE}-{admin.name}"] if admin else []
    return [path.with_name(f"{path.name}.{GONE}"), *record]


def hide(path: Path, admin: Path | None, names: list[Path]) -> None:
    """Rename both; the caller holds the repository's lock."""
    if admin:
        (admin / READY).unlink(missing_ok=True)
    if os.path.lexists(path):
        path.rename(names[0])
    if admin and admin.exists():
        admin.rename(names[1])


async def delete(place: Path) -> None:
    """Delete a directory with all in it, read-only ones too; a link goes, never what it names."""
    await asyncio.to_thread(_delete, place)


def _delete(place: Path) -> None:
    if place.is_symlink() or place.is_file():
        place.unlink(missing_ok=True)
        return

    def unlock(_call: object, name: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)

    if place.exists():
        shutil.rmtree(place, onerror=unlock)
    shutil.rmtree(place, ignore_errors=True)
