"""Mail under two sessions of one agent: an old lease and its heir, a reader and an acknowledger."""

import asyncio
from uuid import UUID, uuid4

import pytest
from conftest import Sessions, enroll_runner, spawn_agent
from locks import Call, blocked, collide, outcome, session

from bough.client.errors import StaleLease
from bough.client.runner_calls import RunnerClient


async def one_with_mail(client: RunnerClient) -> tuple[UUID, UUID, list[UUID]]:
    """A runner, its agent, and its two messages, of which it was given the first."""
    runner, agent = await enroll_runner(client), await spawn_agent(client)
    await client.claim(runner, slots=1, root_id=agent.root_id)
    keys = [uuid4(), uuid4()]
    for key in keys:
        await client.send(key, sender_id=None, recipient_id=agent.id, payload={}, priority="low")
    assert [m.id for m in await client.receive(agent.id, epoch=1, most=1)] == keys[:1]
    return runner, agent.id, keys


@pytest.mark.parametrize("name", ["receive", "acknowledge"])
async def test_an_old_lease_is_refused_even_when_its_heir_reads_in_the_same_moment(
    sessions: Sessions, name: str
) -> None:
    """Else what the heir was given would come a second time, or be done twice."""
    client = await sessions.client()
    runner, agent, keys = await one_with_mail(client)
    await client.retire(runner)
    heir = await enroll_runner(client)
    late: dict[str, Call] = {
        "receive": lambda k: k.receive(agent, epoch=1),
        "acknowledge": lambda k: k.acknowledge(agent, epoch=1, message_ids=keys),
    }

    async def take_over(kernel: RunnerClient) -> list[UUID]:
        await kernel.claim(heir, slots=1)
        return [m.id for m in await kernel.receive(agent, epoch=2)]

    given, refused = await collide(sessions, take_over, late[name])
    assert given == keys
    assert isinstance(refused, StaleLease)
    assert await client.receive(agent, epoch=2) == []
    assert [m.id for m in await client.inbox(agent)] == keys


async def test_receiving_and_acknowledging_at_once_do_not_wait_for_each_other_crosswise(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    _, agent, keys = await one_with_mail(client)
    keys.append(uuid4())
    await client.send(keys[-1], sender_id=None, recipient_id=agent, payload={})
    watcher = await sessions.connection()
    await watcher.set_autocommit(True)
    reader, other = await session(sessions), await session(sessions)
    assert len(await reader.receive(agent, epoch=1, most=1)) == 1
    done = asyncio.create_task(outcome(other.acknowledge(agent, epoch=1, message_ids=keys)))
    try:
        await blocked(watcher, other.conn.info.backend_pid)
        assert [m.priority for m in await reader.receive(agent, epoch=1)] == ["low"]
    finally:
        await reader.conn.commit()
    assert await done is None
