"""Parked agents: held in name only, taken up once they are woken, refused what makes no sense."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, enroll_runner, spawn_agent
from locks import assert_sound
from parking import LONG_S, ask, park, start, wait_is_gone, woken_by
from test_mail import say, texts

from bough.client.errors import (
    AgentEnded,
    AgentNotFound,
    BoughError,
    IllegalTransition,
    InvalidInput,
    MessageNotFound,
    StaleLease,
)


@pytest.fixture
async def runner(kernel: Kernel) -> UUID:
    return await enroll_runner(kernel, lease_s=LONG_S)


async def beat(kernel: Kernel, runner: UUID) -> dict[UUID, tuple[int, str]]:
    held = await kernel.heartbeat(runner, wants_work=False)
    return {h.id: (h.lease_epoch, h.status) for h in held}


async def test_a_parked_agent_is_held_by_nobody_until_it_is_woken(
    kernel: Kernel, runner: UUID
) -> None:
    agent = await start(kernel, runner)
    await park(kernel, agent, for_messages=True, seconds=60)
    shown = await kernel.show(agent)
    assert (shown.status, shown.status_reason) == ("waiting", "for messages, 60 s")
    assert await beat(kernel, runner) == {}
    assert await kernel.claim(runner, slots=9) == []
    await say(kernel, agent, "wake up")
    assert await beat(kernel, runner) == {}
    assert [c.lease_epoch for c in await kernel.claim(runner, slots=9)] == [2]
    assert await beat(kernel, runner) == {agent: (2, "running")}
    assert texts(await kernel.receive(agent, epoch=2)) == ["wake up"]
    with pytest.raises(StaleLease):
        await kernel.park(agent, epoch=1, seconds=1)


async def test_the_woken_go_to_their_own_runner_and_to_another_when_that_is_gone(
    kernel: Kernel, runner: UUID
) -> None:
    other = await enroll_runner(kernel, lease_s=LONG_S)
    agent = await start(kernel, runner)
    await park(kernel, agent, for_messages=True)
    await say(kernel, agent, "wake up")
    assert await kernel.claim(other, slots=9) == []
    assert [(c.id, c.lease_epoch) for c in await kernel.claim(runner, slots=9)] == [(agent, 2)]
    await park(kernel, agent, epoch=2, seconds=60, for_children=None)
    await kernel.retire(runner)
    assert await kernel.claim(other, slots=9) == []
    await kernel.set_clock(61)
    assert [(c.id, c.lease_epoch) for c in await kernel.claim(other, slots=9)] == [(agent, 3)]
    assert await wait_is_gone(kernel, agent)


async def test_the_woken_wait_for_a_place_under_a_limit_of_running_agents(
    kernel: Kernel, runner: UUID
) -> None:
    root = await spawn_agent(kernel, max_running=2, runner_id=runner)
    await kernel.claim(runner, slots=9)
    first = await start(kernel, runner, root.id)
    await park(kernel, first, for_messages=True)
    second = await start(kernel, runner, root.id)
    await park(kernel, second, for_messages=True)
    third = await start(kernel, runner, root.id)
    for agent in (first, second):
        await say(kernel, agent, "wake up")
    assert await kernel.claim(runner, slots=9) == []
    await kernel.complete(third, epoch=1, result={})
    [claimed] = await kernel.claim(runner, slots=9)
    assert claimed.id in (first, second)
    assert await kernel.claim(runner, slots=9) == []


async def test_a_parked_agent_that_was_paused_is_taken_up_only_after_it_was_resumed(
    kernel: Kernel, runner: UUID
) -> None:
    agent = await start(kernel, runner)
    await park(kernel, agent, for_messages=True, seconds=60)
    await kernel.pause(agent, reason="x")
    await kernel.resume(agent)
    assert await woken_by(kernel, agent) is None
    await kernel.pause(agent, reason="x")
    await say(kernel, agent, "wake up")
    await kernel.set_clock(61)
    assert await kernel.claim(runner, slots=9) == []
    await kernel.resume(agent)
    assert [c.lease_epoch for c in await kernel.claim(runner, slots=9)] == [2]


@pytest.mark.parametrize("whom", ["itself", "its parent"])
async def test_a_parked_agent_that_is_terminated_is_never_taken_up(
    kernel: Kernel, runner: UUID, whom: str
) -> None:
    parent = await start(kernel, runner, budget=1000)
    agent = await start(kernel, runner, parent)
    await park(kernel, parent, for_children="all")
    await park(kernel, agent, seconds=60)
    await kernel.terminate(agent if whom == "itself" else parent, reason="x")
    assert (await kernel.show(agent)).status == "terminated"
    await kernel.set_clock(61)
    claimed = [c.id for c in await kernel.claim(runner, slots=9)]
    assert claimed == ([parent] if whom == "itself" else [])
    await beat(kernel, runner)
    assert await kernel.value("select count(*) from bough.waits") == 0
    with pytest.raises(IllegalTransition):
        await kernel.park(agent, epoch=1, seconds=1)
    with pytest.raises(AgentEnded):
        await say(kernel, agent, "x")
    await assert_sound(kernel)


@pytest.mark.parametrize(
    ("wait", "error", "words"),
    [
        ({}, InvalidInput, "say what to wait for"),
        ({"seconds": 0}, InvalidInput, "at least one second"),
        ({"for_tokens": 0}, InvalidInput, "at least one token"),
        ({"for_children": "some"}, InvalidInput, "any or all"),
        ({"for_messages": True, "children": [uuid4()]}, InvalidInput, "any or all"),
        ({"for_children": "all", "children": [uuid4()]}, InvalidInput, "is no child of"),
        ({"for_approval": uuid4()}, MessageNotFound, "asked for no approval"),
    ],
)
async def test_nobody_waits_for_what_can_never_happen(
    kernel: Kernel, runner: UUID, wait: dict[str, Any], error: type[BoughError], words: str
) -> None:
    agent = await start(kernel, runner)
    with pytest.raises(error, match=words):
        await kernel.park(agent, epoch=1, **wait)
    assert (await kernel.show(agent)).status == "running"


async def test_nobody_waits_for_the_child_or_the_approval_of_another(
    kernel: Kernel, runner: UUID
) -> None:
    agent = await start(kernel, runner, budget=1000)
    child = await start(kernel, runner, agent)
    approval = await ask(kernel, child)
    with pytest.raises(MessageNotFound, match="asked for no approval"):
        await kernel.park(agent, epoch=1, for_approval=approval)
    with pytest.raises(InvalidInput, match="is no child of"):
        await kernel.park(child, epoch=1, for_children="any", children=[agent])


async def test_only_a_running_agent_parks_once_under_its_own_lease(
    kernel: Kernel, runner: UUID
) -> None:
    created = await spawn_agent(kernel)
    with pytest.raises(IllegalTransition, match="is created and cannot park"):
        await kernel.park(created.id, epoch=0, seconds=60)
    with pytest.raises(AgentNotFound):
        await kernel.park(uuid4(), epoch=1, seconds=60)
    agent = await start(kernel, runner)
    for epoch in (0, 2):
        with pytest.raises(StaleLease):
            await kernel.park(agent, epoch=epoch, seconds=60)
    await park(kernel, agent, for_messages=True)
    with pytest.raises(IllegalTransition, match="is waiting and cannot park"):
        await kernel.park(agent, epoch=1, seconds=60)
