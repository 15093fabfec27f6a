"""Waiting without a process: what an agent parks for, and what wakes it."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, enroll_runner
from parking import LONG_S, ask, park, start, wait_is_gone, woken_by
from test_mail import say, texts

from bough.client.budgets import Usage


@pytest.fixture
async def runner(kernel: Kernel) -> UUID:
    return await enroll_runner(kernel, lease_s=LONG_S)


async def end(kernel: Kernel, agent_id: UUID) -> None:
    await kernel.complete(agent_id, epoch=1, result={})


@pytest.mark.parametrize("what", ["message", "named", "none lives", "budget", "decided", "expired"])
async def test_what_is_ready_already_is_said_and_nobody_parks(
    kernel: Kernel, runner: UUID, what: str
) -> None:
    agent = await start(kernel, runner, budget=1000)
    await kernel.request_approval(
        approval := uuid4(), agent, epoch=1, question="May I?", expires_s=10
    )
    child = await start(kernel, runner, agent)
    wait: dict[str, Any] = {"for_approval": approval}
    if what == "message":
        await say(kernel, agent, "here already")
        wait = {"for_messages": True, "for_children": "all", "seconds": 60}
    elif what in ("named", "none lives"):
        await end(kernel, child)
        wait = {"for_children": "any", "children": [child] if what == "named" else []}
    elif what == "budget":
        wait = {"for_tokens": 900}
    elif what == "decided":
        await kernel.decide(approval, approve=False, answer=None)
    else:
        await kernel.set_clock(11)
    answer = await kernel.park(agent, epoch=1, **wait)
    words = {"message": "message", "budget": "budget", "named": "child", "none lives": "child"}
    assert (answer.parked, answer.ready) == (False, words.get(what, "approval"))
    assert (await kernel.show(agent)).status == "running"
    assert await wait_is_gone(kernel, agent)


async def test_a_message_wakes_and_what_was_read_before_does_not(
    kernel: Kernel, runner: UUID
) -> None:
    agent, other = await start(kernel, runner), await start(kernel, runner)
    await say(kernel, agent, "old")
    await kernel.receive(agent, epoch=1)
    await park(kernel, agent, for_messages=True)
    await park(kernel, other, for_messages=True)
    assert await woken_by(kernel, agent) is None
    await say(kernel, agent, "new", lane="low")
    assert await woken_by(kernel, agent) == "message"
    assert await woken_by(kernel, other) is None


async def test_a_broadcast_and_many_messages_wake_all_who_wait_for_mail(
    kernel: Kernel, runner: UUID
) -> None:
    root = await start(kernel, runner, budget=1000)
    first, second, busy = [await start(kernel, runner, root) for _ in range(3)]
    await park(kernel, first, for_messages=True)
    await park(kernel, second, for_messages=True)
    await park(kernel, busy, seconds=60)
    await kernel.broadcast(sender_id=root, ancestor_id=root, payload={})
    assert [await woken_by(kernel, a) for a in (first, second)] == ["message", "message"]
    assert await woken_by(kernel, busy) is None
    await park(kernel, root, for_messages=True)
    await kernel.send_many(sender_id=None, recipient_id=root, payloads=[{}, {}])
    assert await woken_by(kernel, root) == "message"


async def test_what_a_dead_lease_left_unread_is_ready_for_the_next(
    kernel: Kernel, runner: UUID
) -> None:
    """It comes again, so an agent that parks before it looks must not sleep on it."""
    agent = await start(kernel, runner)
    await say(kernel, agent, "left")
    await kernel.receive(agent, epoch=1)
    await kernel.retire(runner)
    await kernel.claim(await enroll_runner(kernel), slots=9)
    assert (await kernel.park(agent, epoch=2, for_messages=True)).ready == "message"
    assert texts(await kernel.receive(agent, epoch=2)) == ["left"]
    await park(kernel, agent, epoch=2, for_messages=True)


@pytest.mark.parametrize("how", ["any", "all"])
@pytest.mark.parametrize("named", [True, False])
async def test_children_wake_when_any_or_all_have_ended(
    kernel: Kernel, runner: UUID, how: str, named: bool
) -> None:
    agent = await start(kernel, runner, budget=1000)
    bystander = await start(kernel, runner, agent)
    if not named:
        # Of those that live: this one does not count.
        await end(kernel, bystander)
    first, second = [await start(kernel, runner, agent) for _ in range(2)]
    await park(kernel, agent, for_children=how, children=[first, second] if named else [])
    if named:
        await end(kernel, bystander)
        assert await woken_by(kernel, agent) is None
    await kernel.terminate(first, reason="x")
    assert await woken_by(kernel, agent) == ("child" if how == "any" else None)
    await kernel.fail(second, epoch=1, code="x", message="x", result=None)
    assert await woken_by(kernel, agent) == "child"


@pytest.mark.parametrize("how", ["grant", "transfer", "from child", "child ends", "settled"])
async def test_tokens_wake_as_soon_as_so_many_are_available(
    kernel: Kernel, runner: UUID, how: str
) -> None:
    parent = await start(kernel, runner, budget=10_000)
    agent = await start(kernel, runner, parent, budget=1000)
    child = await start(kernel, runner, agent, budget=600)
    await kernel.reserve(call := uuid4(), agent, 400)
    await park(kernel, agent, for_tokens=250)
    for tokens in (100, 200):
        assert await woken_by(kernel, agent) is None
        if how == "grant":
            await kernel.grant_budget(agent, tokens)
        elif how == "transfer":
            await kernel.transfer_budget(parent, agent, tokens)
        elif how == "from child":
            await kernel.transfer_budget(child, agent, tokens)
    if how == "child ends":
        await end(kernel, child)
    elif how == "settled":
        await kernel.settle(call, agent, Usage(tokens=100))
        await kernel.heartbeat(runner, wants_work=False)
    assert await woken_by(kernel, agent) == "budget"


@pytest.mark.parametrize("how", ["approved", "rejected", "expired"])
async def test_a_decision_wakes_who_waits_for_this_approval(
    kernel: Kernel, runner: UUID, how: str
) -> None:
    agent = await start(kernel, runner)
    approval, other = await ask(kernel, agent), await ask(kernel, agent, expires_s=900)
    await park(kernel, agent, for_approval=approval)
    await kernel.decide(other, approve=True, answer=None)
    await kernel.heartbeat(runner, wants_work=False)
    assert await woken_by(kernel, agent) is None
    if how == "expired":
        await kernel.set_clock(61)
        await kernel.heartbeat(runner, wants_work=False)
    else:
        await kernel.decide(approval, approve=how == "approved", answer=None)
    assert await woken_by(kernel, agent) == "approval"


async def test_time_wakes_without_anybodys_help(kernel: Kernel, runner: UUID) -> None:
    agent = await start(kernel, runner)
    await park(kernel, agent, for_messages=True, seconds=60)
    await kernel.set_clock(59)
    assert await kernel.claim(runner, slots=9) == []
    await kernel.set_clock(61)
    assert [(c.id, c.lease_epoch) for c in await kernel.claim(runner, slots=9)] == [(agent, 2)]
    assert await wait_is_gone(kernel, agent)
