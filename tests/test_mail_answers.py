"""Replies, requests, broadcasts, expiry, the operator's mail, and what the kernel itself writes."""

from uuid import uuid4

import pytest
from conftest import Kernel, enroll_runner, run_agent, spawn_agent
from test_mail import say, texts

from bough.client.mail import OPERATOR


async def test_a_broadcast_reaches_everybody_alive_below_and_nobody_else(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    child = await spawn_agent(kernel, root.id, budget=500)
    leaf = await spawn_agent(kernel, child.id, budget=100)
    ended = await spawn_agent(kernel, child.id, budget=100)
    await kernel.terminate(ended.id, reason="x")
    stranger = await spawn_agent(kernel)
    to = await kernel.broadcast(sender_id=root.id, ancestor_id=root.id, payload={"text": "all"})
    assert {d.recipient_id for d in to} == {child.id, leaf.id}
    assert len(await kernel.inbox(leaf.id)) == 1
    assert await kernel.inbox(stranger.id) == []


async def test_a_reply_goes_to_who_asked_in_the_same_thread(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    child = await run_agent(kernel, root.id, budget=500)
    asked = uuid4()
    await kernel.send(
        asked, sender_id=root.id, recipient_id=child.id, payload={"text": "?"}, reply_within_s=60
    )
    answered = await kernel.send(
        uuid4(), sender_id=child.id, recipient_id=None, payload={"text": "!"}, reply_to=asked
    )
    assert answered.recipient == root.id
    again = await kernel.send(
        uuid4(), sender_id=root.id, recipient_id=None, payload={"text": "?!"}, reply_to=answered.id
    )
    assert again.recipient == child.id
    said = [s.payload["text"] for s in await kernel.thread(answered.id)]
    assert said == ["?", "!", "?!"]
    await kernel.set_clock(61)
    await kernel.heartbeat(await enroll_runner(kernel), wants_work=False)
    assert [m.type for m in await kernel.inbox(root.id)] == ["message"]


async def test_a_request_that_nobody_answers_is_told_to_who_asked_once(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    child = await run_agent(kernel, root.id, budget=500)
    asked = uuid4()
    await kernel.send(
        asked, sender_id=root.id, recipient_id=child.id, payload={}, reply_within_s=60
    )
    runner = await enroll_runner(kernel, lease_s=10_000)
    await kernel.heartbeat(runner, wants_work=False)
    assert await kernel.inbox(root.id) == []
    await kernel.set_clock(61)
    for _ in range(3):
        await kernel.heartbeat(runner, wants_work=False)
    [told] = await kernel.inbox(root.id)
    assert (told.type, told.payload) == ("request.expired", {"message_id": str(asked)})


async def test_expired_mail_is_not_delivered_and_does_not_stop_what_follows(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    await kernel.send(uuid4(), sender_id=None, recipient_id=agent.id, payload={}, expires_s=5)
    await say(kernel, agent.id, "stays")
    await kernel.set_clock(6)
    got = await kernel.receive(agent.id, epoch=1)
    assert texts(got) == ["stays"]
    await kernel.acknowledge(agent.id, epoch=1, message_ids=[got[0].id])
    acknowledged = "select acknowledged_seq from bough.mail_heads where recipient_id = %s"
    assert await kernel.value(acknowledged, agent.id) == 2


async def test_old_mail_that_is_done_with_is_purged_and_other_mail_is_not(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    done = await say(kernel, agent.id, "done")
    await say(kernel, agent.id, "open")
    await kernel.acknowledge(agent.id, epoch=1, message_ids=[done])
    assert await kernel.purge_mail(older_than_s=60) == 0
    await kernel.set_clock(61)
    assert await kernel.purge_mail(older_than_s=60) == 1
    assert [m.payload["text"] for m in await kernel.inbox(agent.id)] == ["open"]


async def test_an_agent_writes_to_the_operator_who_acknowledges(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    key = uuid4()
    sent = await kernel.send(key, sender_id=root.id, recipient_id=OPERATOR, payload={"text": "hi"})
    assert sent.recipient == OPERATOR
    [mail] = [m for m in await kernel.inbox(None) if m.root_id == root.id]
    assert (mail.sender_id, mail.payload) == (root.id, {"text": "hi"})
    answer = await kernel.send(
        uuid4(), sender_id=None, recipient_id=None, payload={"text": "yes"}, reply_to=key
    )
    assert answer.recipient == root.id
    await kernel.acknowledge_as_operator([key])
    assert [m for m in await kernel.inbox(None) if m.root_id == root.id] == []


@pytest.mark.parametrize("how", ["complete", "fail", "terminate"])
async def test_the_kernel_writes_to_the_parent_when_a_child_ends(kernel: Kernel, how: str) -> None:
    root = await run_agent(kernel)
    child = await run_agent(kernel, root.id, budget=500, role="tester")
    leaf = await run_agent(kernel, child.id, budget=100)
    if how == "complete":
        await kernel.complete(child.id, epoch=1, result={"answer": 42})
    elif how == "fail":
        await kernel.fail(child.id, epoch=1, code="broken", message="it broke", result=None)
    else:
        await kernel.terminate(child.id, reason="no need")
    [told] = await kernel.receive(root.id, epoch=1)
    status = {"complete": "completed", "fail": "failed", "terminate": "terminated"}[how]
    assert (told.type, told.priority, told.sender_id) == (f"child.{status}", "high", None)
    assert told.payload["agent_id"] == str(child.id)
    assert told.payload["role"] == "tester"
    expected = {
        "complete": ("result", {"answer": 42}),
        "fail": ("error", "it broke"),
        "terminate": ("reason", "no need"),
    }[how]
    assert told.payload[expected[0]] == expected[1]
    # Of what ended with its parent nobody is left to hear.
    assert (await kernel.show(leaf.id)).status == "terminated"
    assert await kernel.inbox(child.id) == []
