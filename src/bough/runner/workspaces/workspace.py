"""Keeps what an agent leaves in its worktree; the face of all that is done with one.

Guarantees: a workspace exists whole or not at all (see `create`); whatever state the
agent leaves (detached, other branch, moved back, half a merge or rebase, stale locks), no commit
and no file is lost that git does not ignore: it is in the branch or under
`refs/bough/rescue/<agent>/`. Call `commit_rest` and `remove` only when the
agent's processes have ended; `changes` and `diff` at any time.
When it breaks: WorkspaceError, one line; nothing is deleted on the way there.
"""

import logging
from pathlib import Path

from bough.runner.workspaces.changes import Change, changes, diff
from bough.runner.workspaces.create import create, location
from bough.runner.workspaces.git import (
    GitError,
    commit_of,
    commit_tree,
    git,
    is_ancestor,
    quoted,
    rescue,
)
from bough.runner.workspaces.removal import remove
from bough.runner.workspaces.submodules import bring_home, restore, submodules_of
from bough.runner.workspaces.trees import merge_trees
from bough.runner.workspaces.worktree import (
    Snapshot,
    Workspace,
    WorkspaceError,
    commit_snapshot,
    end_what_is_under_way,
    mentioned,
    named,
    places,
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
        await restore(workspace, admin)
        # Innermost first: what contains a submodule records the commit that it is at.
        for sub in submodules_of(workspace, admin):
            await _commit(sub.space, sub.own, sub.own, sub.mentions(), **who)
            await bring_home(sub)
        spoken_of = mentioned(admin, git_dir / "logs" / f"refs/heads/{workspace.branch}")
        return await _commit(workspace, git_dir, admin, spoken_of, **who)


async def _commit(
    workspace: Workspace, git_dir: Path, admin: Path, spoken_of: list[str], **who: str
) -> str:
    async with snapshot(workspace.path, admin, keep=True) as shot:
        new = await _settle(workspace, git_dir, admin, shot, spoken_of, **who)
    if shot.nested:
        text, event = "left out repositories inside %s: %s", "workspace.nested_skipped"
        log.warning(text, workspace.path, quoted(shot.nested), extra={"event": event})
    return new


async def _settle(
    workspace: Workspace,
    git_dir: Path,
    admin: Path,
    shot: Snapshot,
    spoken_of: list[str],
    **who: str,
) -> str:
    """Move the branch, then the files, then HEAD; killed anywhere, doing it again ends the same."""
    repo, path, ref = workspace.repo, workspace.path, f"refs/heads/{workspace.branch}"
    env = tree_env(admin, path)
    tip, head = await commit_of(repo, ref), await commit_of(path, "HEAD", env=env)
    start = head or tip or workspace.base_commit
    work = await commit_snapshot(workspace, admin, shot, work=start, tip=tip, **who)
    new = await _joined(workspace, admin, work=work, tip=tip, **who)
    loose = [work, tip or "", *spoken_of]
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
