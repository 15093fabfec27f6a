"""Kernel calls per second beside plain single-row inserts, by the same clients, in the same run.

Each client is a process of its own with one connection. Floor and call alternate in short rounds
and the median of the rounds' ratios is shown, so that a machine whose speed drifts does not decide.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.server import database
from bough.client.budgets import Usage
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.runner_calls import RunnerClient

ROUNDS, SECONDS = 7, 1.0
CALLS = ("insert", "spawn", "claim", "complete", "reserve", "settle")
Call = Callable[[], Awaitable[object]]


async def _calls(client: RunnerClient, dsn: str, stack: AsyncExitStack) -> dict[str, Call]:
    plain = await stack.enter_async_context(
        await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True)
    )
    runner_id = uuid4()
    await client.enroll(
        runner_id, host="bench", pid=1, process_start="1", boot_id="1", slots=1, lease_s=3600
    )
    held: list[UUID] = []

    async def insert() -> None:
        await plain.execute(
            "insert into plain_rows (id, note, number) values (%s, %s, %s)", (uuid4(), "note", 7)
        )

    async def spawn() -> None:
        await client.spawn(
            Spawn(
                key=uuid4(),
                task="do something useful",
                budget=1000,
                program={"argv": ["true"]},
                repo_path="/repository",
                base_commit="0123456789" * 4,
                target_branch="main",
            )
        )

    async def claim() -> None:
        held.extend(c.id for c in await client.claim(runner_id, slots=1))

    async def complete() -> bool | None:
        if not held:
            return False
        await client.complete(held.pop(), epoch=1, result={"exit_code": 0})
        return None

    mine, open_calls = uuid4(), list[UUID]()
    await client.spawn(Spawn(key=mine, task="spend", budget=10**15, program={}))
    await client.pause(mine, reason="not to be claimed")

    async def reserve() -> None:
        open_calls.append(uuid4())
        await client.reserve(open_calls[-1], mine, 100)

    async def settle() -> bool | None:
        if not open_calls:
            return False
        await client.settle(open_calls.pop(), mine, Usage(tokens=60))
        return None

    made: dict[str, Call] = {"insert": insert, "spawn": spawn, "claim": claim, "complete": complete}
    return made | {"reserve": reserve, "settle": settle}


async def _worker(dsn: str) -> None:
    """Obey lines of JSON on stdin: make one call over and over; print how many a second."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(dsn, actor="bench"))
        calls = await _calls(client, dsn, stack)
        for call in calls.values():
            await call()
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            call, done, begun = calls[order["call"]], 0, time.perf_counter()
            while time.perf_counter() - begun < order["seconds"] and done < order["most"]:
                if await call() is False:
                    break
                done += 1
            print(json.dumps([done, time.perf_counter() - begun]), flush=True)


async def _order(workers: list[asyncio.subprocess.Process], call: str, most: int) -> float:
    """Calls per second of all workers together."""
    order = json.dumps({"call": call, "seconds": SECONDS, "most": most}) + "\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write(order.encode())
    rate = 0.0
    for worker in workers:
        assert worker.stdout
        done, seconds = json.loads(await worker.stdout.readline())
        rate += done / seconds
    return rate


async def _measure(dsn: str, clients: int) -> None:
    workers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.calls", dsn),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(clients)
    ]
    for worker in workers:
        assert worker.stdout
        await worker.stdout.readline()
    rates: dict[str, list[float]] = {name: [] for name in CALLS}
    for _ in range(ROUNDS):
        for call in rates:
            # Claims need agents in line and completions need claimed ones: as many as there are.
            most = 200 if call in ("claim", "complete") else 10**9
            rates[call].append(await _order(workers, call, most))
    for worker in workers:
        assert worker.stdin
        worker.stdin.close()
        await worker.wait()
    for call, seen in rates.items():
        ratios = [a / b for a, b in zip(seen, rates["insert"], strict=True)]
        print(
            f"{call:10} {clients} client{'s' * (clients > 1):1}  {statistics.median(seen):8,.0f}/s"
            f"  {statistics.median(ratios):5.2f} x insert"
            f"  (rounds {min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


async def main() -> None:
    """Print the rates with one client and with eight."""
    async with database() as dsn:
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await conn.execute(
                "create table plain_rows (id uuid primary key, note text, number integer)"
            )
        for clients in (1, 8):
            await _measure(dsn, clients)


if __name__ == "__main__":
    asyncio.run(_worker(sys.argv[1]) if len(sys.argv) > 1 else main())
