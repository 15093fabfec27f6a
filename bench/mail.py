"""Mail per second beside queues of others, on one server in one run, by as many tasks each.

Queues take turns in short rounds, and a ratio is the median of the rounds' ratios, so that a
machine whose speed drifts does not decide. Then, inside the server, receiving and acknowledging
beside single-row inserts; and how long a task that listens takes to have a message.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from bench import peers
from bench.queues import PAYLOAD, TASKS, Mailboxes, Queue, mailboxes
from bench.server import database
from bough.client.database import open_client
from bough.client.hints import listening, mail_channel

ROUNDS, SECONDS = 5, 0.5
BOXES, HOT = 50, 0
ENOUGH = 5000
"""Messages in the boxes before they are drained; a mailbox of ours holds 10,000."""
WAKES = 200
INSERTS, DRAINS = 1000, ((1, 1000), (10, 500), (100, 90))
WHAT = ("send one by one", "send in hundreds", "take by ones", "take in tens")
_PROCEDURES = b"""
create table plain_rows (id uuid primary key default gen_random_uuid(), number integer);
create procedure bench_insert(calls integer) language plpgsql as $$
begin
  for number in 1 .. calls loop
    insert into plain_rows (number) values (number);
    commit;
  end loop;
end $$;
create procedure bench_drain(agent uuid, most integer, calls integer) language plpgsql as $$
declare
  _ids uuid[];
begin
  for _ in 1 .. calls loop
    _ids := array(select id from bough_api.receive(agent, 1, most));
    perform bough_api.acknowledge(agent, 1, _ids);
    commit;
  end loop;
end $$
"""
Act = Callable[[int, int], Awaitable[int]]


async def _rate(act: Act, boxes: list[int], tasks: int) -> float:
    """Messages per second of all tasks together, for SECONDS or ENOUGH messages.

    Each task goes round boxes of its own, or all share the only one.
    """
    begun, total = time.perf_counter(), 0

    async def work(task: int) -> None:
        nonlocal total
        own = boxes[task::tasks] or boxes
        idle = 0
        for box in itertools.cycle(own):
            if total >= ENOUGH or time.perf_counter() > begun + SECONDS or idle == len(own):
                return
            done = await act(task, box)
            total += done
            idle = 0 if done else idle + 1

    await asyncio.gather(*[work(task) for task in range(tasks)])
    return total / (time.perf_counter() - begun)


async def _round(queue: Queue, boxes: list[int], tasks: int) -> dict[str, float]:
    async def send(task: int, box: int, count: int) -> int:
        await queue.send(task, box, count)
        return count

    found = {WHAT[0]: await _rate(lambda t, b: send(t, b, 1), boxes, tasks)}
    await queue.clear()
    found[WHAT[1]] = await _rate(lambda t, b: send(t, b, 100), boxes, tasks)
    for what, most in zip(WHAT[2:], (1, 10), strict=True):
        await queue.clear()
        for number in range(ENOUGH // 100):
            await queue.send(0, boxes[number % len(boxes)], 100)
        found[what] = await _rate(lambda t, b, most=most: queue.take(t, b, most), boxes, tasks)
    await queue.clear()
    return found


async def _compare(queues: dict[str, Queue], boxes: list[int], tasks: int) -> None:
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in queues}
    for number in range(ROUNDS):
        # The one that begins changes from round to round.
        for name in sorted(queues, key=lambda n: (list(queues).index(n) + number) % len(queues)):
            seen[name].append(await _round(queues[name], boxes, tasks))
    where = f"{len(boxes)} mailboxes" if len(boxes) > 1 else "one hot mailbox"
    print(f"\n{where}, {tasks} task{'s' * (tasks > 1)}: messages per second (ratio to the first)")
    print(f"{'':22}" + "".join(f"{what:>25}" for what in WHAT))
    first = seen[next(iter(queues))]
    for name, rounds in seen.items():
        cells = ""
        for what in WHAT:
            ratio = statistics.median(r[what] / f[what] for r, f in zip(rounds, first, strict=True))
            rate = statistics.median(r[what] for r in rounds)
            cells += f"{rate:>16,.0f} ({ratio:5.2f}x)"
        print(f"{name:22}{cells}", flush=True)


async def _in_database(dsn: str, ours: Mailboxes) -> None:
    """One session, no client: a commit for each pair of receive and acknowledge."""
    seen = dict[str, list[float]]()
    async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
        await conn.execute(_PROCEDURES)
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await conn.execute("call bench_insert(%s)", (INSERTS,))
            insert = INSERTS / (time.perf_counter() - begun)
            seen.setdefault("single-row inserts", []).append(insert)
            for most, pairs in DRAINS:
                for _ in range(most * pairs // 100):
                    await ours.send(0, HOT, 100)
                begun = time.perf_counter()
                await conn.execute("call bench_drain(%s, %s, %s)", (ours.agents[HOT], most, pairs))
                rate = pairs * most / (time.perf_counter() - begun)
                seen.setdefault(f"take by {most}", []).append(rate)
    print("\nin the database, one session, a commit for each pair of receive and acknowledge")
    inserts = seen["single-row inserts"]
    for name, rates in seen.items():
        ratio = statistics.median(a / b for a, b in zip(rates, inserts, strict=True))
        print(f"{name:22}{statistics.median(rates):>16,.0f}/s  {ratio:5.2f} x inserts")


async def _wake(dsn: str, ours: Mailboxes) -> None:
    """From before a send until the task that listens has the message."""
    agent, taken = ours.agents[HOT], list[float]()
    got = asyncio.Event()

    async def wait(hears: asyncio.Event) -> None:
        async with (
            listening(dsn, mail_channel(agent)) as hints,
            open_client(dsn, actor="bench") as client,
        ):
            hears.set()
            while True:
                await hints.wait(5)
                for message in await client.receive(agent, epoch=1):
                    taken.append((time.perf_counter() - message.payload["at"]) * 1000)
                    got.set()

    async with open_client(dsn, actor="bench") as client:
        hears = asyncio.Event()
        waiter = asyncio.create_task(wait(hears))
        await hears.wait()
        for _ in range(WAKES):
            got.clear()
            payload = {**PAYLOAD, "at": time.perf_counter()}
            await client.send(uuid4(), sender_id=None, recipient_id=agent, payload=payload)
            await got.wait()
            await asyncio.sleep(0.01)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    taken.sort()
    print(
        f"\nfrom send until a task that listens has the message, {len(taken)} times:"
        f" p50 {statistics.median(taken):.1f} ms, p99 {taken[int(len(taken) * 0.99) - 1]:.1f} ms,"
        f" worst {taken[-1]:.1f} ms"
    )


async def main() -> None:
    """Print the table, the rates in the database, and the time to wake."""
    async with database() as dsn, AsyncExitStack() as stack:
        ours = await stack.enter_async_context(mailboxes(dsn, BOXES))
        queues: dict[str, Queue] = {ours.name: ours}
        theirs = make_conninfo(dsn, options="-c search_path=public")
        for name, opener in peers.installed():
            queues[name] = await stack.enter_async_context(opener(theirs, BOXES))
        for boxes, tasks in (([HOT], TASKS), (list(range(BOXES)), TASKS), ([HOT], 1)):
            await _compare(queues, boxes, tasks)
        await _in_database(dsn, ours)
        await _wake(dsn, ours)


if __name__ == "__main__":
    asyncio.run(main())
