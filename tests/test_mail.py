"""Mail: numbered in commit order, received in order, acknowledged once, bounded, never lost."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import collide

from bough.client.errors import (
    AgentEnded,
    AgentNotFound,
    InvalidInput,
    MailboxFull,
    MessageNotFound,
    RuleBroken,
    StaleLease,
)
from bough.client.mail_rows import Message
from bough.client.runner_calls import RunnerClient

THOUSAND: list[dict[str, Any]] = [{}] * 1000


async def say(
    client: RunnerClient, to: UUID, text: str, *, sender: UUID | None = None, lane: str = "normal"
) -> UUID:
    key = uuid4()
    await client.send(key, sender_id=sender, recipient_id=to, payload={"text": text}, priority=lane)
    return key


def texts(messages: list[Message]) -> list[str]:
    return [m.payload["text"] for m in messages]


async def test_messages_arrive_in_the_order_they_were_sent(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    for n in range(3):
        await say(kernel, agent.id, f"M{n}")
    got = await kernel.receive(agent.id, epoch=1)
    assert texts(got) == ["M0", "M1", "M2"]
    assert [m.seq for m in got] == [1, 2, 3]
    assert await kernel.receive(agent.id, epoch=1) == []
    await kernel.acknowledge(agent.id, epoch=1, message_ids=[m.id for m in got])
    assert await kernel.inbox(agent.id) == []


async def test_ten_messages_of_one_transaction_arrive_in_order(kernel: Kernel) -> None:
    """Elsewhere they came as 9 2 7 6 8 5 4 0 3 1."""
    agent = await run_agent(kernel)
    async with kernel.conn.transaction():
        for n in range(10):
            await say(kernel, agent.id, str(n))
    assert texts(await kernel.receive(agent.id, epoch=1)) == [str(n) for n in range(10)]


async def test_higher_lanes_come_first_and_each_lane_in_order(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    for lane in ("low", "normal", "high", "critical", "normal", "critical"):
        await say(kernel, agent.id, lane, lane=lane)
    assert texts(await kernel.receive(agent.id, epoch=1, most=3)) == [
        "critical",
        "critical",
        "high",
    ]
    assert texts(await kernel.receive(agent.id, epoch=1)) == ["normal", "normal", "low"]


async def test_mail_waits_for_an_agent_that_does_not_run_yet(kernel: Kernel) -> None:
    agent = await spawn_agent(kernel)
    for n in range(3):
        await say(kernel, agent.id, str(n))
    runner = await enroll_runner(kernel)
    await kernel.claim(runner, slots=1, root_id=agent.root_id)
    assert texts(await kernel.receive(agent.id, epoch=1)) == ["0", "1", "2"]


async def take_over(kernel: Kernel, agent_id: UUID, offset_s: float) -> int:
    """Let the lease run out and another runner claim the agent; the new epoch."""
    await kernel.set_clock(offset_s)
    [claimed] = await kernel.claim(await enroll_runner(kernel), slots=1, root_id=agent_id)
    return claimed.lease_epoch


async def test_what_a_dead_lease_received_and_did_not_acknowledge_comes_again_in_order(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    keys = [await say(kernel, agent.id, str(n)) for n in range(5)]
    await kernel.receive(agent.id, epoch=1, most=4)
    # Done with the third before the first two: only that one does not come again.
    await kernel.acknowledge(agent.id, epoch=1, message_ids=[keys[2]])
    epoch = await take_over(kernel, agent.id, 100)
    with pytest.raises(StaleLease):
        await kernel.receive(agent.id, epoch=1)
    with pytest.raises(StaleLease):
        await kernel.acknowledge(agent.id, epoch=1, message_ids=[keys[0]])
    assert texts(await kernel.receive(agent.id, epoch=epoch)) == ["0", "1", "3", "4"]
    await kernel.acknowledge(agent.id, epoch=epoch, message_ids=keys)
    assert await kernel.inbox(agent.id) == []
    heads = "select acknowledged_seq, ahead from bough.mail_heads where recipient_id = %s"
    cur = await kernel.conn.execute(heads.encode(), (agent.id,))
    assert await cur.fetchall() == [(5, [])]


async def test_a_message_that_five_leases_got_in_vain_is_a_dead_letter(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    poison = await say(kernel, agent.id, "poison")
    await say(kernel, agent.id, "fine")
    epoch = 1
    for n in range(1, 6):
        assert texts(await kernel.receive(agent.id, epoch=epoch)) == ["poison", "fine"]
        epoch = await take_over(kernel, agent.id, 100 * n)
    got = await kernel.receive(agent.id, epoch=epoch)
    assert texts(got) == ["fine"]
    await kernel.acknowledge(agent.id, epoch=epoch, message_ids=[got[0].id])
    assert await kernel.inbox(agent.id) == []
    status = "select status from bough.messages where id = %s"
    assert await kernel.value(status, poison) == "dead"
    names = "select count(*) from bough.events where name = 'message.dead' and agent_id = %s"
    assert await kernel.value(names, agent.id) == 1


async def test_acknowledging_again_is_harmless_and_what_is_not_there_is_refused(
    kernel: Kernel,
) -> None:
    agent, other = await run_agent(kernel), await run_agent(kernel)
    key = await say(kernel, agent.id, "x")
    for _ in range(3):
        await kernel.acknowledge(agent.id, epoch=1, message_ids=[key])
    for ids in ([uuid4()], [key, uuid4()]):
        with pytest.raises(MessageNotFound, match="are in this mailbox"):
            await kernel.acknowledge(agent.id, epoch=1, message_ids=ids)
    with pytest.raises(MessageNotFound):
        await kernel.acknowledge(other.id, epoch=1, message_ids=[key])


async def test_what_is_acknowledged_in_any_order_hides_nothing_that_lies_between(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    keys = [await say(kernel, agent.id, str(n)) for n in range(9)]
    await kernel.receive(agent.id, epoch=1)
    for chosen, left in (([0, 1, 2, 3], "45678"), ([2, 5], "4678"), ([4], "678"), ([8, 7], "6")):
        await kernel.acknowledge(agent.id, epoch=1, message_ids=[keys[n] for n in chosen])
        assert "".join(m.payload["text"] for m in await kernel.inbox(agent.id)) == left
    await kernel.acknowledge(agent.id, epoch=1, message_ids=[keys[6]])
    assert await kernel.inbox(agent.id) == []


async def test_a_message_to_the_ended_or_to_nobody_is_refused(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.terminate(agent.id, reason="x")
    with pytest.raises(AgentEnded, match="has terminated and reads no more mail"):
        await say(kernel, agent.id, "x")
    with pytest.raises(AgentNotFound):
        await say(kernel, uuid4(), "x")
    assert await kernel.value("select count(*) from bough.messages") == 0


async def test_a_full_mailbox_pushes_back_and_takes_mail_again_when_read(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    for _ in range(10):
        await kernel.send_many(sender_id=None, recipient_id=agent.id, payloads=THOUSAND)
    with pytest.raises(MailboxFull, match="10000 messages in lane normal, 10000 allowed"):
        await say(kernel, agent.id, "one too many")
    with pytest.raises(MailboxFull):
        await kernel.send_many(sender_id=None, recipient_id=agent.id, payloads=THOUSAND[:1])
    await say(kernel, agent.id, "another lane", lane="high")
    got = await kernel.receive(agent.id, epoch=1, most=2)
    await kernel.acknowledge(agent.id, epoch=1, message_ids=[m.id for m in got])
    assert (
        await kernel.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={})
    ).seq == 10_001


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"payload": {"text": "x" * 10_300}}, InvalidInput, "at most 10240 fit"),
        ({"priority": "urgent"}, RuleBroken, "priority is known"),
        ({"type": " "}, RuleBroken, "label is not blank"),
        ({"reply_within_s": 0}, InvalidInput, "at least 1 second"),
        ({"expires_s": -1}, InvalidInput, "at least 1 second"),
        ({"reply_to": uuid4()}, MessageNotFound, "no message"),
    ],
)
async def test_what_cannot_be_a_message_is_refused_and_leaves_no_gap(
    kernel: Kernel, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    agent = await run_agent(kernel)
    values: dict[str, Any] = {"payload": dict[str, Any]()} | more
    with pytest.raises(error, match=words):
        await kernel.send(uuid4(), sender_id=None, recipient_id=agent.id, **values)
    await say(kernel, agent.id, "fine")
    assert [m.seq for m in await kernel.receive(agent.id, epoch=1)] == [1]


async def test_a_repeated_send_is_one_message(kernel: Kernel) -> None:
    agent, other = await run_agent(kernel), await run_agent(kernel)
    key = uuid4()
    sent = [
        await kernel.send(key, sender_id=None, recipient_id=agent.id, payload={}) for _ in range(3)
    ]
    assert [(s.seq, s.is_new) for s in sent] == [(1, True), (1, False), (1, False)]
    with pytest.raises(InvalidInput, match="belongs to another message"):
        await kernel.send(key, sender_id=other.id, recipient_id=agent.id, payload={})
    assert (await kernel.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={})).seq == 2


async def test_a_send_that_is_rolled_back_leaves_nothing_and_no_gap(sessions: Sessions) -> None:
    kernel = Kernel(await sessions.connection())
    agent = await spawn_agent(kernel)
    await kernel.conn.commit()
    await kernel.conn.execute("select")
    await say(kernel, agent.id, "never")
    await kernel.conn.rollback()
    await say(kernel, agent.id, "first")
    assert [(m.seq, m.payload["text"]) for m in await kernel.inbox(agent.id)] == [(1, "first")]


async def test_a_slow_transaction_is_not_overtaken(sessions: Sessions) -> None:
    """Numbers follow commit order: the second sender waits for the first."""
    agent = await spawn_agent(await sessions.client())
    await collide(
        sessions, lambda k: say(k, agent.id, "first"), lambda k: say(k, agent.id, "second")
    )
    mail = await (await sessions.client()).inbox(agent.id)
    assert [m.payload["text"] for m in mail] == ["first", "second"]


async def test_time_zones_of_senders_do_not_change_the_order(sessions: Sessions) -> None:
    kernel = Kernel(await sessions.connection())
    agent = await spawn_agent(kernel)
    for n, zone in enumerate(("Asia/Tokyo", "America/Lima", "UTC", "Australia/Eucla")):
        await kernel.conn.execute("select set_config('timezone', %s, true)", (zone,))
        await say(kernel, agent.id, str(n))
    assert [m.payload["text"] for m in await kernel.inbox(agent.id)] == ["0", "1", "2", "3"]
