"""Where an agent works, under which address it commits, and where a child of it starts from in git.

Guarantees: a child starts from what its parent has committed. How its work comes back stands in
`merging`. When it breaks: NoWorkspace, GitError.
"""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from bough.client.errors import AgentNotFound, AmbiguousId, InvalidInput, NoWorkspace
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner.workspaces.bases import joined
from bough.runner.workspaces.git import commit_of, open_repository
from bough.runner.workspaces.worktree import Workspace


def workspace_of(agent: Agent) -> Workspace:
    """The worktree of an agent. Raises NoWorkspace."""
    if not (agent.worktree_path and agent.branch_name and agent.base_commit and agent.repo_path):
        why = f" ({agent.error_message})" if agent.error_message else ""
        raise NoWorkspace(f"agent {str(agent.id)[:8]} has no worktree{why or ' yet'}")
    return Workspace(
        Path(agent.worktree_path), agent.branch_name, agent.base_commit, Path(agent.repo_path)
    )


def email_of(agent_id: UUID) -> str:
    """The address under which an agent commits; it leads nowhere."""
    return f"{str(agent_id)[:8]}@bough.invalid"


async def start_below(parent: Agent) -> tuple[str, str, str | None] | None:
    """Repository, commit and branch that a child starts from; None when the parent has none."""
    if not parent.repo_path:
        return None
    root = (await open_repository(Path(parent.repo_path))).root
    tip = await commit_of(root, f"refs/heads/{parent.branch_name}")
    return str(root), tip or str(parent.base_commit), parent.branch_name


async def start_from(client: RunnerClient, root: Path, names: Sequence[str]) -> str:
    """The commit that contains all of `names`: branches, commits or agents that saved their work.

    Raises NoCommit, MergeConflict.
    """
    repository = await open_repository(root)
    return await joined(repository, [await _commit_named(client, root, name) for name in names])


async def _commit_named(client: RunnerClient, root: Path, name: str) -> str:
    if await commit_of(root, name):
        return name
    try:
        agent = await client.show(await client.find(name))
    except (AgentNotFound, AmbiguousId, InvalidInput):
        return name  # whoever looks for the commit says that there is none
    return agent.head_commit or workspace_of(agent).branch
