"""Calls about merges: queue one, see the queue, plan and record what a branch takes.

`below` limits a call to merges of agents at or below one; None: no limit. Inside an agent the
runner fills it in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from bough.client.caller import Caller


@dataclass(frozen=True, slots=True)
class Queued:
    """A merge that is in line, or what it is by now."""

    id: UUID
    status: str


@dataclass(frozen=True, slots=True)
class InLine:
    """A queued merge with all that is needed to do it.

    planned_commit, on planned_on and from planned_source, is what somebody was about to land.
    landed_*: what this branch took of the agent before; settled: paths whose conflict it resolves.
    """

    id: UUID
    agent_id: UUID
    root_id: UUID
    branch: str
    strategy: str
    role: str
    task: str
    source_branch: str
    head_commit: str
    planned_commit: str | None
    planned_on: str | None
    planned_source: str | None
    landed_sources: list[str]
    landed_commits: list[str]
    settled: list[str]


@dataclass(frozen=True, slots=True)
class Planned:
    """A merge that is still queued, so that its plan stands."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a merge is after it was to be withdrawn; queued: it is being done."""

    status: str


@dataclass(frozen=True, slots=True)
class Merge:
    """What became of a merge; previous_commit is merged_commit when the branch had the work."""

    id: UUID
    agent_id: UUID
    branch: str
    strategy: str
    status: str
    source_commit: str | None
    previous_commit: str | None
    merged_commit: str | None
    conflicts: list[str]
    reason: str | None
    gate_output: str | None
    resolver_id: UUID | None
    ended_at: datetime | None


class MergeCalls(Caller):
    """The part of a client that is about merges."""

    async def queue_merge(
        self, key: UUID, agent_id: UUID, *, target_branch: str, strategy: str
    ) -> Queued:
        """Put an agent's work in line for a branch; a repeat of the key gives the first.

        Raises AgentNotFound, NoWorkspace, IllegalTransition (it has not ended).
        """
        return await self._one(
            Queued,
            "select * from bough_api.queue_merge(%(key)s, %(agent)s, %(branch)s, %(strategy)s)",
            {"key": key, "agent": agent_id, "branch": target_branch, "strategy": strategy},
        )

    async def merge_queue(
        self, repo_path: str, *, target_branch: str | None, below: UUID | None = None
    ) -> list[InLine]:
        """What waits for a branch of a repository (None: for any), first to last."""
        return await self._all(
            InLine,
            "select * from bough_api.merge_queue(%(repo)s, %(branch)s, %(below)s)",
            {"repo": repo_path, "branch": target_branch, "below": below},
        )

    async def plan_merges(
        self,
        merge_ids: Sequence[UUID],
        *,
        sources: Sequence[str],
        previous: Sequence[str],
        commits: Sequence[str],
        below: UUID | None = None,
    ) -> list[Planned]:
        """Write down what a branch is about to take; those that are still queued."""
        return await self._all(
            Planned,
            "select * from bough_api.plan_merges(%(ids)s::uuid[], %(sources)s::text[],"
            " %(previous)s::text[], %(commits)s::text[], %(below)s)",
            {
                "ids": list(merge_ids),
                "sources": list(sources),
                "previous": list(previous),
                "commits": list(commits),
                "below": below,
            },
        )

    async def record_merge(
        self,
        merge_id: UUID,
        *,
        status: str,
        source: str | None,
        previous: str | None,
        commit: str | None,
        conflicts: Sequence[str],
        reason: str | None,
        gate_output: str | None,
        below: UUID | None = None,
    ) -> None:
        """The end of a merge. Repeating it changes nothing. Raises NoWorkspace, NotYours."""
        await self._do(
            "select bough_api.record_merge(%(id)s, %(status)s, %(source)s, %(previous)s,"
            " %(commit)s, %(conflicts)s::text[], %(reason)s, %(output)s, %(below)s)",
            {
                "id": merge_id,
                "status": status,
                "source": source,
                "previous": previous,
                "commit": commit,
                "conflicts": list(conflicts),
                "reason": reason,
                "output": gate_output,
                "below": below,
            },
        )

    async def withdraw_merge(self, merge_id: UUID, *, below: UUID | None = None) -> list[Withdrawn]:
        """Take a merge out of line unless it is being done; what it is now."""
        return await self._all(
            Withdrawn,
            "select * from bough_api.withdraw_merge(%(id)s, %(below)s)",
            {"id": merge_id, "below": below},
        )

    async def merges(self, merge_ids: Sequence[UUID], *, below: UUID | None = None) -> list[Merge]:
        """What became of these merges."""
        return await self._all(
            Merge,
            "select * from bough_api.merges(%(ids)s::uuid[], %(below)s)",
            {"ids": list(merge_ids), "below": below},
        )

    async def resolve_merge(
        self, merge_id: UUID, resolver_id: UUID, *, below: UUID | None = None
    ) -> None:
        """Note who resolves a conflict. Raises NoWorkspace when it is no merge in conflict."""
        await self._do(
            "select bough_api.resolve_merge(%(id)s, %(resolver)s, %(below)s)",
            {"id": merge_id, "resolver": resolver_id, "below": below},
        )
