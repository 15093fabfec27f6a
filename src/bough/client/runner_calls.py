"""What only a runner calls: its own life, claims, and the records of programs and worktrees."""

from collections.abc import Sequence
from uuid import UUID

from bough.client import rows
from bough.client.client import Client
from bough.client.work_rows import FileChange, KeptWorkspace


class RunnerClient(Client):
    """A client with the calls of a runner. Raises as `Client` does, and RunnerGone."""

    async def enroll(
        self,
        runner_id: UUID,
        *,
        host: str,
        pid: int,
        process_start: str,
        boot_id: str,
        slots: int,
        lease_s: int,
    ) -> None:
        """Make a runner known; without a heart-beat for lease_s seconds it loses its agents."""
        await self._do(
            "select bough_api.enroll(%(id)s, %(host)s, %(pid)s, %(start)s, %(boot)s,"
            " %(slots)s::integer, %(lease)s::integer)",
            {
                "id": runner_id,
                "host": host,
                "pid": pid,
                "start": process_start,
                "boot": boot_id,
                "slots": slots,
                "lease": lease_s,
            },
        )

    async def heartbeat(self, runner_id: UUID, *, wants_work: bool) -> list[rows.Held]:
        """Keep the lease; which agents this runner holds. Raises RunnerGone."""
        return await self._all(
            rows.Held,
            "select * from bough_api.heartbeat(%(id)s, %(wants)s)",
            {"id": runner_id, "wants": wants_work},
        )

    async def retire(self, runner_id: UUID) -> None:
        """End a runner; what it still holds is free for others at once."""
        await self._do("select bough_api.retire(%(id)s)", {"id": runner_id})

    async def claim(
        self, runner_id: UUID, *, slots: int, root_id: UUID | None = None
    ) -> list[rows.Claimed]:
        """Take up to `slots` agents (of one tree): abandoned ones first, then the oldest in line.

        Raises RunnerGone when the lease has run out.
        """
        return await self._all(
            rows.Claimed,
            "select * from bough_api.claim(%(id)s, %(slots)s, %(root)s)",
            {"id": runner_id, "slots": slots, "root": root_id},
        )

    async def record_program(
        self, agent_id: UUID, *, epoch: int, pid: int, process_start: str, boot_id: str
    ) -> None:
        """Note the process of this attempt. Raises StaleLease."""
        await self._do(
            "select bough_api.record_program(%(id)s, %(epoch)s, %(pid)s, %(start)s, %(boot)s)",
            {
                "id": agent_id,
                "epoch": epoch,
                "pid": pid,
                "start": process_start,
                "boot": boot_id,
            },
        )

    async def strays(self, boot_id: str) -> list[rows.Stray]:
        """Processes that dead runners may have left on the machine that booted as boot_id."""
        return await self._all(
            rows.Stray, "select * from bough_api.strays(%(boot)s)", {"boot": boot_id}
        )

    async def take_ports(
        self, agent_id: UUID, *, epoch: int, host: str, count: int, candidates: list[int]
    ) -> list[rows.Port]:
        """Ports of a machine for an agent, out of candidates that are free there; kept on resuming.

        Raises LimitReached when there are too few, StaleLease; then none is taken.
        """
        return await self._all(
            rows.Port,
            "select * from bough_api.take_ports(%(id)s, %(epoch)s, %(host)s, %(count)s, %(free)s)",
            {"id": agent_id, "epoch": epoch, "host": host, "count": count, "free": candidates},
        )

    async def open_workspace(
        self, agent_id: UUID, *, epoch: int, path: str, branch: str, base_commit: str
    ) -> None:
        """The worktree is there. Raises StaleLease."""
        await self._do(
            "select bough_api.open_workspace(%(id)s, %(epoch)s, %(path)s, %(branch)s, %(base)s)",
            {
                "id": agent_id,
                "epoch": epoch,
                "path": path,
                "branch": branch,
                "base": base_commit,
            },
        )

    async def save_workspace(
        self,
        agent_id: UUID,
        *,
        epoch: int,
        head_commit: str,
        files: int,
        added: int,
        removed: int,
        disk_bytes: int | None = None,
        changed: Sequence[FileChange] = (),
    ) -> None:
        """All work is committed at head_commit; changed files and lines against the base.

        `changed` lists the files, at most 10,000; `files` is how many there are.
        """
        await self._do(
            "select bough_api.save_workspace(%(id)s, %(epoch)s, %(head)s, %(files)s::integer,"
            " %(added)s::integer, %(removed)s::integer, %(disk)s::bigint, %(paths)s::text[],"
            " %(kinds)s::text[], %(old)s::text[], %(plus)s::integer[], %(minus)s::integer[])",
            {
                "id": agent_id,
                "epoch": epoch,
                "head": head_commit,
                "files": files,
                "added": added,
                "removed": removed,
                "disk": disk_bytes,
                "paths": [c.path for c in changed],
                "kinds": [c.kind for c in changed],
                "old": [c.old_path for c in changed],
                "plus": [c.lines_added for c in changed],
                "minus": [c.lines_removed for c in changed],
            },
        )

    async def fail_workspace(self, agent_id: UUID, *, epoch: int) -> None:
        """The worktree could not be made and nothing of it is left. Raises StaleLease."""
        await self._do(
            "select bough_api.fail_workspace(%(id)s, %(epoch)s)",
            {"id": agent_id, "epoch": epoch},
        )

    async def kept_workspaces(self, *, repo_path: str | None = None) -> list[KeptWorkspace]:
        """Worktrees that were not removed yet (of one repository), of the oldest ended first."""
        return await self._all(
            KeptWorkspace,
            "select * from bough_api.kept_workspaces(%(repo)s)",
            {"repo": repo_path},
        )

    async def remove_workspace(self, agent_id: UUID) -> None:
        """The worktree of an ended agent is gone. Raises IllegalTransition, NoWorkspace."""
        await self._do("select bough_api.remove_workspace(%(id)s)", {"id": agent_id})
