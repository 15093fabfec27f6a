"""A receiver of the mail torture: a process that takes mailboxes and works until it is killed.

`python -m bench.mail_receiver DSN RUNNER BOXES SEED`. It prints "ready" once it holds its boxes.
What it received it acknowledges at once or some calls later, in one transaction with the effect.
Exit code 3: a call was refused because another runner has the mailbox; 4: it got a message twice.
"""

import asyncio
import random
import sys
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from bough.client.database import open_client
from bough.client.errors import StaleLease, translated
from bough.client.mail_rows import Message
from bough.client.runner_calls import RunnerClient

STALE, TWICE = 3, 4
_EFFECTS = (
    b"insert into torture.effects (box, epoch, sender, number, place)"
    b" select %s, %s, * from unnest(%s::integer[], %s::integer[], %s::integer[])"
)


@dataclass
class Box:
    """A mailbox that is held: what was received and is not acknowledged, with its place."""

    id: UUID
    epoch: int
    in_order: bool
    received: int = 0
    pending: list[tuple[int, Message]] = field(default_factory=list[tuple[int, Message]])
    seen: set[UUID] = field(default_factory=set[UUID])


async def _take(client: RunnerClient, runner: UUID, boxes: int) -> list[Box]:
    held: list[Box] = []
    while len(held) < boxes:
        for agent in await client.claim(runner, slots=boxes - len(held)):
            held.append(Box(agent.id, agent.lease_epoch, agent.role == "in_order"))
        await asyncio.sleep(0.02)
    return held


async def _receive(client: RunnerClient, box: Box, most: int) -> None:
    for message in await client.receive(box.id, epoch=box.epoch, most=most):
        if message.id in box.seen:
            print("received twice in one lease:", box, message, file=sys.stderr)
            sys.exit(TWICE)
        box.seen.add(message.id)
        box.pending.append((box.received, message))
        box.received += 1


async def _effect(conn: psycopg.AsyncConnection[Any], box: Box, done: list[int]) -> None:
    """Acknowledge some of what is pending and note it as done, both or neither."""
    chosen = [box.pending[index] for index in done]
    with translated():
        async with conn.transaction():
            await conn.execute(
                "select bough_api.acknowledge(%s, %s, %s)",
                (box.id, box.epoch, [m.id for _, m in chosen]),
            )
            columns = (
                [m.payload["sender"] for _, m in chosen],
                [m.payload["number"] for _, m in chosen],
                [place for place, _ in chosen],
            )
            await conn.execute(_EFFECTS, (box.id, box.epoch, *columns))
    for index in sorted(done, reverse=True):
        del box.pending[index]


async def main(dsn: str, runner: UUID, boxes: int, seed: int) -> None:
    """Receive and acknowledge until killed, or until another has a mailbox."""
    dice = random.Random(seed)
    conn = await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True)
    async with conn, open_client(dsn, actor="torture") as client:
        await client.enroll(
            runner,
            host="torture",
            pid=1,
            process_start="1",
            boot_id="1",
            slots=boxes,
            lease_s=86_400,
        )
        held = await _take(client, runner, boxes)
        print("ready", flush=True)
        while True:
            for box in held:
                # Not every time, so that one that was stopped acknowledges before it receives.
                if not box.pending or (len(box.pending) < 300 and dice.random() < 0.5):
                    await _receive(client, box, dice.choice((1, 10, 100, 300)))
                count = len(box.pending)
                # Sometimes nothing now, sometimes a part, most often all.
                some = dice.choice((0, dice.randint(0, count), count, count))
                if some:
                    order = range(count) if box.in_order else dice.sample(range(count), count)
                    await _effect(conn, box, list(order[:some]))
            if not any(box.pending for box in held):
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    except StaleLease:
        sys.exit(STALE)
