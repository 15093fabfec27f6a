"""Parking and what wakes, at the same moment: no wake-up falls between the two, none comes twice.

Each pair is made to meet in both orders; then thousands of times as it comes.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, spawn_agent
from locks import Call, assert_sound, collide
from parking import LONG_S, ask, park, start, woken_by
from test_mail import say

from bough.client.errors import BoughError
from bough.client.mail_rows import Parked
from bough.client.runner_calls import RunnerClient

AGENTS, LANES = 40, 2
SENDS, ENDS = 10_000, 1_000

ASLEEP = """
    select count(*) from bough.agents a join bough.waits w on w.agent_id = a.id
     where a.status = 'waiting' and w.woken_at is null
"""
DRAIN = """
    select count(bough_api.acknowledge(a.id, a.lease_epoch, array(
      select m.id from bough_api.receive(a.id, a.lease_epoch, 1000) m)))
      from bough.agents a where a.status = 'running'
"""
Wait = Callable[[RunnerClient, UUID, int], Awaitable[Parked]]
Happen = Callable[[RunnerClient, UUID], Awaitable[object]]

PAIRS: dict[str, tuple[str, Callable[[Kernel, dict[str, UUID]], Awaitable[object]]]] = {
    "message": ("message", lambda k, ids: say(k, ids["agent"], "x")),
    "child": ("child", lambda k, ids: k.complete(ids["child"], epoch=1, result={})),
    "tokens": ("budget", lambda k, ids: k.grant_budget(ids["agent"], 500)),
    "approval": ("approval", lambda k, ids: k.decide(ids["approval"], approve=True, answer=None)),
}


async def scene(client: RunnerClient, runner: UUID) -> dict[str, UUID]:
    root = await start(client, runner, budget=5_000)
    agent = await start(client, runner, root, budget=1_000)
    child = await start(client, runner, agent)
    return {"agent": agent, "child": child, "approval": await ask(client, agent)}


def wait_for(kernel: Kernel, what: str, ids: dict[str, UUID]) -> Awaitable[Parked]:
    return kernel.park(
        ids["agent"],
        epoch=1,
        for_messages=what == "message",
        for_children="all" if what == "child" else None,
        for_tokens=1_100 if what == "tokens" else None,
        for_approval=ids["approval"] if what == "approval" else None,
    )


@pytest.mark.parametrize("park_first", [True, False])
@pytest.mark.parametrize("what", PAIRS)
async def test_who_parks_while_it_happens_is_told_or_woken(
    sessions: Sessions, what: str, park_first: bool
) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client)
    ids = await scene(client, runner)
    by, happen = PAIRS[what]
    calls: list[Call] = [lambda k: wait_for(k, what, ids), lambda k: happen(k, ids)]
    answers = await collide(sessions, *(calls if park_first else calls[::-1]))
    assert not [a for a in answers if isinstance(a, BoughError)]
    parked = answers[0] if park_first else answers[1]
    assert parked == (Parked(True, None) if park_first else Parked(False, by))
    if park_first:
        assert await woken_by(Kernel(await sessions.connection()), ids["agent"]) == by


@pytest.mark.parametrize("message_first", [True, False])
async def test_two_who_wake_at_once_wake_once(sessions: Sessions, message_first: bool) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client)
    ids = await scene(client, runner)
    await park(client, ids["agent"], for_messages=True, for_tokens=1_100)
    calls: list[Call] = [
        lambda k: say(k, ids["agent"], "x"),
        lambda k: k.grant_budget(ids["agent"], 500),
    ]
    answers = await collide(sessions, *(calls if message_first else calls[::-1]))
    assert not [a for a in answers if isinstance(a, BoughError)]
    by = await woken_by(Kernel(await sessions.connection()), ids["agent"])
    assert by == ("message" if message_first else "budget")
    assert [c.lease_epoch for c in await client.claim(runner, slots=9)] == [2]
    assert await client.claim(runner, slots=9) == []


async def test_a_claim_does_not_wait_for_who_wakes_just_now(sessions: Sessions) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=LONG_S)
    ids = await scene(client, runner)
    await park(client, ids["agent"], for_messages=True, seconds=60)
    waker, claimer = Kernel(await sessions.connection()), Kernel(await sessions.connection())
    await waker.conn.execute("select")
    await say(waker, ids["agent"], "wake up")
    await claimer.set_clock(61)
    async with asyncio.timeout(5):
        assert await claimer.claim(runner, slots=9) == []
    await waker.conn.commit()
    assert [c.id for c in await claimer.claim(runner, slots=9)] == [ids["agent"]]


async def test_two_claims_at_once_take_a_woken_agent_once(sessions: Sessions) -> None:
    one, two = await sessions.client(), await sessions.client()
    runner = await enroll_runner(one)
    agents = [await start(one, runner) for _ in range(20)]
    for agent in agents:
        await park(one, agent, for_messages=True)
        await say(one, agent, "wake up")
    taken = await asyncio.gather(*(c.claim(runner, slots=20) for c in (one, two)))
    assert sorted(c.id for claimed in taken for c in claimed) == sorted(agents)


class Race:
    """Agents that park while what wakes them happens, on connections of their own."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.epochs: dict[UUID, int] = {}
        self.seen: Counter[str] = Counter()

    async def begin(self, budget: int) -> None:
        conn = await self.sessions.connection()
        await conn.set_autocommit(True)
        self.kernel = Kernel(conn)
        self.runner = await enroll_runner(self.kernel, lease_s=LONG_S, slots=1000)
        self.pairs = [
            (await self.sessions.client(), await self.sessions.client()) for _ in range(LANES)
        ]
        for _ in range(AGENTS):
            self.epochs[await start(self.kernel, self.runner, budget=budget)] = 1

    async def run(self, wait: Wait, happen: Happen) -> None:
        """Let each agent park while it happens, several at once, in both orders."""

        async def lane(n: int) -> None:
            parker, waker = self.pairs[n]
            for agent, epoch in list(self.epochs.items())[n::LANES]:
                calls = [wait(parker, agent, epoch), happen(waker, agent)]
                order = 1 if self.seen.total() % 4 < LANES else -1
                answers = await asyncio.gather(*calls[::order])
                [parked] = [a for a in answers if isinstance(a, Parked)]
                self.seen["parked" if parked.parked else "ready"] += 1

        async with asyncio.TaskGroup() as group:
            for n in range(LANES):
                group.create_task(lane(n))

    async def nobody_sleeps(self) -> None:
        """Each agent that parked was woken; all of them run again afterwards."""
        assert await self.kernel.value(ASLEEP) == 0
        for claimed in await self.kernel.claim(self.runner, slots=1000):
            self.epochs[claimed.id] = claimed.lease_epoch


