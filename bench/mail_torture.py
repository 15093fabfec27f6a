"""Mail to receivers that are killed all the time: how much is lost, done twice, or reordered.

`make mail-torture MESSAGES=1000000`. Each receiver is a process that is SIGKILLed, or stopped and
let go once another has its mailboxes; then it must be refused. An effect is a row written in the
transaction of the acknowledgement, so that the effects tell exactly what was done and how often.
"""

import asyncio
import os
import random
import signal
import sys
import time
from typing import Any
from uuid import UUID, uuid4

import psycopg

from bench.mail_receiver import STALE
from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.errors import MailboxFull
from bough.client.runner_calls import RunnerClient

MESSAGES = int(os.environ.get("MESSAGES", "100000"))
SENDERS, BOXES, RECEIVERS, KILLERS = 8, 20, 4, 2
STALLED_S = 60
_SCHEMA = (
    b"create schema torture;"
    b"create table torture.effects (id bigserial primary key, box uuid, epoch bigint,"
    b" sender integer, number integer, place integer);"
    b"create table torture.sent (box uuid, sender integer, count integer)"
)
_JUDGE = {
    "lost": b"""
        select count(*) from torture.sent s, generate_series(1, s.count) number
         where not exists (select from torture.effects e
           where e.box = s.box and e.sender = s.sender and e.number = number.number)""",
    "duplicated": b"""
        select count(*) - count(distinct (box, sender, number)) from torture.effects""",
    # Where a receiver acknowledges as it likes, its heir gets the rest: there, within one lease.
    "reordered": b"""
        select count(*) from (
          select number < lag(number) over (
            partition by e.box, e.sender, case when a.role <> 'in_order' then e.epoch end
            order by e.epoch, e.place) as is_late
          from torture.effects e join bough.agents a on a.id = e.box) p where is_late""",
    "done out of order": b"""
        select count(*) from (
          select number < lag(number) over (partition by e.box, e.sender order by e.id) as is_late
          from torture.effects e join bough.agents a on a.id = e.box
          where a.role = 'in_order') p where is_late""",
    "left in mailboxes": b"""
        select count(*) from bough.mail_tails t left join bough.mail_heads h
          using (root_id, recipient_id, priority)
         where (h.acknowledged_seq = t.last_seq and h.ahead = '{}') is not true""",
    "dead letters": b"select count(*) from bough.messages where status <> 'queued'",
}


