"""Pause holds a subtree where it is and resume lets each go on from there."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import assert_sound

from bough.client.errors import AgentEnded, StaleLease
from bough.client.insist import parked
from bough.client.rows import Changed, Spawned


async def wait(kernel: Kernel, agent: Spawned) -> None:
    await kernel.conn.execute(
        "update bough.agents set status = 'waiting' where id = %s", (agent.id,)
    )


async def statuses(kernel: Kernel, root: Spawned) -> dict[UUID, str]:
    return {a.id: a.status for a in await kernel.tree(root.id)}


async def test_resume_gives_each_agent_of_a_subtree_its_own_status_back(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    running = await run_agent(kernel, root.id, budget=10)
    waiting = await run_agent(kernel, root.id, budget=10)
    await wait(kernel, waiting)
    ended = await run_agent(kernel, running.id, budget=1)
    await kernel.complete(ended.id, epoch=1, result={})
    await spawn_agent(kernel, running.id, budget=1)
    before = await statuses(kernel, root)
    assert sorted(before.values()) == ["completed", "created", "running", "running", "waiting"]

    held = await kernel.pause(root.id, reason="lunch")
    assert {h.id for h in held} == before.keys() - {ended.id}
    assert {h.status for h in held} == {"paused"}
    assert await statuses(kernel, root) == dict.fromkeys(before, "paused") | {ended.id: "completed"}
    assert await kernel.pause(root.id, reason="again") == []

    freed = await kernel.resume(root.id)
    assert {f.id: f.status for f in freed} == {i: s for i, s in before.items() if i != ended.id}
    assert await statuses(kernel, root) == before
    assert await kernel.resume(root.id) == []


async def test_a_subtree_that_was_paused_alone_goes_on_alone(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    child, other = [await run_agent(kernel, root.id, budget=10) for _ in range(2)]
    await kernel.pause(child.id, reason="x")
    assert await statuses(kernel, root) == {
        root.id: "running",
        child.id: "paused",
        other.id: "running",
    }
    assert await kernel.resume(child.id) == [Changed(child.id, "running")]


async def test_the_reason_of_a_pause_is_shown_and_recorded(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.pause(agent.id, reason="looking at its diff")
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.status_reason) == ("paused", "looking at its diff")
    reason = await kernel.value(
        "select data->>'reason' from bough.events where name = 'agent.paused'"
    )
    assert reason == "looking at its diff"


async def test_an_agent_whose_program_ended_while_being_paused_completes(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.pause(agent.id, reason="x")
    await kernel.complete(agent.id, epoch=1, result={"done": True})
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.result) == ("completed", {"done": True})
    await assert_sound(kernel)


async def test_a_paused_subtree_can_be_terminated(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    child = await run_agent(kernel, root.id, budget=10)
    await kernel.pause(root.id, reason="x")
    await kernel.terminate(root.id, reason="enough")
    assert set((await statuses(kernel, root)).values()) == {"terminated"}
    for call in (kernel.pause(child.id, reason="x"), kernel.resume(child.id)):
        with pytest.raises(AgentEnded, match="has ended and cannot"):
            await call
    await assert_sound(kernel)


async def test_an_agent_paused_before_it_started_is_not_claimed_until_resumed(
    kernel: Kernel,
) -> None:
    agent = await spawn_agent(kernel)
    runner = await enroll_runner(kernel)
    await kernel.pause(agent.id, reason="x")
    assert await kernel.claim(runner, slots=9) == []
    await kernel.resume(agent.id)
    assert [c.id for c in await kernel.claim(runner, slots=9)] == [agent.id]


async def test_a_paused_agent_of_a_dead_runner_is_claimed_only_after_it_was_resumed(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    await kernel.pause(agent.id, reason="x")
    await kernel.set_clock(3600 * 3)
    heir = await enroll_runner(kernel)
    await kernel.heartbeat(heir, wants_work=True)
    assert await kernel.claim(heir, slots=9) == []
    await kernel.resume(agent.id)
    assert [(c.id, c.lease_epoch) for c in await kernel.claim(heir, slots=9)] == [(agent.id, 2)]


async def test_an_agent_paused_in_the_moment_of_parking_parks_when_it_goes_on(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=2)
    agent = await run_agent(client)
    await client.pause(agent.id, reason="now")
    wanted: dict[str, Any] = {"agent_id": agent.id, "epoch": 1, "seconds": 3600}
    parking = asyncio.create_task(parked(client, wanted, lambda: False))
    await client.resume(agent.id)
    assert await parking
    assert (await client.show(agent.id)).status == "waiting"


async def test_a_parking_that_was_answered_to_nobody_ends_with_the_next_lease(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=2)
    agent = await run_agent(client)
    wanted: dict[str, Any] = {"agent_id": agent.id, "epoch": 1, "for_messages": True}
    assert await parked(client, wanted, lambda: False)
    again = asyncio.create_task(parked(client, wanted, lambda: False))
    await client.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={})
    runner = (await client.show(agent.id)).runner_id
    assert runner
    await client.claim(runner, slots=1, root_id=agent.id)
    with pytest.raises(StaleLease):
        await again
