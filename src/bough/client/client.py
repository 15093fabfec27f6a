"""The Python face of the kernel: one async method per function, one round trip per call.

Every method raises a class of `errors`; nothing is retried here. Each call is a transaction of
its own, so nothing is held open between calls. Ids are UUIDs, budgets tokens, times seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import LiteralString, cast
from uuid import UUID

from psycopg.types.json import Jsonb

from bough.client import rows
from bough.client.budgets import BudgetCalls
from bough.client.conversations import ConversationCalls
from bough.client.errors import AgentEnded, AgentNotFound, StaleLease, translated
from bough.client.mail import MailCalls
from bough.client.merges import MergeCalls
from bough.client.steps import StepCalls
from bough.client.work import WorkCalls

_AGENT = cast("LiteralString", ", ".join(f.name for f in fields(rows.Agent)))
_RUNNER = cast("LiteralString", ", ".join(f.name for f in fields(rows.Runner)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """What to spawn. budget in tokens, timeout_s in seconds; limits hold for the whole subtree."""

    key: UUID
    task: str
    budget: int
    parent_id: UUID | None = None
    role: str = "agent"
    driver: str = "command"
    program: rows.Json
    repo_path: str | None = None
    base_commit: str | None = None
    target_branch: str | None = None
    runner_id: UUID | None = None
    timeout_s: int | None = None
    max_depth: int | None = None
    max_children: int | None = None
    max_running: int | None = None


class Client(BudgetCalls, ConversationCalls, MailCalls, MergeCalls, StepCalls, WorkCalls):
    """All that a program may ask of the kernel, but for what only a runner does."""

    async def spawn(self, what: Spawn) -> rows.Spawned:
        """Create an agent, or return the one that this key made before.

        Raises AgentNotFound or AgentEnded (the parent), BudgetExceeded, LimitReached,
        InvalidInput; then nothing was made.
        """
        values = {f.name: getattr(what, f.name) for f in fields(what)}
        values["program"] = Jsonb(what.program)
        return await self._one(
            rows.Spawned,
            "select * from bough_api.spawn(key => %(key)s, parent_id => %(parent_id)s,"
            " task => %(task)s, role => %(role)s, budget => %(budget)s::bigint,"
            " driver => %(driver)s, program => %(program)s, repo_path => %(repo_path)s,"
            " base_commit => %(base_commit)s, target_branch => %(target_branch)s,"
            " runner_id => %(runner_id)s, timeout_s => %(timeout_s)s::integer,"
            " max_depth => %(max_depth)s::integer, max_children => %(max_children)s::integer,"
            " max_running => %(max_running)s::integer)",
            values,
        )

    async def find(self, prefix: str) -> UUID:
        """The agent whose id begins so. Raises AgentNotFound, AmbiguousId."""
        with translated():
            async with self._opener() as conn:
                cur = await conn.execute("select id from bough_api.find(%s)", (prefix,))
                found = await cur.fetchone()
        return cast("tuple[UUID]", found)[0]

    async def show(self, agent_id: UUID) -> rows.Agent:
        """One agent whole. Raises AgentNotFound."""
        found = await self._all(
            rows.Agent,
            "select " + _AGENT + " from bough_api.agent_details where id = %(id)s",
            {"id": agent_id},
        )
        if not found:
            raise AgentNotFound(f"no agent {str(agent_id)[:8]}; see bough ps --all")
        return found[0]

    async def ps(self, *, ended: bool = False, limit: int = 1000) -> list[rows.Agent]:
        """Living agents (`ended`: all), newest first."""
        return await self._all(
            rows.Agent,
            "select " + _AGENT + " from bough_api.agent_details"
            " where %(ended)s or completed_at is null order by created_at desc, id limit %(limit)s",
            {"ended": ended, "limit": limit},
        )

    async def tree(self, root_id: UUID) -> list[rows.Agent]:
        """All agents of a tree, each parent before its children, oldest first."""
        return await self._all(
            rows.Agent,
            "select " + _AGENT + " from bough_api.agent_details where root_id = %(root)s"
            " order by depth_level, created_at, id",
            {"root": root_id},
        )

    async def terminate(self, agent_id: UUID, *, reason: str) -> list[rows.Terminated]:
        """End an agent and all below it, deepest first; whom it ended, top-down.

        Raises AgentNotFound; AgentEnded when it completed or failed. Repeating it is harmless.
        """
        return await self._all(
            rows.Terminated,
            "select * from bough_api.terminate(%(agent_id)s, %(reason)s)",
            {"agent_id": agent_id, "reason": reason},
        )

    async def complete(self, agent_id: UUID, *, epoch: int, result: rows.Json) -> None:
        """The agent did its task. Raises StaleLease or AgentEnded when it was decided before."""
        done = await self._one(
            rows.Finish,
            "select * from bough_api.complete(%(agent_id)s, %(epoch)s, %(result)s)",
            {"agent_id": agent_id, "epoch": epoch, "result": Jsonb(result)},
        )
        _refuse_late(agent_id, epoch, done)

    async def fail(
        self, agent_id: UUID, *, epoch: int, code: str, message: str, result: rows.Json | None
    ) -> None:
        """The agent could not do its task. Raises as `complete` does."""
        done = await self._one(
            rows.Finish,
            "select * from bough_api.fail(%(agent_id)s, %(epoch)s, %(code)s, %(message)s,"
            " %(result)s)",
            {
                "agent_id": agent_id,
                "epoch": epoch,
                "code": code,
                "message": message.replace("\0", "\ufffd"),
                "result": None if result is None else Jsonb(result),
            },
        )
        _refuse_late(agent_id, epoch, done)

    async def pause(self, agent_id: UUID, *, reason: str) -> list[rows.Changed]:
        """Hold an agent and all below it; the ones newly held. Raises AgentEnded."""
        return await self._all(
            rows.Changed,
            "select * from bough_api.pause(%(agent_id)s, %(reason)s)",
            {"agent_id": agent_id, "reason": reason},
        )

    async def resume(self, agent_id: UUID) -> list[rows.Changed]:
        """Let an agent and all paused below it go on; the ones that do. Raises AgentEnded."""
        return await self._all(
            rows.Changed, "select * from bough_api.resume(%(id)s)", {"id": agent_id}
        )

    async def report(
        self, agent_id: UUID, *, epoch: int, progress: float | None, note: str
    ) -> None:
        """Note how far it is: a fraction from 0 to 1 and a line. Raises StaleLease, AgentEnded."""
        await self._do(
            "select bough_api.report(%(agent_id)s, %(epoch)s, %(progress)s, %(note)s)",
            {"agent_id": agent_id, "epoch": epoch, "progress": progress, "note": note},
        )

    async def log(
        self, agent_id: UUID, *, epoch: int, streams: Sequence[str], contents: Sequence[str]
    ) -> None:
        """Append output, in order; `streams` names one of stdout, stderr, bough for each."""
        await self._do(
            "select bough_api.log(%(id)s, %(epoch)s, %(streams)s::text[], %(contents)s::text[])",
            {
                "id": agent_id,
                "epoch": epoch,
                "streams": list(streams),
                "contents": list(contents),
            },
        )

    async def logs(
        self, agent_id: UUID, *, after_seq: int = 0, page: int = 500
    ) -> list[rows.LogLine]:
        """Output after a position, oldest first, at most `page` pieces."""
        return await self._all(
            rows.LogLine,
            "select * from bough_api.logs(%(id)s, %(after)s, %(page)s)",
            {"id": agent_id, "after": after_seq, "page": page},
        )

    async def events(
        self, *, after_id: int = 0, root_id: UUID | None = None, page: int = 500
    ) -> list[rows.Event]:
        """What happened after an event, of one tree or of all; a tail of it misses nothing."""
        return await self._all(
            rows.Event,
            "select * from bough_api.events(%(after)s, %(root)s, %(page)s)",
            {"after": after_id, "root": root_id, "page": page},
        )

    async def news(self, agent_id: UUID) -> str:
        """A text that is another one once something happened in its tree or mailbox."""
        found = await self._all(
            rows.Version, "select * from bough_api.news(%(id)s)", {"id": agent_id}
        )
        return found[0].version if found else ""

    async def runners(self) -> list[rows.Runner]:
        """Runners that hold agents or may claim some, newest first."""
        return await self._all(
            rows.Runner,
            "select " + _RUNNER + " from bough_api.runner_details order by created_at desc",
        )


def _refuse_late(agent_id: UUID, epoch: int, done: rows.Finish) -> None:
    if done.accepted:
        return
    short = str(agent_id)[:8]
    if done.current_epoch != epoch:
        raise StaleLease(
            f"agent {short} is under lease {done.current_epoch}, this is {epoch}; "
            "the result was kept as an event and not applied"
        )
    raise AgentEnded(f"agent {short} is {done.current_status}; the result was kept as an event")
