"""Calls about tokens per second, beside plain single-row inserts by as many clients in one run.

pgbench speaks to the server, so that what is measured is the database: each client reserves and
settles on an agent of its own, then all on one hot agent. And how long after `terminate` of a
hundred agents their tokens are the parent's again.
"""

import asyncio
import os
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.runner_calls import RunnerClient

ROUNDS, SECONDS = 5, 3
CLIENTS = (1, 8)

INSERT = "insert into plain_rows (id, note, number) values (gen_random_uuid(), 'note', 7);"
PAIR = r"""
\set n :client_id + 1
\set a random(1, 9223372036854775806)
\set b random(1, 9223372036854775806)
select id from bough_api.reserve(KEY, AGENT, 100, 'call', 'model', 600);
select id from bough_api.settle(KEY, AGENT, 60, 40, 20, 0, 0, 'model', 0.001, null);
""".replace("KEY", "(lpad(to_hex(:a::bigint), 16, '0') || lpad(to_hex(:b::bigint), 16, '0'))::uuid")
OWN = PAIR.replace("AGENT", "(select agent_id from bench_agents where n = :n)")
HOT = PAIR.replace("AGENT", "(select agent_id from bench_agents where n = 1)")


def _pgbench() -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return str(found[-1]) if found else shutil.which("pgbench")


async def _rate(dsn: str, script: Path, clients: int, statements: int) -> float:
    """Statements of the kind that is measured per second."""
    program = _pgbench()
    assert program
    process = await asyncio.create_subprocess_exec(
        *(program, "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(SECONDS)),
        *("-f", str(script), dsn),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PGOPTIONS": "-c client_min_messages=warning"},
    )
    out = (await process.communicate())[0].decode()
    found = re.search(r"tps = ([\d.]+)", out)
    assert found, out
    return float(found[1]) * statements


async def _rates(dsn: str, place: Path) -> None:
    scripts = {"insert": (INSERT, 1), "own agents": (OWN, 2), "one hot agent": (HOT, 2)}
    for name, (text, _) in scripts.items():
        (place / name).write_text(text)
    for clients in CLIENTS:
        seen: dict[str, list[float]] = {name: [] for name in scripts}
        for _ in range(ROUNDS):
            for name, (_, statements) in scripts.items():
                seen[name].append(await _rate(dsn, place / name, clients, statements))
        for name, rates in seen.items():
            ratios = [a / b for a, b in zip(rates, seen["insert"], strict=True)]
            print(
                f"{name:14} {clients} client{'s' * (clients > 1):1} "
                f"{statistics.median(rates):8,.0f} calls/s"
                f" {statistics.median(ratios):5.2f} x insert"
                f"  (rounds {min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


async def _spawn(client: RunnerClient, parent: UUID | None, budget: int) -> UUID:
    key = uuid4()
    await client.spawn(Spawn(key=key, task="bench", budget=budget, program={}, parent_id=parent))
    return key


async def _terminate(client: RunnerClient) -> None:
    """A child with ninety-nine below it on three levels, each with an open call, is ended."""
    taken: list[float] = []
    agents: list[UUID] = []
    for _ in range(7):
        root = await _spawn(client, None, 1_000_000)
        top = await _spawn(client, root, 900_000)
        agents = [top]
        for _ in range(9):
            middle = await _spawn(client, top, 90_000)
            agents += [middle, *[await _spawn(client, middle, 5_000) for _ in range(10)]]
        for agent in agents:
            await client.reserve(uuid4(), agent, 100)
        begun = time.perf_counter()
        await client.terminate(top, reason="bench")
        await client.reserve(uuid4(), root, 980_000)
        taken.append((time.perf_counter() - begun) * 1000)
    print(
        f"terminate of {len(agents)} agents until their tokens are spent by the parent: "
        f"median {statistics.median(taken):.0f} ms, worst of {len(taken)} {max(taken):.0f} ms"
    )


async def main() -> None:
    """Print the rates, then the time."""
    place = Path(tempfile.mkdtemp(prefix="bough-tokens-", dir="/tmp"))
    try:
        async with database() as dsn, open_client(dsn, actor="bench") as client:
            await _terminate(client)
            if _pgbench() is None:
                print("pgbench is not installed: rates are not measured")
                return
            async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
                await conn.execute(
                    "create table plain_rows (id uuid primary key, note text, number integer)"
                )
                await conn.execute(
                    "create table bench_agents (n integer primary key, agent_id uuid)"
                )
                for number in range(1, max(CLIENTS) + 1):
                    agent = await _spawn(client, None, 10**15)
                    await conn.execute("insert into bench_agents values (%s, %s)", (number, agent))
            await _rates(dsn, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