async def test_ten_thousand_messages_to_agents_that_park_just_then_all_wake_them(
    sessions: Sessions,
) -> None:
    race = Race(sessions)
    await race.begin(budget=100)
    for _ in range(SENDS // AGENTS):
        await race.run(
            lambda c, agent, epoch: c.park(agent, epoch=epoch, for_messages=True),
            lambda c, agent: c.send(uuid4(), sender_id=None, recipient_id=agent, payload={}),
        )
        await race.nobody_sleeps()
        await race.kernel.value(DRAIN)
    assert race.seen.total() == SENDS
    # Without both the race was none.
    assert min(race.seen["parked"], race.seen["ready"]) > SENDS / 100, race.seen


async def test_a_thousand_children_that_end_while_their_parent_parks_all_wake_it(
    sessions: Sessions,
) -> None:
    race = Race(sessions)
    await race.begin(budget=10_000)
    for _ in range(ENDS // AGENTS):
        for parent in race.epochs:
            await spawn_agent(race.kernel, parent, budget=10, runner_id=race.runner)
        claimed = await race.kernel.claim(race.runner, slots=1000)
        child_of = {c.parent_id: c.id for c in claimed}
        await race.run(
            lambda c, agent, epoch: c.park(agent, epoch=epoch, for_children="all"),
            lambda c, agent, of=child_of: c.complete(of[agent], epoch=1, result={}),
        )
        await race.nobody_sleeps()
    assert race.seen.total() == ENDS
    assert min(race.seen["parked"], race.seen["ready"]) > ENDS / 100, race.seen
    await assert_sound(race.kernel)
