"""Conversations in the kernel: they only grow, without gaps, and take mail in exactly once."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent
from locks import collide

from bough.client.errors import InvalidInput, MessageNotFound, StaleLease
from bough.client.rows import Appended
from bough.client.runner_calls import RunnerClient


async def append(client: RunnerClient, agent_id: UUID, number: int, **more: Any) -> Appended:
    values: dict[str, Any] = {"epoch": 1, "entry": {"v": 1, "n": number}}
    return await client.append_conversation(agent_id, number=number, **(values | more))


async def test_entries_are_read_in_order_and_in_pages(kernel: Kernel) -> None:
    agent, other = await run_agent(kernel), await run_agent(kernel)
    for number in (1, 2, 3):
        assert (await append(kernel, agent.id, number)).is_new
    await append(kernel, other.id, 1)
    found = await kernel.conversation(agent.id)
    assert [(e.number, e.entry["n"]) for e in found] == [(1, 1), (2, 2), (3, 3)]
    assert [e.number for e in await kernel.conversation(agent.id, after_number=1, page=1)] == [2]


async def test_a_repeat_gets_the_first_entry_and_a_gap_is_refused(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await append(kernel, agent.id, 1)
    again = await append(kernel, agent.id, 1, entry={"v": 1, "n": "other"})
    assert (again.recorded, again.is_new) == ({"v": 1, "n": 1}, False)
    with pytest.raises(InvalidInput, match="entry 3 of the conversation comes after 2"):
        await append(kernel, agent.id, 3)
    for number in (0, 20_001):
        with pytest.raises(InvalidInput, match="entries 1 to 20000"):
            await append(kernel, agent.id, number)
    with pytest.raises(InvalidInput, match="at most 1000000 fit"):
        await append(kernel, agent.id, 2, entry={"x": "x" * 1_000_000})


@pytest.mark.parametrize("sql", ["update bough.conversations set entry = '{}'", "delete from"])
async def test_nothing_that_was_said_is_changed_or_taken_away(kernel: Kernel, sql: str) -> None:
    agent = await run_agent(kernel)
    await append(kernel, agent.id, 1)
    sql = "delete from bough.conversations" if sql == "delete from" else sql
    with pytest.raises(psycopg.DatabaseError, match="what was said in a conversation stays"):
        await kernel.conn.execute(sql.encode())


async def test_an_entry_and_the_mail_it_took_in_are_one(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    for text in ("one", "two"):
        await kernel.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={"text": text})
    one, two = await kernel.receive(agent.id, epoch=1)
    with pytest.raises(MessageNotFound):
        await append(kernel, agent.id, 1, acknowledged=[one.id, uuid4()])
    assert await kernel.conversation(agent.id) == []
    assert len(await kernel.inbox(agent.id)) == 2
    await append(kernel, agent.id, 1, acknowledged=[one.id])
    assert [m.id for m in await kernel.inbox(agent.id)] == [two.id]
    await append(kernel, agent.id, 1, acknowledged=[two.id])
    assert [m.id for m in await kernel.inbox(agent.id)] == [two.id]


async def test_of_two_at_once_both_get_the_entry_of_one(sessions: Sessions) -> None:
    client = await sessions.client(pooled=4)
    agent = await run_agent(client)
    both = await asyncio.gather(*(append(client, agent.id, 1, entry={"n": n}) for n in range(4)))
    assert len({str(b.recorded) for b in both}) == 1
    assert [b.is_new for b in both].count(True) == 1


async def test_whoever_was_taken_over_appends_nothing_more(sessions: Sessions) -> None:
    client = await sessions.client(pooled=2)
    agent = await run_agent(client)
    await append(client, agent.id, 1)
    look = await sessions.connection()
    await look.execute("update bough.runners set expires_at = bough.now()")
    await look.commit()
    runner = await enroll_runner(client)

    async def claim(kernel: Kernel) -> Any:
        return await kernel.claim(runner, slots=10, root_id=agent.root_id)

    async def late(kernel: Kernel) -> Any:
        return await append(kernel, agent.id, 2)

    claimed, refused = await collide(sessions, claim, late)
    assert [c.lease_epoch for c in claimed] == [2]
    assert isinstance(refused, StaleLease)
    assert len(await client.conversation(agent.id)) == 1


async def test_a_failure_has_the_code_that_the_program_gave(kernel: Kernel) -> None:
    agent, plain = await run_agent(kernel), await run_agent(kernel)
    said: dict[str, Any] = {"epoch": 1, "result": {"so": "far"}, "error_message": "no tokens"}
    await kernel.finish(agent.id, **said, error_code="budget_exceeded")
    await kernel.finish(plain.id, **said)
    for bad in ("No Code", "", "x" * 101):
        with pytest.raises(InvalidInput, match="a code like budget_exceeded"):
            await kernel.finish(plain.id, **said, error_code=bad)
    with pytest.raises(InvalidInput, match="a failure has a message"):
        await kernel.finish(plain.id, epoch=1, result={}, error_message=None, error_code="x")
    for one, code in ((agent, "budget_exceeded"), (plain, "agent_failed")):
        await kernel.complete(one.id, epoch=1, result={})
        ended = await kernel.show(one.id)
        assert (ended.status, ended.error_code) == ("failed", code)
        assert (ended.error_message, ended.result) == ("no tokens", {"so": "far"})
