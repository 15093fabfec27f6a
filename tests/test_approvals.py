"""Approvals: asked once, decided once, by a person or by their expiry, and told to who asked."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent
from locks import BOUND_S, Call, collide, outcome
from parking import LONG_S, ask, park, start, woken_by

from bough.client.errors import (
    AgentEnded,
    AgentNotFound,
    ApprovalDecided,
    InvalidInput,
    MessageNotFound,
    StaleLease,
)
from bough.client.mail_rows import Approval


async def one(kernel: Kernel, approval: UUID) -> Approval:
    [found] = await kernel.approvals(approval, pending=False)
    return found


async def is_pending(kernel: Kernel, approval: UUID) -> bool:
    return approval in [a.id for a in await kernel.approvals()]


async def stored(kernel: Kernel, approval: UUID) -> str:
    return await kernel.value("select status from bough.approvals where id = %s", approval)


async def test_an_approval_is_shown_until_a_person_decides_it(kernel: Kernel) -> None:
    agent = await run_agent(kernel, role="deployer", task="ship it")
    key = uuid4()
    asked = await kernel.request_approval(
        key, agent.id, epoch=1, question="Deploy to production?", expires_s=60
    )
    assert (asked.id, asked.status, asked.is_new) == (key, "pending", True)
    [shown] = await kernel.approvals(key)
    assert (shown.agent_id, shown.root_id) == (agent.id, agent.root_id)
    assert (shown.role, shown.task, shown.question) == (
        "deployer",
        "ship it",
        "Deploy to production?",
    )
    assert (shown.status, shown.answer, shown.decided_by, shown.decided_at) == (
        "pending",
        None,
        None,
        None,
    )
    assert shown.expires_at - shown.created_at == timedelta(seconds=60)


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("answer", ["only the docs, „please“", None])
async def test_a_decision_and_its_answer_reach_who_asked(
    kernel: Kernel, approve: bool, answer: str | None
) -> None:
    agent = await run_agent(kernel)
    await kernel.conn.execute("select set_config('bough.actor', 'operator:ada@box', false)")
    key = await ask(kernel, agent.id)
    decided = await kernel.decide(key, approve=approve, answer=answer)
    status = "approved" if approve else "rejected"
    assert (decided.id, decided.agent_id, decided.status) == (key, agent.id, status)
    [told] = await kernel.receive(agent.id, epoch=1)
    assert (told.type, told.priority, told.sender_id) == (f"approval.{status}", "high", None)
    said = {"answer": answer} if answer else {}
    assert told.payload == {"approval_id": str(key), "by": "operator:ada@box"} | said
    shown = await one(kernel, key)
    assert (shown.status, shown.answer, shown.decided_by) == (status, answer, "operator:ada@box")
    assert not await is_pending(kernel, key)
    names = "select array_agg(name::text order by id) from bough.events where agent_id = %s"
    assert (await kernel.value(names + " and name like 'approval.%%'", agent.id)) == [
        "approval.requested",
        f"approval.{status}",
    ]


@pytest.mark.parametrize("on_expiry", ["approved", "rejected"])
async def test_unanswered_it_becomes_what_was_asked_for_without_anybodys_help(
    kernel: Kernel, on_expiry: str
) -> None:
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    agent = await start(kernel, runner)
    key = uuid4()
    await kernel.request_approval(
        key, agent, epoch=1, question="May I?", expires_s=60, on_expiry=on_expiry
    )
    await park(kernel, agent, for_approval=key)
    await kernel.set_clock(59)
    await kernel.heartbeat(runner, wants_work=False)
    assert (await one(kernel, key)).status == "pending"
    await kernel.set_clock(61)
    shown = await one(kernel, key)
    assert (shown.status, shown.decided_by) == (on_expiry, "expiry")
    assert not await is_pending(kernel, key)
    assert (await stored(kernel, key), await kernel.inbox(agent)) == ("pending", [])
    for _ in range(2):
        await kernel.heartbeat(runner, wants_work=False)
    assert await stored(kernel, key) == on_expiry
    [told] = await kernel.inbox(agent)
    assert told.type == f"approval.{on_expiry}"
    assert told.payload == {"approval_id": str(key), "by": "expiry"}
    assert await woken_by(kernel, agent) == "approval"
    [claimed] = await kernel.claim(runner, slots=9)
    assert (claimed.id, claimed.lease_epoch) == (agent, 2)


async def test_of_five_hundred_that_nobody_answers_every_one_expires(kernel: Kernel) -> None:
    """Elsewhere a whole class of approvals waited for ever."""
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    agents = [await start(kernel, runner) for _ in range(5)]
    for agent in agents:
        for _ in range(100):
            await ask(kernel, agent)
    await kernel.set_clock(61)
    assert await kernel.approvals() == []
    told = "select count(*) from bough.messages where type = 'approval.rejected'"
    beats = 0
    while await kernel.value(told) < 500:
        await kernel.heartbeat(runner, wants_work=False)
        beats += 1
        assert beats <= 5
    every = "select array_agg(distinct status::text || ' by ' || decided_by) from bough.approvals"
    assert await kernel.value(every) == ["rejected by expiry"]
    assert [len(await kernel.inbox(a)) for a in agents] == [100] * 5


async def test_what_was_decided_or_has_expired_or_never_was_is_not_decided(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    key, late = await ask(kernel, agent.id), await ask(kernel, agent.id)
    await kernel.decide(key, approve=True, answer="yes")
    for approve in (True, False):
        with pytest.raises(ApprovalDecided, match="was approved before"):
            await kernel.decide(key, approve=approve, answer="no")
    await kernel.set_clock(61)
    with pytest.raises(ApprovalDecided, match="was rejected before, by expiry"):
        await kernel.decide(late, approve=True, answer=None)
    await kernel.heartbeat(await enroll_runner(kernel), wants_work=False)
    with pytest.raises(ApprovalDecided, match="was rejected before, by expiry"):
        await kernel.decide(late, approve=True, answer=None)
    with pytest.raises(MessageNotFound, match="no approval"):
        await kernel.decide(uuid4(), approve=True, answer=None)
    assert (await one(kernel, key)).answer == "yes"
    assert len(await kernel.inbox(agent.id)) == 2


@pytest.mark.parametrize("decide_first", [True, False])
async def test_a_decision_and_the_expiry_at_once_have_one_winner(
    sessions: Sessions, decide_first: bool
) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=LONG_S)
    agent = await start(client, runner)
    key = await ask(client, agent)

    async def expire(k: Kernel) -> None:
        await k.set_clock(61)
        await k.heartbeat(runner, wants_work=False)

    decide: Call = lambda k: k.decide(key, approve=True, answer=None)  # noqa: E731
    one_, two = Kernel(await sessions.connection()), Kernel(await sessions.connection())
    if decide_first:
        # The beat does not wait for who decides; it finds nothing to do.
        await one_.conn.execute("select")
        await decide(one_)
        async with asyncio.timeout(BOUND_S):
            await expire(two)
        await one_.conn.commit()
        await two.conn.commit()
    else:
        _, late = await collide(sessions, expire, decide)
        assert isinstance(late, ApprovalDecided)
    kernel = Kernel(await sessions.connection())
    status = "approved" if decide_first else "rejected"
    assert await stored(kernel, key) == status
    assert [m.type for m in await kernel.inbox(agent)] == [f"approval.{status}"]


async def test_two_people_who_decide_at_once_have_one_winner(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await run_agent(client)
    key = await ask(client, agent.id)
    yes, no = await collide(
        sessions,
        lambda k: k.decide(key, approve=True, answer=None),
        lambda k: k.decide(key, approve=False, answer=None),
    )
    assert yes.status == "approved"
    assert isinstance(no, ApprovalDecided)
    assert [m.type for m in await client.inbox(agent.id)] == ["approval.approved"]


@pytest.mark.parametrize("who", ["a person", "expiry"])
async def test_an_agent_that_ends_while_it_is_told_does_not_undo_the_decision(
    sessions: Sessions, who: str
) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=LONG_S)
    agent, other = await start(client, runner), await start(client, runner)
    key, of_other = await ask(client, agent), await ask(client, other)

    async def park_and_end(k: Kernel) -> None:
        await k.park(agent, epoch=1, for_messages=True)
        await k.terminate(agent, reason="x")

    async def decide(k: Kernel) -> object:
        if who == "a person":
            return await k.decide(key, approve=True, answer=None)
        await k.set_clock(61)
        return await outcome(k.heartbeat(runner, wants_work=False))

    if who == "a person":
        _, answer = await collide(sessions, park_and_end, decide)
        assert answer.status == "approved"
        return
    ending, beating = Kernel(await sessions.connection()), Kernel(await sessions.connection())
    await ending.conn.execute("select")
    await park_and_end(ending)
    async with asyncio.timeout(BOUND_S):
        assert isinstance(await decide(beating), list)
    assert await stored(beating, of_other) == "rejected"
    await beating.conn.commit()
    await ending.conn.commit()
    await decide(beating)
    assert await stored(beating, key) == "rejected"


async def test_a_repeated_request_is_one(kernel: Kernel) -> None:
    # Even when the clock stands still in between.
    await kernel.conn.execute("select set_config('bough.clock', now()::text, false)")
    agent, other = await run_agent(kernel), await run_agent(kernel)
    key = uuid4()
    asked = [
        await kernel.request_approval(key, agent.id, epoch=1, question="?", expires_s=60 + n)
        for n in range(3)
    ]
    assert [a.is_new for a in asked] == [True, False, False]
    assert len({a.expires_at for a in asked}) == 1
    await kernel.decide(key, approve=True, answer=None)
    again = await kernel.request_approval(key, agent.id, epoch=1, question="?", expires_s=60)
    assert (again.status, again.is_new) == ("approved", False)
    with pytest.raises(InvalidInput, match="belongs to another approval"):
        await kernel.request_approval(key, other.id, epoch=1, question="?", expires_s=60)


async def test_who_has_ended_or_lost_its_lease_asks_nothing(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    with pytest.raises(StaleLease):
        await kernel.request_approval(uuid4(), agent.id, epoch=0, question="?", expires_s=60)
    with pytest.raises(AgentNotFound):
        await kernel.request_approval(uuid4(), uuid4(), epoch=1, question="?", expires_s=60)
    open_ = await ask(kernel, agent.id)
    await kernel.terminate(agent.id, reason="x")
    with pytest.raises(AgentEnded, match="asks no more"):
        await ask(kernel, agent.id)
    assert not await is_pending(kernel, open_)


@pytest.mark.parametrize(
    ("question", "expires_s", "on_expiry"),
    [
        (" \t", 60, "rejected"),
        ("x" * 10_241, 60, "rejected"),
        ("?", 0, "rejected"),
        ("?", 31_536_001, "rejected"),
        ("?", 60, "pending"),
    ],
)
async def test_what_cannot_be_an_approval_is_refused(
    kernel: Kernel, question: str, expires_s: int, on_expiry: str
) -> None:
    agent = await run_agent(kernel)
    with pytest.raises(InvalidInput, match="an approval has a question"):
        await kernel.request_approval(
            uuid4(), agent.id, epoch=1, question=question, expires_s=expires_s, on_expiry=on_expiry
        )


async def test_an_answer_that_does_not_fit_a_message_is_refused_and_decides_nothing(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    key = await ask(kernel, agent.id)
    for answer in ("x" * 10_000, "\x01" * 2_000):
        with pytest.raises(InvalidInput, match="at most 8000 fit"):
            await kernel.decide(key, approve=True, answer=answer)
    await kernel.decide(key, approve=True, answer="x" * 7_900)
    assert len((await kernel.inbox(agent.id))[0].payload["answer"]) == 7_900