class Receivers:
    """The processes, the runner that each is, and what became of those that are gone."""

    def __init__(self, dsn: str, client: RunnerClient) -> None:
        self._dsn = dsn
        self._client = client
        self._dice = random.Random(1)
        self._living: list[tuple[UUID, asyncio.subprocess.Process]] = []
        self.killed = self.refused = 0
        self.strange: list[int] = []

    async def start(self) -> None:
        """Another one, once it holds its share of the mailboxes."""
        runner = uuid4()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.mail_receiver", self._dsn, str(runner)),
            *(str(BOXES // RECEIVERS), str(self._dice.randrange(10**6))),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        await process.stdout.readline()
        self._living.append((runner, process))

    async def replace(self) -> None:
        """Kill one, or let it sleep while another takes over; it is refused when it wakes."""
        runner, process = self._living.pop(self._dice.randrange(len(self._living)))
        if process.returncode is not None:
            self.strange.append(process.returncode)
        sleeps = self._dice.random() < 0.3
        process.send_signal(signal.SIGSTOP if sleeps else signal.SIGKILL)
        await self._client.retire(runner)
        await self.start()
        if sleeps:
            # The heir works by now on what the sleeper had received.
            await asyncio.sleep(self._dice.random() * 0.5)
            process.send_signal(signal.SIGCONT)
        code = await process.wait()
        self.killed += code == -signal.SIGKILL
        self.refused += code == STALE
        if code not in (-signal.SIGKILL, STALE):
            self.strange.append(code)

    async def keep_killing(self, until: asyncio.Event) -> None:
        """One after the other."""
        while not until.is_set():
            await asyncio.sleep(self._dice.random())
            await self.replace()

    async def end(self) -> None:
        """Kill those that live."""
        for _, process in self._living:
            if process.returncode is None:
                process.kill()
            else:
                self.strange.append(process.returncode)
            await process.wait()


async def _send(client: RunnerClient, sender: int, agent: UUID, boxes: list[UUID]) -> list[int]:
    """One sender's share, numbered for each box from 1; how many went to each."""
    dice, sent = random.Random(sender), [0] * len(boxes)
    left = MESSAGES // SENDERS
    while left > 0:
        box = dice.randrange(len(boxes))
        count = min(left, 1 if dice.random() < 0.9 else dice.randint(2, 200))
        numbers = range(sent[box] + 1, sent[box] + count + 1)
        payloads = [{"sender": sender, "number": number} for number in numbers]
        key = uuid4()
        while True:
            try:
                if count == 1:
                    await client.send(
                        key, sender_id=agent, recipient_id=boxes[box], payload=payloads[0]
                    )
                else:
                    await client.send_many(
                        sender_id=agent, recipient_id=boxes[box], payloads=payloads
                    )
                break
            except MailboxFull:
                await asyncio.sleep(0.05)
        sent[box] += count
        left -= count
    return sent


async def _value(conn: psycopg.AsyncConnection[Any], sql: bytes) -> int:
    row = await (await conn.execute(sql)).fetchone()
    assert row
    return int(row[0])


async def _done(conn: psycopg.AsyncConnection[Any], begun: float) -> None:
    """Return once there are as many effects as messages, or none came for a while."""
    seen, since = -1, time.monotonic()
    while seen < MESSAGES // SENDERS * SENDERS and time.monotonic() < since + STALLED_S:
        await asyncio.sleep(5)
        now = await _value(conn, b"select count(*) from torture.effects")
        if now > seen:
            seen, since = now, time.monotonic()
        rate = seen / (since - begun)
        print(f"{seen:>10,} of {MESSAGES:,}  {rate:,.0f}/s", file=sys.stderr, flush=True)


async def _spawn(client: RunnerClient, role: str) -> UUID:
    key = uuid4()
    await client.spawn(Spawn(key=key, task="torture", budget=1, program={}, role=role))
    return key


async def _run(
    client: RunnerClient, conn: psycopg.AsyncConnection[Any], receivers: Receivers
) -> float:
    """All the sending, receiving and killing; how many seconds it took."""
    # An agent that has not been claimed has a mailbox too, but only these are to be claimed.
    boxes = [await _spawn(client, "in_order" if n % 2 else "any_order") for n in range(BOXES)]
    await asyncio.gather(*[receivers.start() for _ in range(RECEIVERS)])
    agents = [await _spawn(client, "sender") for _ in range(SENDERS)]
    for agent in agents:
        await client.pause(agent, reason="only sends")
    begun, over = time.monotonic(), asyncio.Event()
    killers = [asyncio.create_task(receivers.keep_killing(over)) for _ in range(KILLERS)]
    done = asyncio.create_task(_done(conn, begun))
    sent = await asyncio.gather(*[_send(client, n, a, boxes) for n, a in enumerate(agents)])
    await done
    seconds = time.monotonic() - begun
    over.set()
    await asyncio.gather(*killers)
    await receivers.end()
    rows = [(b, s, c) for s, each in enumerate(sent) for b, c in zip(boxes, each, strict=True)]
    await conn.cursor().executemany("insert into torture.sent values (%s, %s, %s)", rows)
    return seconds


async def main() -> int:
    """Run it; 0 when nothing was lost, done twice, or out of order."""
    async with (
        database() as dsn,
        open_client(dsn, actor="torture", pooled=SENDERS + 2) as client,
        await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn,
    ):
        await conn.execute(_SCHEMA)
        receivers = Receivers(dsn, client)
        seconds = await _run(client, conn, receivers)
        return await _judge(conn, receivers, seconds)


async def _judge(conn: psycopg.AsyncConnection[Any], receivers: Receivers, seconds: float) -> int:
    await conn.execute("create index on torture.effects (box, sender, number)")
    await conn.execute("analyze torture.effects")
    sent = await _value(conn, b"select sum(count) from torture.sent")
    leases = await _value(conn, b"select count(distinct (box, epoch)) from torture.effects")
    found = {what: await _value(conn, sql) for what, sql in _JUDGE.items()}
    print(
        f"{sent:,} messages from {SENDERS} senders to {BOXES} mailboxes in {seconds:.0f} s,"
        f" {sent / seconds:,.0f}/s; {leases:,} leases of {RECEIVERS} receivers,"
        f" {receivers.killed} killed, {receivers.refused} outlived their lease and were refused"
    )
    print(", ".join(f"{what} {number:,}" for what, number in found.items()) + f" of {sent:,}")
    if receivers.strange:
        print("receivers that ended otherwise, by exit code:", *receivers.strange)
    return int(any(found.values()) or bool(receivers.strange))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
