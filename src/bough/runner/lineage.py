"""What goes between parent and child in git: where a child starts, how its work comes back.

Guarantees: a child starts from what its parent has committed; a merge is recorded with its commit
or its conflicts. When it breaks: NoWorkspace, IllegalTransition (the agent has not ended), and the
errors of `merge`.
"""

from pathlib import Path

from bough.client.errors import IllegalTransition, NoWorkspace
from bough.client.remote import RemoteClient
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner.workspaces.git import commit_of, open_repository
from bough.runner.workspaces.merge import MergeConflict, Merged, merge
from bough.runner.workspaces.worktree import Workspace


def workspace_of(agent: Agent) -> Workspace:
    """The worktree of an agent. Raises NoWorkspace."""
    if not (agent.worktree_path and agent.branch_name and agent.base_commit and agent.repo_path):
        why = f" ({agent.error_message})" if agent.error_message else ""
        raise NoWorkspace(f"agent {str(agent.id)[:8]} has no worktree{why or ' yet'}")
    return Workspace(
        Path(agent.worktree_path), agent.branch_name, agent.base_commit, Path(agent.repo_path)
    )


async def start_below(parent: Agent) -> tuple[str, str, str | None] | None:
    """Repository, commit and branch that a child starts from; None when the parent has none."""
    if not parent.repo_path:
        return None
    root = (await open_repository(Path(parent.repo_path))).root
    tip = await commit_of(root, f"refs/heads/{parent.branch_name}")
    return str(root), tip or str(parent.base_commit), parent.branch_name


async def merge_agent(
    client: RunnerClient, agent: Agent, into: str | None, *, dry_run: bool
) -> Merged:
    """Merge the work of an agent that has ended into the branch it came from, or another."""
    short = str(agent.id)[:8]
    if isinstance(client, RemoteClient):
        await client.require("merge")
    workspace = workspace_of(agent)
    if not agent.has_ended:
        raise IllegalTransition(
            f"agent {short} is still {agent.status}; wait for it (bough wait {short}) or end it"
        )
    target = into or agent.target_branch
    if target is None:
        raise NoWorkspace(f"agent {short} started from no branch; say where to: --into BRANCH")
    if agent.head_commit is None:
        raise NoWorkspace(f"the work of agent {short} is not committed yet; try again in a moment")
    repository = await open_repository(workspace.repo)
    try:
        merged = await merge(
            repository,
            source=workspace.branch,
            target=target,
            message=f"Merge {workspace.branch}\n\n{agent.task.strip()}\n\nAgent: {agent.id}",
            author_name="bough",
            author_email=f"{short}@bough.invalid",
            dry_run=dry_run,
        )
    except MergeConflict as conflict:
        if not dry_run:
            await client.record_merge(
                agent.id,
                head_commit=agent.head_commit,
                into=target,
                commit=None,
                conflicts=conflict.paths,
            )
        raise
    # Merging again must not make a later commit of the target the one that took the work.
    known = merged.already_contained and agent.isolation_status == "merged"
    if not dry_run and not known:
        await client.record_merge(
            agent.id,
            head_commit=agent.head_commit,
            into=target,
            commit=merged.commit,
            conflicts=[],
        )
    return merged
