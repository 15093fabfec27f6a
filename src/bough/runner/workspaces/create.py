"""Makes an agent's worktree and branch, once, whole or not at all.

Branch and base note are made in one step with the worktree, under the repository's lock; its files
follow under the lock of its own directory, so that slow checkouts run side by side. Without the
ready mark no agent was ever in it: the next `create` clears a half one away. On any failure,
cancellation too, nothing is left. When it breaks: WorkspaceError, one line.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import shutil
import unicodedata
from pathlib import Path

from bough.runner.workspaces import pool
from bough.runner.workspaces.furnish import include
from bough.runner.workspaces.git import (
    Busy,
    GitError,
    Repo,
    commit_of,
    git,
    locked,
    run,
)
from bough.runner.workspaces.submodules import populate, restore
from bough.runner.workspaces.worktree import (
    READY,
    WORKTREES_LOCK,
    Workspace,
    WorkspaceError,
    admin_of,
    discard,
    named,
    point_head,
    read_files,
    register,
)

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 120.0
_FULL_BYTES = 1 << 20
_WHOLE_ID = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "task"


def _key(agent_id: str) -> str:
    bare = agent_id.replace("-", "").lower()
    return (
        bare if re.fullmatch("[0-9a-f]{16,}", bare) else hashlib.sha256(bare.encode()).hexdigest()
    )


def location(home: Path, repo_git_dir: Path, agent_id: str, slug_of: str) -> tuple[Path, str]:
    """Say where an agent's worktree goes and what its branch is called; touches nothing."""
    name = repo_git_dir.parent.name if repo_git_dir.name == ".git" else repo_git_dir.stem
    place = hashlib.sha256(os.fsencode(repo_git_dir)).hexdigest()[:8]
    short, slug = _key(agent_id)[:8], _slug(slug_of)
    path = home / "worktrees" / f"{_slug(name)}-{place}" / f"{short}-{slug}"
    return path, f"bough/{short}/{slug}"


async def create(repository: Repo, *, agent_id: str, task: str, home: Path, base: str) -> Workspace:
    """Make the agent's worktree and branch at the commit `base`, or return the one it has.

    One that was removed by hand comes back as git last knew it, or from its branch. On any failure,
    cancellation too, nothing is left; WorkspaceError says the reason.
    """
    until = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    with named(f"no workspace for agent {agent_id} under {home}"):
        while True:
            try:
                found = await _find(repository, agent_id, task, home=home.resolve(), base=base)
                return await _create(repository, *found)
            except Busy:  # another program is making this very workspace
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(0.02)


async def _find(
    repository: Repo, agent_id: str, task: str, *, home: Path, base: str
) -> tuple[Workspace, dict[str, str]]:
    """Choose the workspace, and the refs to make for it: its branch and the note of its base.

    The note carries the whole id, so that two agents whose ids begin alike never share a branch.
    """
    root, key = repository.root, _key(agent_id)
    # A whole id needs no look-up: the ref for it is refused when it is no commit.
    start = base if _WHOLE_ID.fullmatch(base) else await commit_of(root, base)
    spots: list[tuple[Path, str, str]] = []
    for text in (task, f"{key[8:16]} {task}"):
        path, branch = location(home, repository.git_dir, agent_id, text)
        spots.append((path, branch, f"refs/bough/base/{branch.removeprefix('bough/')}"))
    patterns = [name for _, branch, note in spots for name in (f"refs/heads/{branch}", note)]
    listing = await git(root, "for-each-ref", "--format=%(refname) %(objectname)", *patterns)
    refs = dict(line.split(" ") for line in listing.splitlines())
    own = [spot for spot in spots if f"{spot[2]}/{key}" in refs]
    free = [spot for spot in spots if not any(ref.startswith(spot[2]) for ref in refs)]
    free = [spot for spot in free if f"refs/heads/{spot[1]}" not in refs]
    if not own and not free:
        raise WorkspaceError(f"{spots[1][1]} belongs to another agent; rename that branch")
    path, branch, note = (own or free)[0]
    base_commit = refs.get(f"{note}/{key}", start)
    if base_commit is None:
        raise WorkspaceError(f"{root} has no commit {base!r}; name a branch or commit of it")
    needed = dict.fromkeys((f"refs/heads/{branch}", f"{note}/{key}"), base_commit)
    missing = {name: commit for name, commit in needed.items() if name not in refs}
    return Workspace(path, branch, base_commit, root), missing


async def _create(repository: Repo, workspace: Workspace, refs: dict[str, str]) -> Workspace:
    path, git_dir = workspace.path, repository.git_dir
    async with contextlib.AsyncExitStack() as making:
        async with locked(git_dir / WORKTREES_LOCK):
            admin = admin_of(git_dir, path)
            if path.is_dir():
                async with locked(path, patience_s=0):
                    pass  # nobody is writing its files, and under our lock nobody can begin to
            if admin and (admin / READY).exists():
                await restore(workspace, admin)
                return workspace
            if admin:
                await discard(path, admin)
            if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
                raise WorkspaceError(f"{path} is in the way and no workspace; move it elsewhere")
            try:
                admin = await _register(git_dir, workspace, refs)
                await making.enter_async_context(locked(path, patience_s=0))
            except BaseException:
                await _undo(repository, workspace, refs)
                raise
        try:  # the slow part holds only this directory's lock
            await read_files(path, admin, _wanted(workspace, refs))
            point_head(admin, workspace.branch)
            await populate(workspace, admin, git_dir / "modules")
            await include(workspace.repo, path)
            (admin / READY).touch()
        except BaseException as error:
            free = _FULL_BYTES
            with contextlib.suppress(OSError):  # git itself does not say why it could not write
                free = shutil.disk_usage(path).free
            async with locked(git_dir / WORKTREES_LOCK):
                await _undo(repository, workspace, refs)
            if isinstance(error, GitError | OSError) and free < _FULL_BYTES:
                raise WorkspaceError(f"the disk is full: {free} bytes free; {error}") from error
            raise
    log.info("made %s", path, extra={"event": "workspace.created"})
    return workspace


def _wanted(workspace: Workspace, refs: dict[str, str]) -> str:
    """What the branch is at, or will be once `refs` are made."""
    ref = f"refs/heads/{workspace.branch}"
    return refs.get(ref, ref)


async def _register(git_dir: Path, workspace: Workspace, refs: dict[str, str]) -> Path:
    """Make the refs and a worktree without files, or take a spare; git's directory for it."""
    orders = "".join(f"create {ref} {commit}\n" for ref, commit in refs.items())
    naming = ("update-ref", "--stdin")
    wanted = _wanted(workspace, refs)
    spare = pool.take(git_dir, workspace, wanted)
    if spare:
        await git(workspace.repo, *naming, input=orders)
        return spare
    # Side by side: neither needs the other, and each costs the start of a process or two.
    placing = register(workspace.repo, git_dir, workspace.path, "--detach", wanted)
    placed = asyncio.create_task(placing)
    try:
        await git(workspace.repo, *naming, input=orders)
        return await placed
    finally:
        placed.cancel()
        await asyncio.gather(placed, return_exceptions=True)


async def _undo(repository: Repo, workspace: Workspace, refs: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        await discard(workspace.path, admin_of(repository.git_dir, workspace.path))
    orders = "".join(f"delete {ref} {commit}\n" for ref, commit in refs.items())
    await run(repository.root, "update-ref", "--stdin", input=orders)
