"""Mail at the same moment as what moves it, reads it, answers it or ends its reader."""

import asyncio
import os
import signal
import sys
import textwrap
from collections import Counter
from collections.abc import Awaitable
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import BOUND_S, blocked, collide, outcome, session
from parking import LONG_S, start
from test_mail import say, texts

from bough.client.errors import AgentEnded, StaleLease


async def in_time(call: Awaitable[object]) -> object:
    """What a call gives that waits for nobody."""
    async with asyncio.timeout(BOUND_S):
        return await outcome(call)


@pytest.mark.parametrize("send_first", [True, False])
async def test_mail_to_an_agent_that_is_being_terminated_is_there_or_refused(
    sessions: Sessions, send_first: bool
) -> None:
    agent = await run_agent(await sessions.client())
    one, two = await session(sessions), await session(sessions)
    send = say(one if send_first else two, agent.id, "last")
    end = (two if send_first else one).terminate(agent.id, reason="x")
    answers = [await in_time(call) for call in ((send, end) if send_first else (end, send))]
    await one.conn.commit()
    await two.conn.commit()
    sent = answers[0 if send_first else 1]
    client = await sessions.client()
    there = [m.id for m in await client.inbox(agent.id)]
    assert there == ([] if isinstance(sent, AgentEnded) else [sent])
    with pytest.raises(AgentEnded):
        await say(client, agent.id, "too late")


async def test_of_three_hundred_agents_terminated_while_written_to_no_mail_is_lost(
    sessions: Sessions,
) -> None:
    one, two = await sessions.client(), await sessions.client()
    root = await spawn_agent(one, budget=1_000)
    seen: Counter[str] = Counter()
    for n in range(300):
        child = await spawn_agent(one, root.id, budget=1)
        calls = [outcome(two.terminate(child.id, reason="x")), outcome(say(one, child.id, "x"))]
        answers = await asyncio.gather(*calls[:: 1 if n % 2 else -1])
        sent = [a for a in answers if isinstance(a, UUID)]
        assert sent or [a for a in answers if isinstance(a, AgentEnded)]
        assert [m.id for m in await one.inbox(child.id)] == sent
        seen["there" if sent else "refused"] += 1
    assert seen.keys() == {"there", "refused"}, seen
    assert len([m for m in await one.inbox(root.id) if m.type == "child.terminated"]) == 300


async def test_two_broadcasts_at_once_arrive_everywhere_in_the_same_order(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root = await spawn_agent(client)
    agents = [(await spawn_agent(client, root.id, budget=1)).id for _ in range(10)]
    first, second = await collide(
        sessions,
        lambda k: k.broadcast(sender_id=root.id, ancestor_id=root.id, payload={"text": "first"}),
        lambda k: k.broadcast(sender_id=None, ancestor_id=root.id, payload={"text": "second"}),
    )
    assert {d.recipient_id for d in first} == {d.recipient_id for d in second} == set(agents)
    for agent in agents:
        assert [m.payload["text"] for m in await client.inbox(agent)] == ["first", "second"]


async def test_one_who_ends_during_a_broadcast_does_not_keep_it_from_the_others(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client)
    root = await start(client, runner, budget=1_000)
    agents = sorted([await start(client, runner, root) for _ in range(5)])

    async def park_and_end(k: Kernel) -> None:
        # Who parks for mail holds up its senders, so the broadcast has begun by now.
        await k.park(agents[2], epoch=1, for_messages=True)
        await k.terminate(agents[2], reason="x")

    _, delivered = await collide(
        sessions,
        park_and_end,
        lambda k: k.broadcast(sender_id=None, ancestor_id=root, payload={"text": "all"}),
    )
    assert [d.recipient_id for d in delivered] == agents[:2] + agents[3:]
    assert {d.seq for d in delivered} == {1}
    assert [len(await client.inbox(a)) for a in agents] == [1, 1, 0, 1, 1]


async def test_the_same_key_twice_at_once_is_one_message(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await spawn_agent(client)
    key = uuid4()
    first, second = await collide(
        sessions,
        lambda k: k.send(key, sender_id=None, recipient_id=agent.id, payload={}),
        lambda k: k.send(key, sender_id=None, recipient_id=agent.id, payload={}),
    )
    assert [(a.seq, a.is_new) for a in (first, second)] == [(1, True), (1, False)]
    assert (await client.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={})).seq == 2


async def test_an_answer_that_comes_as_its_time_runs_out_does_not_block_the_beat(
    sessions: Sessions,
) -> None:
    """Who answers held the mailbox and wanted the request; the beat had them the other way."""
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=LONG_S)
    asker, asked = await start(client, runner), await start(client, runner)
    key = uuid4()
    await client.send(key, sender_id=asker, recipient_id=asked, payload={}, reply_within_s=60)
    watcher = await sessions.connection()
    await watcher.set_autocommit(True)
    holder, answering, beating = [await session(sessions) for _ in range(3)]
    await say(holder, asker, "holds the mailbox")
    await beating.set_clock(61)
    answer = asyncio.create_task(
        answering.send(uuid4(), sender_id=asked, recipient_id=None, payload={}, reply_to=key)
    )
    await blocked(watcher, answering.conn.info.backend_pid)
    assert isinstance(await in_time(beating.heartbeat(runner, wants_work=False)), list)
    await beating.conn.commit()
    await holder.conn.commit()
    assert (await answer).recipient == asker
    await answering.conn.commit()
    await beating.heartbeat(runner, wants_work=False)
    assert [m.type for m in await beating.inbox(asker)] == ["message", "message"]


