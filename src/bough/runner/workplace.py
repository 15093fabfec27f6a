"""Where one agent works: its worktree opened, what it left saved, and both recorded.

Guarantees: an agent with a repository never works outside a worktree of its own; what it leaves is
committed before it is recorded. When it breaks: Failure, which becomes the agent's error.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bough.client.insist import insist
from bough.client.paths import text_of
from bough.client.rows import Claimed
from bough.client.runner_calls import RunnerClient
from bough.client.work_rows import FileChange
from bough.runner.workspaces import workspace
from bough.runner.workspaces.changes import Change, changes
from bough.runner.workspaces.disk import disk_bytes
from bough.runner.workspaces.git import GitError, locked, open_repository
from bough.runner.workspaces.worktree import Workspace, admin_of

_FILES_LISTED = 10_000  # as many as the kernel keeps of one agent; it is told how many there are


def _row(change: Change) -> FileChange:
    return FileChange(
        text_of(change.path),
        change.kind,
        change.lines_added,
        change.lines_removed,
        None if change.old_path is None else text_of(change.old_path),
    )


@dataclass(frozen=True, slots=True)
class Failure(Exception):
    """The agent cannot go on: the code and the message that will be recorded."""

    code: str
    message: str


class Workplace:
    """The directory of one claimed agent."""

    def __init__(self, client: RunnerClient, agent: Claimed, home: Path) -> None:
        self._client = client
        self._agent = agent
        self._home = home
        self._workspace: Workspace | None = None
        self._hold = AsyncExitStack()

    async def close(self) -> None:
        """Let the directory go: from now on it may be removed."""
        await self._hold.aclose()

    async def _keep(self, place: Path | None) -> None:
        """Keep the directory from being removed until `close`; it goes with this process too."""
        await self._hold.aclose()
        if place:
            await self._hold.enter_async_context(locked(place, shared=True))

    async def open(self) -> Path:
        """Make the worktree, or find it again; the directory. Raises Failure."""
        agent = self._agent
        if agent.repo_path is None or agent.base_commit is None:
            place = self._home / "scratch" / str(agent.id)
            place.mkdir(parents=True, exist_ok=True)
            await self._keep(place)
            return place
        try:
            repository = await open_repository(Path(agent.repo_path))
            made = await workspace.create(
                repository,
                agent_id=str(agent.id),
                task=agent.task,
                home=self._home,
                base=agent.base_commit,
            )
            await self._keep(admin_of(repository.git_dir, made.path))
        except (GitError, OSError) as error:
            await insist(lambda: self._client.fail_workspace(agent.id, epoch=agent.lease_epoch))
            raise Failure("workspace_failed", str(error)) from error
        self._workspace = made
        await insist(
            lambda: self._client.open_workspace(
                agent.id,
                epoch=agent.lease_epoch,
                path=str(made.path),
                branch=made.branch,
                base_commit=made.base_commit,
            )
        )
        return made.path

    async def save(self, *, lost: bool) -> None:
        """Commit what the program left, unless another runner has the worktree by now (`lost`).

        Raises Failure, and StaleLease when that is heard only here.
        """
        made, agent = self._workspace, self._agent
        if made is None or lost:
            return
        # Nothing to append: only asks whether the agent, and so its worktree, is still ours.
        await insist(
            lambda: self._client.log(agent.id, epoch=agent.lease_epoch, streams=[], contents=[])
        )
        try:
            head = await workspace.commit_rest(
                made,
                message=f"{agent.task.strip().splitlines()[0][:72]}\n\nAgent: {agent.id}",
                author_name=f"bough {agent.role}",
                author_email=f"{str(agent.id)[:8]}@bough.invalid",
            )
            changed = await changes(made)
            size = await disk_bytes(made.path)
        except (GitError, OSError) as error:
            message = f"{error}; the files are in {made.path}"
            raise Failure("workspace_not_saved", message) from error
        await insist(
            lambda: self._client.save_workspace(
                agent.id,
                epoch=agent.lease_epoch,
                head_commit=head,
                files=len(changed),
                added=sum(c.lines_added or 0 for c in changed),
                removed=sum(c.lines_removed or 0 for c in changed),
                disk_bytes=size,
                changed=[_row(change) for change in changed[:_FILES_LISTED]],
            )
        )
