"""Queues of others on PostgreSQL, through the calls that their own workers are made of.

procrastinate and pgqueuer are libraries; pgmq is used as plain SQL, whose text the package `pgmq`
carries. None is needed: `uv sync --group peers` installs them, and what is missing is said. A task
has a connection of its own, and what is taken is deleted, the quickest that each one offers.
"""

import importlib
import importlib.util
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from bench.queues import PAYLOAD, TASKS, Queue

Connection = psycopg.AsyncConnection[Any]
Opener = Callable[[str, int], AbstractAsyncContextManager[Queue]]


async def _connections(dsn: str, stack: AsyncExitStack) -> list[Connection]:
    return [
        await stack.enter_async_context(await Connection.connect(dsn, autocommit=True))
        for _ in range(TASKS)
    ]


class _Pgmq:
    name = "pgmq"

    def __init__(self, conns: list[Connection], boxes: int) -> None:
        self._conns = conns
        self._boxes = [f"box_{box}" for box in range(boxes)]

    async def open(self) -> None:
        found = importlib.util.find_spec("pgmq")
        assert found
        assert found.origin
        text = (Path(found.origin).parent / "sql" / "pgmq.sql").read_bytes()
        await self._conns[0].execute(text)
        for box in self._boxes:
            await self._conns[0].execute("select pgmq.create(%s)", (box,))

    async def send(self, task: int, box: int, count: int) -> None:
        if count == 1:
            await self._conns[task].execute(
                "select pgmq.send(%s, %s)", (self._boxes[box], Jsonb(PAYLOAD))
            )
        else:
            await self._conns[task].execute(
                "select pgmq.send_batch(%s, %s)", (self._boxes[box], [Jsonb(PAYLOAD)] * count)
            )

    async def take(self, task: int, box: int, most: int) -> int:
        cur = await self._conns[task].execute(
            "select msg_id, read_ct, enqueued_at, vt, message from pgmq.read(%s, 60, %s)",
            (self._boxes[box], most),
        )
        rows = await cur.fetchall()
        if rows:
            await self._conns[task].execute(
                "select pgmq.delete(%s, %s::bigint[])", (self._boxes[box], [r[0] for r in rows])
            )
        return len(rows)

    async def clear(self) -> None:
        for box in self._boxes:
            await self._conns[0].execute("select pgmq.purge_queue(%s)", (box,))


class _Pgqueuer:
    name = "pgqueuer"

    def __init__(self, conns: list[Connection], boxes: int) -> None:
        module = importlib.import_module("pgqueuer.queries")
        ports = importlib.import_module("pgqueuer.ports.repository")
        self._any_number = ports.EntrypointExecutionParameter(concurrency_limit=0)
        self._conns = conns
        self._queries = [module.Queries.from_psycopg_connection(conn) for conn in conns]
        self._workers = [uuid4() for _ in conns]
        self._boxes = [f"box_{box}" for box in range(boxes)]
        self._payload = b'{"text": "what the other agent should know", "number": 7}'

    async def open(self) -> None:
        await self._queries[0].install()

    async def send(self, task: int, box: int, count: int) -> None:
        await self._queries[task].enqueue(
            [self._boxes[box]] * count, [self._payload] * count, [0] * count
        )

    async def take(self, task: int, box: int, most: int) -> int:
        jobs = await self._queries[task].dequeue(
            batch_size=most,
            entrypoints={self._boxes[box]: self._any_number},
            queue_manager_id=self._workers[task],
            global_concurrency_limit=None,
            heartbeat_timeout=timedelta(seconds=60),
        )
        if jobs:
            await self._queries[task].log_jobs([(job, "successful", None) for job in jobs])
        return len(jobs)

    async def clear(self) -> None:
        await self._conns[0].execute("truncate pgqueuer, pgqueuer_log")


class _Procrastinate:
    name = "procrastinate"

    def __init__(self, conns: list[Connection], dsn: str, boxes: int) -> None:
        module = importlib.import_module("procrastinate")
        self._connector = module.PsycopgConnector(conninfo=dsn, min_size=TASKS, max_size=TASKS)
        self._app = module.App(connector=self._connector)
        self._done = importlib.import_module("procrastinate.jobs").Status.SUCCEEDED
        self._conns = conns
        self._boxes = [f"box_{box}" for box in range(boxes)]
        self._workers: list[int] = []

    async def open(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._app.open_async())
        await self._app.schema_manager.apply_schema_async()
        manager = self._app.job_manager
        self._workers = [await manager.register_worker() for _ in range(TASKS)]

    async def send(self, task: int, box: int, count: int) -> None:
        del task
        deferrer = self._app.configure_task("bench", queue=self._boxes[box], allow_unknown=True)
        if count == 1:
            await deferrer.defer_async(**PAYLOAD)
        else:
            await deferrer.batch_defer_async(*[PAYLOAD] * count)

    async def take(self, task: int, box: int, most: int) -> int:
        # It gives out jobs one by one.
        manager = self._app.job_manager
        for taken in range(most):
            job = await manager.fetch_job([self._boxes[box]], self._workers[task])
            if job is None:
                return taken
            await manager.finish_job(job, self._done, delete_job=True)
        return most

    async def clear(self) -> None:
        await self._conns[0].execute("truncate procrastinate_jobs cascade")


@asynccontextmanager
async def _pgmq(dsn: str, boxes: int) -> AsyncGenerator[Queue]:
    async with AsyncExitStack() as stack:
        queue = _Pgmq(await _connections(dsn, stack), boxes)
        await queue.open()
        yield queue


@asynccontextmanager
async def _pgqueuer(dsn: str, boxes: int) -> AsyncGenerator[Queue]:
    async with AsyncExitStack() as stack:
        queue = _Pgqueuer(await _connections(dsn, stack), boxes)
        await queue.open()
        yield queue


@asynccontextmanager
async def _procrastinate(dsn: str, boxes: int) -> AsyncGenerator[Queue]:
    async with AsyncExitStack() as stack:
        queue = _Procrastinate(await _connections(dsn, stack), dsn, boxes)
        await queue.open(stack)
        yield queue


def installed() -> list[tuple[str, Opener]]:
    """Those that are there, with their versions; says in one line which are not."""
    every = {"pgmq": _pgmq, "pgqueuer": _pgqueuer, "procrastinate": _procrastinate}
    there = {name: opener for name, opener in every.items() if importlib.util.find_spec(name)}
    if missing := [name for name in every if name not in there]:
        print(f"not installed, so not measured: {', '.join(missing)} (uv sync --group peers)")
    return [(f"{name} {version(name)}", opener) for name, opener in there.items()]
