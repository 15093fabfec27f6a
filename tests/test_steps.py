"""Steps of durable functions in the kernel: the first result stands, whoever repeats it."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, run_agent, spawn_agent

from bough.client.budgets import Usage
from bough.client.errors import AgentNotFound, InvalidInput, StaleLease
from bough.client.rows import StepRecorded
from bough.client.runner_calls import RunnerClient


async def record(client: RunnerClient, agent: Any, number: int, **more: Any) -> StepRecorded:
    values: dict[str, Any] = {"epoch": 1, "word": "step", "name": "x", "result": {"value": number}}
    return await client.record_step(agent.id, number=number, **(values | more))


async def test_steps_are_read_in_order_and_in_pages(kernel: Kernel) -> None:
    agent, other = await run_agent(kernel), await run_agent(kernel)
    for number in (2, 1, 3):
        await record(kernel, agent, number, name=None if number == 1 else "x")
    await record(kernel, other, 1)
    found = await kernel.steps(agent.id)
    assert [(s.number, s.name, s.result) for s in found] == [
        (1, None, {"value": 1}),
        (2, "x", {"value": 2}),
        (3, "x", {"value": 3}),
    ]
    assert [s.number for s in await kernel.steps(agent.id, after_number=1, page=1)] == [2]


async def test_a_repeat_gets_the_first_result_and_another_step_is_refused(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    assert (await record(kernel, agent, 1)).is_new
    again = await record(kernel, agent, 1, result={"value": "second"})
    assert (again.recorded, again.is_new) == ({"value": 1}, False)
    for other in ({"word": "spawn"}, {"name": "y"}, {"name": None}):
        with pytest.raises(InvalidInput, match=r"step 1 of agent .* was another one before"):
            await record(kernel, agent, 1, **other)


async def test_of_two_at_once_both_get_the_result_of_one(sessions: Sessions) -> None:
    client = await sessions.client(pooled=4)
    agent = await run_agent(client)
    both = await asyncio.gather(*(record(client, agent, 1, result={"value": n}) for n in range(4)))
    assert len({str(b.recorded) for b in both}) == 1
    assert [b.is_new for b in both].count(True) == 1


async def test_only_who_holds_the_agent_records_and_only_what_fits(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    with pytest.raises(StaleLease):
        await record(kernel, agent, 1, epoch=2)
    with pytest.raises(AgentNotFound):
        await kernel.record_step(UUID(int=1), epoch=1, number=1, word="step", name=None, result={})
    with pytest.raises(InvalidInput, match="at most 1000000 fit"):
        await record(kernel, agent, 1, result={"value": "x" * 1_000_000})
    assert await kernel.steps(agent.id) == []
    assert await kernel.steps((await spawn_agent(kernel)).id) == []


async def test_mail_that_an_agent_reads_and_parks_on_is_not_dead_after_five_leases(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    agent = await run_agent(client, budget=10_000)
    runner = (await client.show(agent.id)).runner_id
    assert runner
    await client.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={"text": "hold on"})
    for epoch in range(1, 9):
        assert len(await client.receive(agent.id, epoch=epoch)) == 1
        assert (await client.park(agent.id, epoch=epoch, for_tokens=11_000)).parked
        await client.grant_budget(agent.id, 2_000)
        await client.charge(uuid4(), agent.id, Usage(tokens=2_000))
        await client.claim(runner, slots=1, root_id=agent.id)
    assert len(await client.inbox(agent.id)) == 1
