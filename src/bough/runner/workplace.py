"""Where one agent works: its worktree opened, what it left saved, and both recorded.

Guarantees: an agent with a repository never works outside a worktree of its own; what it leaves is
committed before it is recorded; what the repository's bough.toml asks for (set-up, ports, a scratch
directory) is there before its program starts, and the set-up succeeded once in this worktree. When
it breaks: Failure, which becomes the agent's error.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bough.client.errors import BadConfiguration, LimitReached
from bough.client.insist import insist
from bough.client.paths import text_of
from bough.client.rows import Agent, Claimed
from bough.client.runner_calls import RunnerClient
from bough.client.work_rows import FileChange
from bough.runner.lineage import email_of
from bough.runner.ports import take_ports
from bough.runner.spares import Spares
from bough.runner.workspaces import workspace
from bough.runner.workspaces.changes import Change, changes
from bough.runner.workspaces.disk import disk_bytes
from bough.runner.workspaces.git import GitError, Repo, locked, open_repository
from bough.runner.workspaces.settings import WorkspaceSettings, settings_at
from bough.runner.workspaces.worktree import Workspace, admin_of

_FILES_LISTED = 10_000  # as many as the kernel keeps of one agent; it is told how many there are
NOT_SAVED = "workspace_not_saved"
_SET_UP = "bough-set-up"  # in git's directory for the worktree, once the set-up succeeded


def _row(change: Change) -> FileChange:
    return FileChange(
        text_of(change.path),
        change.kind,
        change.lines_added,
        change.lines_removed,
        None if change.old_path is None else text_of(change.old_path),
    )


async def commit_work(made: Workspace, agent: Agent | Claimed) -> str:
    """Commit what is in an agent's worktree, as the agent's; the commit. Raises WorkspaceError."""
    return await workspace.commit_rest(
        made,
        message=f"{agent.task.strip().splitlines()[0][:72]}\n\nAgent: {agent.id}",
        author_name=f"bough {agent.role}",
        author_email=email_of(agent.id),
    )


@dataclass(frozen=True, slots=True)
class Failure(Exception):
    """The agent cannot go on: the code and the message that will be recorded."""

    code: str
    message: str


class Workplace:
    """The directory of one claimed agent, and what it finds there."""

    def __init__(
        self, client: RunnerClient, agent: Claimed, home: Path, spares: Spares | None = None
    ) -> None:
        self.variables: dict[str, str] = {}
        self.settings = WorkspaceSettings()
        self._client = client
        self._agent = agent
        self._home = home
        self._spares = spares
        self._workspace: Workspace | None = None
        self._set_up: Path | None = None
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
        place = self._home / "scratch" / str(agent.id)
        if agent.repo_path is None or agent.base_commit is None:
            place.mkdir(parents=True, exist_ok=True)
            await self._keep(place)
            await self._ask(place, always=True)
            return place
        try:
            repository = await open_repository(Path(agent.repo_path))
            self.settings = (await settings_at(repository.root, agent.base_commit)).workspace
            await self._ask(place)
            made = await self._create(repository, agent.base_commit)
        except (GitError, OSError, BadConfiguration) as error:
            await insist(lambda: self._client.fail_workspace(agent.id, epoch=agent.lease_epoch))
            raise Failure("workspace_failed", str(error)) from error
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

    async def _create(self, repository: Repo, base: str) -> Workspace:
        begun = monotonic()
        agent = self._agent
        made = await workspace.create(
            repository, agent_id=str(agent.id), task=agent.task, home=self._home, base=base
        )
        if self._spares:
            self._spares.used(
                repository,
                made.path.parent,
                commit=made.base_commit,
                took_s=monotonic() - begun,
                wanted=self.settings.pool,
            )
        self._workspace = made
        admin = admin_of(repository.git_dir, made.path)
        await self._keep(admin)
        self._set_up = admin / _SET_UP if admin else None
        return made

    async def _ask(self, scratch: Path, *, always: bool = False) -> None:
        """Get the ports and the scratch directory that the repository or the spawn asked for."""
        asked = self._agent.program
        wanted = asked.get("ports")
        count = max(self.settings.ports, wanted if isinstance(wanted, int) else 0)
        if self.settings.scratch or asked.get("scratch") or always:
            scratch.mkdir(parents=True, exist_ok=True)
            self.variables["BOUGH_SCRATCH"] = str(scratch)
        if count:
            try:
                ports = await insist(lambda: take_ports(self._client, self._agent, count))
            except LimitReached as error:
                raise Failure("no_ports", str(error)) from error
            self.variables["BOUGH_PORT"] = str(ports[0])
            self.variables["BOUGH_PORTS"] = " ".join(map(str, ports))

    @property
    def to_set_up(self) -> tuple[str, ...]:
        """The set-up's commands, if they have not all succeeded here yet."""
        done = self._set_up is None or self._set_up.exists()
        return () if done else self.settings.setup

    def is_set_up(self) -> None:
        """Note that the set-up has succeeded: it is not done again when the agent resumes."""
        if self._set_up:
            self._set_up.touch()

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
            head = await commit_work(made, agent)
            changed = await changes(made)
            size = await disk_bytes(made.path)
        except (GitError, OSError) as error:
            message = f"{error}; the files are in {made.path}"
            raise Failure(NOT_SAVED, message) from error
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
