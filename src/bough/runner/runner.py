"""The runner: claims agents, drives each in a task of its own, keeps its lease, obeys the kernel.

It is woken by hints and looks anyway every few seconds, so a lost hint costs time, never work. It
never decides whose an agent is: after every look it stops what the kernel no longer gives it. When
it dies, its lease runs out and others go on; its programs die with it (see `program`).
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bough.client.errors import BoughError, RunnerGone, ServerUnavailable
from bough.client.hints import QUEUE_CHANNEL, Hints, listening, runner_channel
from bough.client.rows import Claimed, Held
from bough.client.runner_calls import RunnerClient
from bough.runner.job import Job
from bough.runner.models import ModelDoor
from bough.runner.programs.processes import process
from bough.runner.programs.strays import boot_id
from bough.runner.spares import Spares

_log = logging.getLogger(__name__)
LEASE_S = 15


class Runner:
    """Runs up to `slots` agents at once, of one tree if `root_id` is given, until stopped."""

    def __init__(
        self,
        client: RunnerClient,
        dsn: str,
        *,
        home: Path,
        slots: int,
        root_id: UUID | None = None,
        lease_s: int = LEASE_S,
    ) -> None:
        self.id = uuid4()
        self.client = client
        self.url: str | None = None
        self.models: ModelDoor | None = None
        self._blocked: dict[UUID, int] = {}
        self._dsn = dsn
        self._home = home
        self._slots = slots
        self._root_id = root_id
        self._lease_s = lease_s
        self._jobs: dict[UUID, tuple[Job, asyncio.Task[None]]] = {}
        self._drops: set[asyncio.Task[None]] = set()
        self._spares = Spares()
        self._woken = asyncio.Event()
        self._stopping = False
        self.handed_back = 0

    async def enroll(self) -> None:
        """Make this runner known, so that agents can be kept for it."""
        me = process(os.getpid())
        await self.client.enroll(
            self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_start=me.started if me else "",
            boot_id=boot_id(),
            slots=self._slots,
            lease_s=self._lease_s,
        )

    def stop(self) -> None:
        """Claim no more, stop the programs and hand the agents back; `run` then returns."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Claim and run agents until `stop`; call `enroll` first."""
        try:
            while not self._stopping:
                await self._run_as(self.id)
        finally:
            await self._hand_back()

    async def _run_as(self, me: UUID) -> None:
        """Work under one id, until stopped or until the lease is lost."""
        async with listening(self._dsn, runner_channel(me), QUEUE_CHANNEL, register=False) as hints:
            ears = asyncio.create_task(self._listen(hints))
            try:
                while not self._stopping and self.id == me:
                    await self._look()
                    await self._rest()
            finally:
                ears.cancel()

    async def _listen(self, hints: Hints) -> None:
        while True:
            if await hints.wait(30.0):
                self._woken.set()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lease_s / 5):
                await self._woken.wait()
        self._woken.clear()

    async def _look(self) -> None:
        """Keep the lease, do what the kernel has decided meanwhile, and take new work.

        In this order: a beat that comes late (the server was away, the machine slept) keeps what
        nobody has taken, and what is spawned after it sends a hint, so no claim comes too early.
        """
        try:
            wants_work = self._busy() < self._slots
            try:
                await self._obey(await self.client.heartbeat(self.id, wants_work=wants_work))
                await self._claim()
            except RunnerGone:
                await self._start_over()
        except ServerUnavailable as error:
            _log.warning("%s", error, extra={"event": "runner.server_away"})

    async def _claim(self) -> None:
        free = self._slots - self._busy()
        if free <= 0 or self._stopping:
            return
        for agent in await self.client.claim(self.id, slots=free, root_id=self._root_id):
            self._begin(agent)

    def _busy(self) -> int:
        """Programs that work; one that waits for others gives its place to them."""
        return sum(1 for agent_id in self._jobs if not self._blocked.get(agent_id))

    @contextmanager
    def blocked(self, agent_id: UUID) -> Generator[None]:
        """While the block runs, the agent's program only waits for other agents or for mail."""
        self._blocked[agent_id] = self._blocked.get(agent_id, 0) + 1
        self._woken.set()
        try:
            yield
        finally:
            self._blocked[agent_id] -= 1
            if not self._blocked[agent_id]:
                del self._blocked[agent_id]

    def park_at_end(self, agent_id: UUID, conditions: dict[str, Any]) -> None:
        """When the agent's program ends with 0, park it on these conditions of `Client.park`."""
        if agent_id in self._jobs:
            self._jobs[agent_id][0].park_at_end = conditions

    def _begin(self, agent: Claimed) -> None:
        before = self._jobs.get(agent.id)
        job = Job(
            self.client,
            agent,
            self._home,
            url=self.url,
            models=self.models,
            spares=self._spares,
        )
        task = asyncio.create_task(
            self._drive(job, after=before[1] if before else None), name=f"agent {agent.id}"
        )
        self._jobs[agent.id] = (job, task)
        task.add_done_callback(lambda _: self._forget(agent.id, task))
        event = {"event": "agent.started", "agent_id": str(agent.id)}
        _log.info("agent %s starts: %s", str(agent.id)[:8], agent.task[:80], extra=event)

    def _forget(self, agent_id: UUID, task: asyncio.Task[None]) -> None:
        if self._jobs[agent_id][1] is task:
            del self._jobs[agent_id]
        self._woken.set()

    async def _drive(self, job: Job, *, after: asyncio.Task[None] | None) -> None:
        agent = job.agent
        if after:
            # It was parked and woken again while its last words were still being recorded.
            await asyncio.wait([after])
        try:
            await job.run()
        except ServerUnavailable as error:
            event = {"event": "agent.unrecorded", "agent_id": str(agent.id)}
            _log.error("agent %s: %s", str(agent.id)[:8], error, extra=event)
        except Exception as error:  # noqa: BLE001 - recorded, and shown to the user
            # A defect of ours must end the agent, not hang it.
            event = {"event": "agent.runner_failed", "agent_id": str(agent.id)}
            _log.exception("agent %s", str(agent.id)[:8], extra=event)
            message = f"the runner failed: {type(error).__name__}: {error}"
            with contextlib.suppress(BoughError):
                await job.fail("runner_error", message)

    async def _obey(self, held: list[Held]) -> None:
        by_id = {h.id: h for h in held}
        for agent_id, (job, _) in list(self._jobs.items()):
            now = by_id.pop(agent_id, None)
            if now is None or now.lease_epoch != job.agent.lease_epoch:
                await self._let_go(job)
            else:
                job.pause(on=now.status == "paused")
        for orphan in by_id.values():
            # A claim whose answer was lost with the connection: it is ours all the same.
            if orphan.status == "running" and not self._stopping:
                details = await self.client.show(orphan.id)
                names = [f.name for f in fields(Claimed)]
                self._begin(Claimed(**{name: getattr(details, name) for name in names}))

    async def _let_go(self, job: Job) -> None:
        details = await self.client.show(job.agent.id)
        lost = details.lease_epoch != job.agent.lease_epoch
        reason = "lost" if lost else details.status
        task = asyncio.create_task(job.drop(reason))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def _start_over(self) -> None:
        """The lease ran out while the machine slept or the server was away: come back anew."""
        _log.warning("lease lost, enrolling anew", extra={"event": "runner.lease_lost"})
        await asyncio.gather(*(job.drop("lost") for job, _ in list(self._jobs.values())))
        await asyncio.gather(*(task for _, task in list(self._jobs.values())))
        self.id = uuid4()
        self._woken.set()
        await self.enroll()

    async def _hand_back(self) -> None:
        jobs = list(self._jobs.values())
        self.handed_back = len(jobs)
        await asyncio.gather(*(job.drop("handed back") for job, _ in jobs))
        await asyncio.gather(*(task for _, task in jobs), return_exceptions=True)
        await asyncio.gather(*self._drops)
        await self._spares.close()
        with contextlib.suppress(BoughError):
            await self.client.retire(self.id)