async def test_receiving_and_acknowledging_take_the_lanes_in_one_order(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    agent = await run_agent(client)
    keys = [await say(client, agent.id, lane, lane=lane) for lane in ("normal", "low")]
    await client.receive(agent.id, epoch=1)
    watcher = await sessions.connection()
    await watcher.set_autocommit(True)
    one, two = await session(sessions), await session(sessions)
    await one.acknowledge(agent.id, epoch=1, message_ids=keys[:1])
    both = asyncio.create_task(
        outcome(two.acknowledge(agent.id, epoch=1, message_ids=[*reversed(keys)]))
    )
    await blocked(watcher, two.conn.info.backend_pid)
    assert await in_time(one.receive(agent.id, epoch=1)) == []
    await one.conn.commit()
    assert await both is None
    await two.conn.commit()
    assert await client.inbox(agent.id) == []


@pytest.mark.parametrize("call", ["acknowledge", "receive"])
async def test_a_lease_that_is_lost_at_this_moment_neither_reads_nor_acknowledges(
    sessions: Sessions, call: str
) -> None:
    """Else both leases have the effects of a message, each with an acknowledgement."""
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=LONG_S)
    agent = await start(client, runner)
    key = await say(client, agent, "once")
    await say(client, agent, "not read yet")
    await client.receive(agent, epoch=1, most=1)
    await client.retire(runner)
    heir = await enroll_runner(client)

    async def take_over(k: Kernel) -> list[str]:
        await k.claim(heir, slots=1)
        return texts(await k.receive(agent, epoch=2))

    async def go_on(k: Kernel) -> object:
        if call == "receive":
            return await k.receive(agent, epoch=1)
        return await k.acknowledge(agent, epoch=1, message_ids=[key])

    got, late = await collide(sessions, take_over, go_on)
    assert got == ["once", "not read yet"]
    assert isinstance(late, StaleLease)
    await client.acknowledge(agent, epoch=2, message_ids=[key])


async def test_what_the_old_lease_acknowledges_just_in_time_does_not_come_again(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    runner = await enroll_runner(client, lease_s=LONG_S)
    agent = await start(client, runner)
    keys = [await say(client, agent, text) for text in ("done", "not yet")]
    await client.receive(agent, epoch=1)
    await client.retire(runner)
    heir = await enroll_runner(client)

    async def take_over(k: Kernel) -> list[str]:
        await k.claim(heir, slots=1)
        return texts(await k.receive(agent, epoch=2))

    done, got = await collide(
        sessions, lambda k: k.acknowledge(agent, epoch=1, message_ids=keys[:1]), take_over
    )
    assert (done, got) == (None, ["not yet"])


VICTIM = """
    import sys
    import psycopg
    dsn, agent = sys.argv[1:]
    conn = psycopg.connect(dsn)
    mail = conn.execute("select id, payload->>'text' from bough_api.receive(%s, 1, 100)", (agent,))
    for n, (key, text) in enumerate(mail.fetchall()):
        conn.execute("insert into public.effects (what) values (%s)", (text,))
        if n == 4:
            print("in doubt", flush=True)
            sys.stdin.read()
        conn.execute("select bough_api.acknowledge(%s, 1, array[%s]::uuid[])", (agent, key))
        conn.commit()
"""


async def test_a_receiver_killed_before_it_acknowledges_leaves_every_effect_once_and_in_order(
    sessions: Sessions,
) -> None:
    kernel = Kernel(await sessions.connection())
    await kernel.conn.set_autocommit(True)
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    agent = await start(kernel, runner)
    for n in range(10):
        await say(kernel, agent, str(n))
    await kernel.conn.execute(
        "create table public.effects (id bigint generated always as identity, what text)"
    )
    try:
        victim = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", textwrap.dedent(VICTIM), sessions.dsn, str(agent)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert victim.stdout
        assert await victim.stdout.readline() == b"in doubt\n"
        os.kill(victim.pid, signal.SIGKILL)
        await victim.wait()
        await kernel.retire(runner)
        await kernel.claim(await enroll_runner(kernel), slots=1)
        again = await kernel.receive(agent, epoch=2)
        assert texts(again) == [str(n) for n in range(4, 10)]
        for message in again:
            async with kernel.conn.transaction():
                insert = "insert into public.effects (what) values (%s)"
                await kernel.conn.execute(insert.encode(), (message.payload["text"],))
                await kernel.acknowledge(agent, epoch=2, message_ids=[message.id])
        effects = "select array_agg(what order by id) from public.effects"
        assert await kernel.value(effects) == [str(n) for n in range(10)]
        assert await kernel.inbox(agent) == []
    finally:
        await kernel.conn.execute("drop table public.effects")
