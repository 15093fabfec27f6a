"""Random calls about tokens from eight sessions on one tree: how many are lost or made.

`make torture OPERATIONS=1000000`. Every call is a transaction of its own inside the server, so that
the sessions really meet. At the end every rule that `bough db verify` knows must hold, and what the
root was given must be what all calls were charged and what is left.
"""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client

SESSIONS = 8
OPERATIONS = int(os.environ.get("OPERATIONS", "1000000"))
BUDGET = 10**12
PIECE = 500


async def _session(dsn: str, number: int, tree: str, runner: str) -> None:
    async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
        # In pieces: a server counts what a call left behind, for its vacuum, when the call ends.
        left = OPERATIONS // SESSIONS
        while left > 0:
            await conn.execute(
                "call torture.run(%s, %s, %s, %s)", (number, min(left, PIECE), tree, runner)
            )
            left -= PIECE


async def _one(conn: psycopg.AsyncConnection[Any], sql: str, *values: object) -> tuple[Any, ...]:
    row = await (await conn.execute(sql.encode(), values)).fetchone()
    assert row
    return row


async def _progress(dsn: str, begun: float) -> None:
    async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
        while True:
            await asyncio.sleep(10)
            [done] = await _one(conn, "select coalesce(sum(number), 0) from torture.counts")
            rate = int(done) / (time.monotonic() - begun)
            print(f"{int(done):>10,} of {OPERATIONS:,}  {rate:,.0f}/s", file=sys.stderr, flush=True)


async def main() -> int:
    """Run it; 0 when not a token was lost or made and nothing deadlocked."""
    async with database() as dsn, open_client(dsn, actor="torture") as client:
        runner = uuid4()
        await client.enroll(
            runner, host="t", pid=1, process_start="1", boot_id="1", slots=100, lease_s=86_400
        )
        root = uuid4()
        await client.spawn(Spawn(key=root, task="torture", budget=BUDGET, program={}))
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await conn.execute((Path(__file__).parent / "torture.sql").read_bytes())
            begun = time.monotonic()
            ticker = asyncio.create_task(_progress(dsn, begun))
            async with asyncio.TaskGroup() as group:
                for number in range(SESSIONS):
                    group.create_task(_session(dsn, number, str(root), str(runner)))
            seconds = time.monotonic() - begun
            ticker.cancel()
            return await _judge(conn, str(root), seconds)


async def _judge(conn: psycopg.AsyncConnection[Any], root: str, seconds: float) -> int:
    counts = await (
        await conn.execute(
            "select what, sum(number)::bigint from torture.counts group by 1 order by 2 desc"
        )
    ).fetchall()
    done = sum(n for _, n in counts)
    print(f"{done:,} operations by {SESSIONS} sessions in {seconds:.0f} s, {done / seconds:,.0f}/s")
    print("  " + "  ".join(f"{what} {number:,}" for what, number in counts))
    broken = await (await conn.execute("select * from bough_api.verify()")).fetchall()
    for row in broken[:20]:
        print("  BROKEN", *row)
    allocated, used, reserved, available = await _one(
        conn,
        "select allocated, used, reserved, available from bough.budgets where agent_id = %s",
        root,
    )
    [living] = await _one(
        conn,
        "select coalesce(sum(used), 0)::bigint from bough.budgets"
        " where root_id = %s and reclaimed_at is null",
        root,
    )
    [charged] = await _one(
        conn, "select coalesce(sum(tokens_used), 0)::bigint from bough.reservations"
    )
    [granted] = await _one(
        conn,
        "select coalesce(sum((data ->> 'change')::bigint), 0)::bigint from bough.events"
        " where agent_id = %s and name = 'budget.changed'",
        root,
    )
    lost = abs(BUDGET + granted - used - reserved - available) + abs(living - charged)
    print(f"charged by calls {charged:,}, on accounts {living:,}; root holds {allocated:,} tokens")
    strange = sum(n for what, n in counts if what[:1].isdigit())
    deadlocks = sum(n for what, n in counts if what == "40P01")
    print(f"tokens lost or made: {lost}; rules broken: {len(broken)}; deadlocks: {deadlocks};")
    print(f"other errors: {strange - deadlocks}")
    return int(bool(lost or broken or strange))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
