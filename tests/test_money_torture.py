"""Ten thousand random calls from eight sessions on one tree: no deadlock, no token lost or made."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Sessions, enroll_runner, spawn_agent

SQL = Path(__file__).parents[1] / "bench" / "torture.sql"
SESSIONS, CALLS = 8, 10_000


@pytest.fixture
async def torture(sessions: Sessions) -> Any:
    async with await psycopg.AsyncConnection[Any].connect(sessions.dsn, autocommit=True) as conn:
        await conn.execute(SQL.read_bytes())
        yield conn
        await conn.execute("drop schema torture cascade")
        await conn.execute("drop index bough.living")


async def test_ten_thousand_random_calls_at_once_on_one_tree_never_deadlock(
    sessions: Sessions, torture: psycopg.AsyncConnection[Any]
) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=86_400, slots=100)
    root = await spawn_agent(client, budget=10**12)

    async def run(number: int) -> None:
        async with await psycopg.AsyncConnection[Any].connect(
            sessions.dsn, autocommit=True
        ) as conn:
            for _ in range(5):
                calls = CALLS // SESSIONS // 5
                await conn.execute(
                    "call torture.run(%s, %s, %s, %s)", (number, calls, root.id, runner)
                )

    async with asyncio.TaskGroup() as group:
        for number in range(SESSIONS):
            group.create_task(run(number))
    cur = await torture.execute("select what, sum(number)::int from torture.counts group by 1")
    seen = dict(await cur.fetchall())
    assert sum(seen.values()) == CALLS
    assert [what for what in seen if what[0].isdigit()] == []
    for what in ("spawn", "reserve", "settle", "complete", "terminate", "transfer", "grant"):
        assert seen[what] > 30, seen
    assert await (await torture.execute("select * from bough_api.verify()")).fetchall() == []
    await client.terminate(root.id, reason="calm")
    cur = await torture.execute(
        "select b.used = sum(r.tokens_used) from bough.budgets b join bough.reservations r"
        " on r.root_id = b.agent_id where b.agent_id = %s and r.tokens_used is not null"
        " group by b.used",
        (root.id,),
    )
    assert await cur.fetchone() == (True,)
