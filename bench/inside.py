"""Waiting agents: how soon a person's message reaches a program, and what ten thousand parked cost.

The first part runs a real runner and a real program that waits for mail through the agent API. The
second compares the memory of a runner that has parked ten thousand agents with one that has none,
and takes the time from a message to the first instruction of the one it wakes.
"""

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.runner_calls import RunnerClient

MESSAGES, PARKED, WAKES = 200, 10_000, 20
LISTENER = """
import asyncio, os, sys, time
from bough.client.remote import RemoteClient, RemoteHints, acting_agent
async def main():
    client, me = RemoteClient(os.environ["BOUGH_URL"], os.environ["BOUGH_TOKEN"]), acting_agent()
    hints, seen = RemoteHints(client), 0
    with open(sys.argv[1], "a", buffering=1) as out:
        while seen < int(sys.argv[2]):
            for m in await client.inbox(me):
                out.write(f"{time.time_ns() - m.payload['sent']}\\n")
                await client.acknowledge(me, epoch=0, message_ids=[m.id])
                seen += 1
            await hints.wait(10)
asyncio.run(main())
"""
PARK = """
do $$
declare _id uuid;
begin
  for _n in 1 .. %s loop
    _id := gen_random_uuid();
    perform bough_api.spawn(_id, null, 'parked', 'agent', 1000, 'command', %s, null, null, null,
      %s, null, null, null, null);
    update bough.agents set status = 'running', lease_epoch = 1 where id = _id;
    perform bough_api.park(_id, 1, true, null, null, null, null, null);
  end loop;
end $$
"""


@asynccontextmanager
async def _runner(dsn: str, place: Path) -> AsyncGenerator[tuple[int, UUID]]:
    """A `bough runner` as a user starts it, and its pid and id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bough", "runner", "--slots", "4"),
        env=os.environ | {"BOUGH_DATABASE_URL": dsn, "BOUGH_HOME": str(place)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr
        said = await process.stderr.readline()
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            cur = await conn.execute("select id from bough.runners where pid = %s", (process.pid,))
            row = await cur.fetchone()
            assert row, said
        yield process.pid, row[0]
    finally:
        process.terminate()
        await process.wait()


def _memory(pid: int) -> float:
    """Resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def _spawn(client: RunnerClient, argv: list[str]) -> UUID:
    key = uuid4()
    await client.spawn(Spawn(key=key, task="wait", budget=1000, program={"argv": argv}))
    return key


async def _lines(path: Path, count: int) -> list[str]:
    while True:
        with contextlib.suppress(OSError):
            lines = path.read_text().splitlines()
            if len(lines) >= count:
                return lines
        await asyncio.sleep(0.002)


async def _messages(client: RunnerClient, place: Path) -> None:
    seen = place / "seen"
    agent = await _spawn(client, [sys.executable, "-c", LISTENER, str(seen), str(MESSAGES)])
    for number in range(MESSAGES):
        await client.send(
            uuid4(), sender_id=None, recipient_id=agent, payload={"sent": time.time_ns()}
        )
        await _lines(seen, number + 1)
    # The first one waited for the program to start.
    took = sorted(int(line) / 1e6 for line in (await _lines(seen, MESSAGES))[1:])
    print(
        f"a person's message until a waiting program has it: p50 {statistics.median(took):.1f} ms,"
        f" p99 {took[int(len(took) * 0.99)]:.1f} ms of {len(took)}",
        flush=True,
    )


async def _parked(dsn: str, client: RunnerClient, place: Path) -> None:
    async with _runner(dsn, place / "none") as (pid, _):
        await asyncio.sleep(12)
        none = _memory(pid)
    stamp = place / "woken"
    program = json.dumps({"argv": ["sh", "-c", f"date +%s%N >> {stamp}"]})
    async with _runner(dsn, place / "many") as (pid, runner_id):
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await conn.execute((PARK % (PARKED, f"'{program}'", f"'{runner_id}'")).encode())
            cur = await conn.execute("select id from bough.agents where status = 'waiting'")
            parked = [row[0] for row in await cur.fetchall()]
        await asyncio.sleep(12)
        many = _memory(pid)
        took: list[float] = []
        for number, agent in enumerate(parked[:WAKES], start=1):
            begun = time.time_ns()
            await client.send(uuid4(), sender_id=None, recipient_id=agent, payload={})
            took.append((int((await _lines(stamp, number))[-1]) - begun) / 1e6)
    print(
        f"a runner with {len(parked):,} parked agents {many:.1f} MiB, with none {none:.1f} MiB;"
        f" message to first instruction of the woken: p50 {statistics.median(took):.0f} ms,"
        f" worst of {len(took)} {max(took):.0f} ms"
    )


async def main() -> None:
    """Print both."""
    place = Path(tempfile.mkdtemp(prefix="bough-inside-", dir="/tmp"))
    try:
        async with database() as dsn, open_client(dsn, actor="bench") as client:
            async with _runner(dsn, place / "one"):
                await _messages(client, place)
            await _parked(dsn, client, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
