"""The record of events: nobody can change it and a tail of it misses nothing."""

import asyncio
import random
from uuid import UUID

import psycopg
import pytest
from conftest import Sessions, run_agent, spawn_agent
from locks import BOUND_S, session

from bough.client.rows import Event
from bough.client.runner_calls import RunnerClient


async def everything(sessions: Sessions) -> list[int]:
    """The ids of all events in the order in which a tail must give them."""
    conn = await sessions.connection()
    cur = await conn.execute("select id from bough.events order by transaction_id, id")
    return [i for (i,) in await cur.fetchall()]


class Tail:
    """A reader that goes on after the last event it has seen, in small pages."""

    def __init__(self, client: RunnerClient, *, root_id: UUID | None = None) -> None:
        self._client = client
        self._root_id = root_id
        self.events: list[Event] = []

    async def read(self) -> None:
        after = self.events[-1].id if self.events else 0
        self.events += await self._client.events(after_id=after, root_id=self._root_id, page=7)

    async def read_until(self, count: int) -> None:
        """Other databases of the server hold the tail back too, so it may take a moment."""
        async with asyncio.timeout(BOUND_S):
            while len(self.events) < count:
                await self.read()
                await asyncio.sleep(0)

    @property
    def ids(self) -> list[int]:
        return [e.id for e in self.events]


async def test_events_tell_who_did_what_to_whom_in_order(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await run_agent(client, budget=500)
    await client.report(agent.id, epoch=1, progress=0.25, note="a quarter")
    await client.terminate(agent.id, reason="enough")
    tail = Tail(client)
    await tail.read_until(6)
    assert [e.name for e in tail.events] == [
        "agent.created",
        "budget.allocated",
        "agent.started",
        "agent.reported",
        "budget.reclaimed",
        "agent.terminated",
    ]
    assert {(e.root_id, e.agent_id, e.actor) for e in tail.events} == {(agent.id, agent.id, "test")}
    data = {e.name: e.data for e in tail.events}
    assert data["agent.reported"] == {"progress": 0.25, "note": "a quarter"}
    assert data["agent.terminated"]["reason"] == "enough"
    assert data["budget.allocated"] == {"allocated": 500, "used": 0, "available": 500}


async def test_a_tail_stops_before_what_a_slow_transaction_may_still_bring(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    agent = await run_agent(client)
    tail = Tail(client)
    await tail.read_until(3)
    slow = await session(sessions)
    await slow.report(agent.id, epoch=1, progress=None, note="slow, first id")
    quick = await spawn_agent(client)
    for _ in range(3):
        await tail.read()
    assert len(tail.events) == 3
    await slow.conn.commit()
    await tail.read_until(6)
    assert tail.ids == await everything(sessions)
    assert [e.name for e in tail.events[3:]] == [
        "agent.reported",
        "agent.created",
        "budget.allocated",
    ]
    assert tail.events[4].agent_id == quick.id


async def test_a_tail_misses_nothing_although_ids_commit_out_of_order(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    agent = await run_agent(client)
    other = await run_agent(client)
    tail, of_other = Tail(client), Tail(await sessions.client(), root_id=other.id)
    writers = [await session(sessions) for _ in range(5)]
    for writer in writers:
        await writer.conn.rollback()
    going = True

    async def write(number: int) -> None:
        kernel, rng = writers[number], random.Random(number)
        mine = agent if number else other
        for n in range(40):
            # Several events a transaction, so that ids and commits interleave.
            await kernel.conn.execute("select 1")
            async with asyncio.timeout(BOUND_S):
                for _ in range(rng.randint(1, 3)):
                    await kernel.conn.execute(
                        "insert into bough.events (root_id, agent_id, name) values (%s, %s, %s)",
                        (mine.id, mine.id, "agent.reported"),
                    )
                    await asyncio.sleep(0)
            await (kernel.conn.rollback() if n % 8 == 7 else kernel.conn.commit())

    async def follow(reader: Tail) -> None:
        while going:
            await reader.read()

    async with asyncio.TaskGroup() as readers:
        readers.create_task(follow(tail))
        readers.create_task(follow(of_other))
        async with asyncio.TaskGroup() as group:
            for number in range(len(writers)):
                group.create_task(write(number))
        going = False
    expected = await everything(sessions)
    await tail.read_until(len(expected))
    assert tail.ids == expected
    assert expected != sorted(expected), "no ids committed out of order: the test proves nothing"
    theirs = [e.id for e in tail.events if e.root_id == other.id]
    await of_other.read_until(len(theirs))
    assert of_other.ids == theirs


async def test_a_tail_goes_on_from_any_event(sessions: Sessions) -> None:
    client = await sessions.client()
    for _ in range(5):
        await spawn_agent(client)
    tail = Tail(client)
    await tail.read_until(10)
    for place, event in enumerate(tail.events):
        rest = await client.events(after_id=event.id)
        assert rest == tail.events[place + 1 :]


@pytest.mark.parametrize(
    "change", [b"update bough.events set name = 'a.b'", b"delete from bough.events"]
)
async def test_what_happened_cannot_be_changed_even_by_the_owner_of_the_table(
    sessions: Sessions, change: bytes
) -> None:
    client = await sessions.client()
    await spawn_agent(client)
    before = await everything(sessions)
    conn = await sessions.connection()
    with pytest.raises(psycopg.DatabaseError, match="events are append-only") as refusal:
        await conn.execute(change)
    assert refusal.value.sqlstate == "TR003"
    await conn.rollback()
    assert await everything(sessions) == before


async def test_a_hand_written_change_is_recorded_as_well(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await spawn_agent(client, budget=10)
    conn = await sessions.connection()
    await conn.execute("update bough.budgets set allocated = 70")
    await conn.execute("update bough.agents set status = 'terminated'")
    await conn.commit()
    tail = Tail(client)
    await tail.read_until(5)
    assert sorted(e.name for e in tail.events[2:]) == [
        "agent.terminated",
        "budget.changed",
        "budget.reclaimed",
    ]
    changed = next(e for e in tail.events if e.name == "budget.changed")
    assert changed.data == {"allocated": 70, "used": 0, "available": 70, "change": 60}
    assert (changed.agent_id, changed.actor) == (agent.id, None)
