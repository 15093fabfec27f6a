"""Gives each agent a git worktree and branch of its own, and keeps what the agent leaves there.

Guarantees: a workspace exists whole or not at all, also when its creator is killed half-way (the
next `create` clears that away: without the ready mark no agent was ever in it); whatever state the
agent leaves (detached, other branch, moved back, half a merge or rebase, stale locks), no commit
and no file is lost that git does not ignore: it is in the branch or under
`refs/bough/rescue/<agent>/`. Call `commit_rest` and `remove` only when the
agent's processes have ended; `changes` and `diff` at any time.
When it breaks: WorkspaceError, one line; nothing is deleted on the way there.
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

from bough.runner.workspaces.changes import Change, changes, diff
from bough.runner.workspaces.git import (
    Busy,
    GitError,
    Repo,
    commit_of,
    commit_tree,
    git,
    is_ancestor,
    locked,
    quoted,
    rescue,
    run,
)
from bough.runner.workspaces.trees import merge_trees
from bough.runner.workspaces.worktree import (
    READY,
    Snapshot,
    Workspace,
    WorkspaceError,
    admin_of,
    commit_snapshot,
    discard,
    end_what_is_under_way,
    mentioned,
    named,
    places,
    register,
    repair,
    snapshot,
    tree_env,
    tree_of,
)

__all__ = [
    "Change",
    "Workspace",
    "WorkspaceError",
    "changes",
    "commit_rest",
    "create",
    "diff",
    "location",
    "remove",
]

log = logging.getLogger(__name__)

_LOCK = "bough-worktrees.lock"
_PATIENCE_SECONDS = 120.0
_FULL_BYTES = 1 << 20


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
    start = await commit_of(root, base)
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
    root, path, lock = workspace.repo, workspace.path, repository.git_dir / _LOCK
    async with contextlib.AsyncExitStack() as making:
        async with locked(lock):
            admin = admin_of(repository.git_dir, path)
            if path.is_dir():
                await making.enter_async_context(locked(path, patience_s=0))
            if admin and (admin / READY).exists():
                await repair(path, admin)
                return workspace
            if admin:
                await discard(path, admin)
            if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
                raise WorkspaceError(f"{path} is in the way and no workspace; move it elsewhere")
            try:
                orders = "".join(f"create {ref} {commit}\n" for ref, commit in refs.items())
                await git(root, "update-ref", "--stdin", input=orders)
                admin = await register(repository.git_dir, workspace)
                await making.enter_async_context(locked(path, patience_s=0))
            except BaseException:
                await _undo(repository, path, refs)
                raise
        try:  # the slow part, writing the files, holds only this directory's lock
            await git(path, "reset", "--hard", "-q", env=tree_env(admin, path))
            (admin / READY).touch()
        except BaseException as error:
            free = _FULL_BYTES
            with contextlib.suppress(OSError):  # git itself does not say why it could not write
                free = shutil.disk_usage(path).free
            async with locked(lock):
                await _undo(repository, path, refs)
            if isinstance(error, GitError) and free < _FULL_BYTES:
                raise WorkspaceError(f"the disk is full: {free} bytes free; {error}") from error
            raise
    log.info("made %s", path, extra={"event": "workspace.created"})
    return workspace


async def _undo(repository: Repo, path: Path, refs: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        await discard(path, admin_of(repository.git_dir, path))
    orders = "".join(f"delete {ref} {commit}\n" for ref, commit in refs.items())
    await run(repository.root, "update-ref", "--stdin", input=orders)


async def _joined(
    workspace: Workspace, admin: Path, *, work: str, tip: str | None, **who: str
) -> str:
    """Choose what the branch becomes: a commit that contains what was left and the branch's tip.

    Where these conflict the branch takes what was left, except in mid-rebase, where it keeps its
    tip; the other side is for the caller to rescue.
    """
    repo = workspace.repo
    if tip is None or await is_ancestor(repo, tip, work):
        return work
    if await is_ancestor(repo, work, tip):
        return tip
    if (admin / "rebase-merge").exists() or (admin / "rebase-apply").exists():
        return tip
    try:
        tree, conflicts = await merge_trees(repo, tip, work)
    except GitError:  # nothing in common: as good as a conflict
        return work
    return work if conflicts else await commit_tree(repo, tree, parents=[tip, work], **who)


async def commit_rest(
    workspace: Workspace, *, message: str, author_name: str, author_email: str
) -> str:
    """Commit everything the agent left, put its branch and HEAD there, return that commit.

    The branch ends up containing the work, wherever HEAD was. What neither the branch nor any other
    ref reaches (HEAD moved back, amended, half a rebase, a conflicting side) gets a rescue ref
    first. Repositories that the agent made inside its worktree stay as they are, uncommitted.
    """
    who = {"message": message, "name": author_name, "email": author_email}
    with named(f"what is left in {workspace.path} is not committed"):
        git_dir, admin = await places(workspace)
        if admin is None:
            raise WorkspaceError(f"{workspace.path} is gone; create the workspace again first")
        await repair(workspace.path, admin)
        async with snapshot(workspace.path, admin, keep=True) as shot:
            new = await _settle(workspace, git_dir, admin, shot, **who)
    if shot.nested:
        text, event = "left out repositories inside %s: %s", "workspace.nested_skipped"
        log.warning(text, workspace.path, quoted(shot.nested), extra={"event": event})
    return new


async def _settle(
    workspace: Workspace, git_dir: Path, admin: Path, shot: Snapshot, **who: str
) -> str:
    """Move the branch, then the files, then HEAD; killed anywhere, doing it again ends the same."""
    repo, path, ref = workspace.repo, workspace.path, f"refs/heads/{workspace.branch}"
    env = tree_env(admin, path)
    tip, head = await commit_of(repo, ref), await commit_of(path, "HEAD", env=env)
    start = head or tip or workspace.base_commit
    work = await commit_snapshot(workspace, admin, shot, work=start, tip=tip, **who)
    new = await _joined(workspace, admin, work=work, tip=tip, **who)
    loose = [work, tip or "", *mentioned(admin, git_dir / "logs" / ref)]
    agent = workspace.branch.split("/")[1]
    await rescue(repo, agent=agent, commits=loose, reached_by=new, leaving=ref)
    for lock in (admin / "index.lock", admin / "HEAD.lock", git_dir / f"{ref}.lock"):
        lock.unlink(missing_ok=True)
    if new != tip:
        await git(repo, "update-ref", "-m", "bough: commit", ref, new, tip or "0" * len(new))
    shot.index.replace(admin / "index")
    if shot.tree != await tree_of(repo, new):
        await git(path, "read-tree", "--reset", "-u", new, env=env)
    await git(path, "symbolic-ref", "HEAD", ref, env=env)
    end_what_is_under_way(admin)
    return new


async def remove(workspace: Workspace, *, keep_branch: bool = True) -> None:
    """Delete the worktree, and the branch if told so, once a ref reaches all that was in it.

    Uncommitted work and commits that nothing else reaches get rescue refs first; ignored files go.
    Refused, with nothing deleted: locked by `git worktree lock`, or with a repository inside.
    """
    with named(f"{workspace.path} is not removed"):
        git_dir, admin = await places(workspace)
        loose = await _last_commits(workspace, admin) if admin else []
        repo, ref = workspace.repo, f"refs/heads/{workspace.branch}"
        if not keep_branch:
            loose += [await commit_of(repo, ref) or "", *mentioned(git_dir / "logs" / ref)]
        agent, slug = workspace.branch.split("/")[1:]
        await rescue(repo, agent=agent, commits=loose, leaving="" if keep_branch else ref)
        async with locked(git_dir / _LOCK):
            await discard(workspace.path, admin)
        if not keep_branch:
            doomed = ("--format=delete %(refname)", ref, f"refs/bough/base/{agent}/{slug}")
            orders = await git(repo, "for-each-ref", *doomed)
            await git(repo, "update-ref", "--stdin", input=orders)
    log.info("removed %s", workspace.path, extra={"event": "workspace.removed"})


async def _last_commits(workspace: Workspace, admin: Path) -> list[str]:
    """Commit what is uncommitted, on no branch, and list every commit the worktree knows of."""
    repo, path = workspace.repo, workspace.path
    if (admin / "locked").exists():
        raise WorkspaceError(f"{path} is locked; first run: git -C {repo} worktree unlock {path}")
    if not (admin / READY).exists():
        return []
    await repair(path, admin)
    who = {"name": "Bough", "email": "bough@localhost", "message": f"Left in {path}"}
    async with snapshot(path, admin, keep=True) as shot:
        if shot.nested:
            inside = quoted(shot.nested)
            raise WorkspaceError(f"{path} holds other repositories ({inside}); move them away")
        head = await commit_of(path, "HEAD", env=tree_env(admin, path))
        start = head or workspace.base_commit
        left = await commit_snapshot(workspace, admin, shot, work=start, tip=None, **who)
    return [left, *mentioned(admin)]
