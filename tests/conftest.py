"""A real PostgreSQL for every test that asks for one, with a database of this process's own.

BOUGH_TEST_DATABASE_URL names a server whose user may create databases; without it an embedded
server is started in a temporary home. Tests roll back (`kernel`) or truncate (`sessions`).
"""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from bough import kernel as bough_kernel
from bough.client import embedded
from bough.client.caller import Connection
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.rows import Spawned
from bough.client.runner_calls import RunnerClient


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what asks a PostgreSQL server itself, so that it can be run on a second one.

    Commands at a shell ask it by the same calls, and take ten times as long.
    """
    for item in items:
        if "server" in item.fixturenames and "shell" not in item.fixturenames:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session", autouse=True)
def _no_database_from_outside() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("GIT_", "PG"))]:
            patch.delenv(name)
        patch.delenv("BOUGH_DATABASE_URL", raising=False)
        yield


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[str]:
    """A connection string of a server on which databases can be made."""
    given = os.environ.get("BOUGH_TEST_DATABASE_URL")
    if given:
        yield given
        return
    home = Path(tempfile.mkdtemp(prefix="bough-test-", dir="/tmp"))
    home.chmod(0o755)
    try:
        yield (await embedded.start(home)).dsn
        await embedded.stop(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def fresh_database(server: str) -> AsyncGenerator[str]:
    """An empty database that is dropped afterwards."""
    name = f"bough_test_{os.getpid()}_{uuid4().hex[:8]}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(f"create database {name}".encode())
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            await conn.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
async def empty_database(server: str) -> AsyncIterator[str]:
    async with fresh_database(server) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def database(server: str) -> AsyncIterator[str]:
    """A migrated database shared by the tests of this process."""
    async with fresh_database(server) as dsn:
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await bough_kernel.migrate(conn)
        yield dsn


class Kernel(RunnerClient):
    """A client inside one transaction that is rolled back; `conn` is for looking behind it."""

    def __init__(self, conn: Connection) -> None:
        @asynccontextmanager
        async def lend() -> AsyncGenerator[Connection]:
            async with conn.transaction():
                yield conn

        super().__init__(lend)
        self.conn = conn

    async def value(self, sql: bytes | str, *args: object) -> Any:
        """The first column of the first row."""
        cur = await self.conn.execute(sql.encode() if isinstance(sql, str) else sql, args)
        row = await cur.fetchone()
        return None if row is None else row[0]

    async def set_clock(self, offset_s: float) -> None:
        """Set the kernel's clock `offset_s` seconds from the real time."""
        await self.conn.execute(
            "select set_config('bough.clock',"
            " (statement_timestamp() + make_interval(secs => %s))::text, false)",
            (offset_s,),
        )


@pytest.fixture
async def kernel(database: str) -> AsyncIterator[Kernel]:
    async with await psycopg.AsyncConnection[Any].connect(database) as conn:
        # Once a transaction is open, those of the calls are savepoints inside it.
        await conn.execute("select")
        try:
            yield Kernel(conn)
        finally:
            await conn.rollback()


TABLES = (
    "bough.checkpoints, bough.workspaces, bough.messages, bough.budgets, bough.hierarchies,"
    " bough.attempts, bough.logs, bough.log_tails, bough.events, bough.listeners, bough.agents,"
    " bough.runners, bough.reservations, bough.mail_tails, bough.mail_heads, bough.waits,"
    " bough.approvals, bough.steps, bough.ports, bough.file_changes, bough.merges,"
    " bough.conversations"
)


class Sessions:
    """Clients with connections of their own, for races; what they commit is removed after."""

    def __init__(self, dsn: str, stack: AsyncExitStack) -> None:
        self.dsn = dsn
        self._stack = stack

    async def client(self, *, pooled: int | None = None) -> RunnerClient:
        return await self._stack.enter_async_context(
            open_client(self.dsn, actor="test", pooled=pooled)
        )

    async def connection(self) -> Connection:
        """A plain connection, in a transaction from its first statement on."""
        return await self._stack.enter_async_context(
            await psycopg.AsyncConnection[Any].connect(self.dsn)
        )


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with AsyncExitStack() as stack:
        yield Sessions(database, stack)
    async with await psycopg.AsyncConnection[Any].connect(database, autocommit=True) as conn:
        await conn.execute(f"truncate {TABLES}".encode())


async def spawn_agent(
    client: RunnerClient, parent: UUID | None = None, *, budget: int = 1000, **more: Any
) -> Spawned:
    """Spawn an agent whose details do not matter."""
    defaults: dict[str, Any] = {"key": uuid4(), "task": "do it", "program": {"argv": ["true"]}}
    values: dict[str, Any] = defaults | {"parent_id": parent, "budget": budget} | more
    return await client.spawn(Spawn(**values))


async def enroll_runner(client: RunnerClient, *, lease_s: int = 15, slots: int = 10) -> UUID:
    """Enrol a runner whose details do not matter."""
    runner_id = uuid4()
    await client.enroll(
        runner_id,
        host="test",
        pid=1,
        process_start="1",
        boot_id="boot",
        slots=slots,
        lease_s=lease_s,
    )
    return runner_id


async def run_agent(client: RunnerClient, parent: UUID | None = None, **more: Any) -> Spawned:
    """Spawn an agent and let a new runner claim it; its epoch is 1."""
    runner_id = await enroll_runner(client)
    agent = await spawn_agent(client, parent, runner_id=runner_id, **more)
    claimed = await client.claim(runner_id, slots=1000, root_id=agent.root_id)
    assert agent.id in [c.id for c in claimed]
    return agent


async def saved_agent(client: RunnerClient, parent: UUID | None = None, **more: Any) -> Spawned:
    """An agent that has completed and left work to merge: branch bough/x in the repository /r."""
    agent = await run_agent(client, parent, repo_path="/r", base_commit="a" * 40, **more)
    place = {"path": f"/w/{agent.id}", "branch": "bough/x"}
    await client.open_workspace(agent.id, epoch=1, base_commit="b" * 40, **place)
    await client.save_workspace(
        agent.id, epoch=1, head_commit="c" * 40, files=1, added=2, removed=3
    )
    await client.complete(agent.id, epoch=1, result={})
    return agent


async def end_merge(client: RunnerClient, agent_id: UUID, status: str, **more: Any) -> UUID:
    """A merge into main that was queued and has ended so; its id."""
    key = uuid4()
    await client.queue_merge(key, agent_id, target_branch="main", strategy="merge")
    values: dict[str, Any] = {"source": "c" * 40, "previous": None, "commit": None}
    values |= {"conflicts": [], "reason": None, "gate_output": None}
    await client.record_merge(key, status=status, **values | more)
    return key
