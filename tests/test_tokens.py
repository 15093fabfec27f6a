"""Tokens of programs: whom they admit, when they die; and what a program says of its end."""

import hashlib
import secrets
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import Call, collide
from parking import LONG_S, start

from bough.client.errors import (
    AgentEnded,
    AgentNotFound,
    InvalidInput,
    NotYours,
    StaleLease,
    TokenInvalid,
)


def hash_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def issue(kernel: Kernel, agent_id: UUID, *, epoch: int = 1) -> bytes:
    """The hash of a new token."""
    token = hash_of(secrets.token_urlsafe(32))
    await kernel.issue_token(agent_id, epoch=epoch, token_hash=token)
    return token


async def test_a_token_admits_its_agent_and_all_below_it(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    agent = await run_agent(kernel, root.id, budget=500)
    child = await spawn_agent(kernel, agent.id, budget=100)
    leaf = await spawn_agent(kernel, child.id, budget=10)
    token = await issue(kernel, agent.id)
    for target in (None, agent.id, child.id, leaf.id):
        admitted = await kernel.admit(token, target)
        assert (admitted.agent_id, admitted.root_id) == (agent.id, root.id)
        assert (admitted.parent_id, admitted.lease_epoch, admitted.status) == (
            root.id,
            1,
            "running",
        )
    await kernel.terminate(child.id, reason="x")
    assert (await kernel.admit(token, leaf.id)).agent_id == agent.id


async def test_a_token_is_refused_for_parent_sibling_and_strangers(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    agent = await run_agent(kernel, root.id, budget=400)
    sibling = await run_agent(kernel, root.id, budget=400)
    niece = await spawn_agent(kernel, sibling.id, budget=100)
    other = await run_agent(kernel)
    token = await issue(kernel, agent.id)
    for target in (root.id, sibling.id, niece.id, other.id, uuid4()):
        with pytest.raises(NotYours, match="acts on itself and what it spawned"):
            await kernel.admit(token, target)


@pytest.mark.parametrize("how", ["complete", "fail", "terminate", "parent"])
async def test_a_token_dies_with_its_agent(kernel: Kernel, how: str) -> None:
    root = await run_agent(kernel)
    agent = await run_agent(kernel, root.id, budget=500)
    token = await issue(kernel, agent.id)
    await kernel.pause(agent.id, reason="x")
    assert (await kernel.admit(token)).status == "paused"
    await kernel.resume(agent.id)
    if how == "complete":
        await kernel.complete(agent.id, epoch=1, result={})
    elif how == "fail":
        await kernel.fail(agent.id, epoch=1, code="x", message="x", result=None)
    else:
        await kernel.terminate(agent.id if how == "terminate" else root.id, reason="x")
    for target in (None, agent.id, root.id):
        with pytest.raises(TokenInvalid):
            await kernel.admit(token, target)


async def test_a_token_dies_when_another_runner_has_taken_its_agent_over(kernel: Kernel) -> None:
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    agent = await start(kernel, runner)
    old = await issue(kernel, agent)
    await kernel.retire(runner)
    await kernel.claim(await enroll_runner(kernel), slots=9)
    with pytest.raises(TokenInvalid):
        await kernel.admit(old)
    with pytest.raises(StaleLease):
        await issue(kernel, agent, epoch=1)
    new = await issue(kernel, agent, epoch=2)
    assert (await kernel.admit(new, agent)).lease_epoch == 2
    with pytest.raises(TokenInvalid):
        await kernel.admit(old)


async def test_a_new_token_replaces_the_one_before_and_an_unknown_one_is_nobodys(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    first, second = await issue(kernel, agent.id), await issue(kernel, agent.id)
    assert (await kernel.admit(second)).agent_id == agent.id
    for token in (first, hash_of("guessed"), b""):
        with pytest.raises(TokenInvalid):
            await kernel.admit(token)


async def test_only_the_hash_of_a_token_is_stored_anywhere(kernel: Kernel) -> None:
    token = "bough-" + secrets.token_urlsafe(32)
    agent = await run_agent(kernel)
    await kernel.issue_token(agent.id, epoch=1, token_hash=hash_of(token))
    await kernel.admit(hash_of(token), agent.id)
    await kernel.finish(agent.id, epoch=1, result={}, error_message=None)
    await kernel.complete(agent.id, epoch=1, result={})
    cur = await kernel.conn.execute(
        "select c.oid::regclass::text from pg_class c"
        " where c.relnamespace = 'bough'::regnamespace and c.relkind = 'r'"
    )
    tables = [name for (name,) in await cur.fetchall()]
    assert len(tables) > 15
    rows = "".join(
        [
            str(await kernel.value(f"select string_agg(to_jsonb(t)::text, ' ') from {table} t"))
            for table in tables
        ]
    )
    assert hash_of(token).hex() in rows
    assert token not in rows
    assert token.encode().hex() not in rows


async def test_what_the_agent_said_is_its_result_once_its_program_has_ended(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel)
    agent = await run_agent(kernel, root.id, budget=500)
    said: dict[str, Any] = {"answer": 42, "nothing": None}
    await kernel.finish(agent.id, epoch=1, result={"draft": True}, error_message=None)
    await kernel.finish(agent.id, epoch=1, result=said, error_message=None)
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.result) == ("running", None)
    await kernel.complete(agent.id, epoch=1, result={"exit_code": 0})
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.result) == ("completed", said)
    assert (await kernel.inbox(root.id))[0].payload["result"] == said


@pytest.mark.parametrize("exits_0", [True, False])
async def test_an_agent_that_says_it_failed_has_failed_however_its_program_ends(
    kernel: Kernel, exits_0: bool
) -> None:
    agent = await run_agent(kernel)
    said = {"tried": 3}
    await kernel.finish(agent.id, epoch=1, result=said, error_message="no such branch")
    for _ in range(2):
        # A repeat after a lost answer gives the same one.
        if exits_0:
            await kernel.complete(agent.id, epoch=1, result={"exit_code": 0})
        else:
            await kernel.fail(agent.id, epoch=1, code="exit_1", message="exit code 1", result=None)
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.error_code) == ("failed", "agent_failed")
    assert (shown.error_message, shown.result) == ("no such branch", said)
    late = "select count(*) from bough.events where name = 'agent.late_result'"
    assert await kernel.value(late) == 0


async def test_what_an_attempt_said_that_was_taken_over_does_not_count(kernel: Kernel) -> None:
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    agent = await start(kernel, runner)
    await kernel.finish(agent, epoch=1, result={"by": "first"}, error_message="it broke")
    await kernel.retire(runner)
    await kernel.claim(await enroll_runner(kernel), slots=9)
    with pytest.raises(StaleLease):
        await kernel.finish(agent, epoch=1, result={"by": "late"}, error_message=None)
    await kernel.complete(agent, epoch=2, result={"by": "second"})
    shown = await kernel.show(agent)
    assert (shown.status, shown.result) == ("completed", {"by": "second"})


async def test_a_result_that_is_too_large_is_refused_and_the_one_before_stays(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    await kernel.finish(agent.id, epoch=1, result={"size": "fits"}, error_message=None)
    with pytest.raises(InvalidInput, match="at most 1000000 fit"):
        await kernel.finish(agent.id, epoch=1, result={"x": "x" * 1_000_000}, error_message=None)
    await kernel.complete(agent.id, epoch=1, result={})
    assert (await kernel.show(agent.id)).result == {"size": "fits"}
    with pytest.raises(AgentNotFound):
        await kernel.finish(uuid4(), epoch=1, result=None, error_message=None)


async def test_who_has_ended_says_no_more(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.terminate(agent.id, reason="x")
    with pytest.raises(AgentEnded, match="says no more"):
        await kernel.finish(agent.id, epoch=1, result={}, error_message=None)


@pytest.mark.parametrize("finish_first", [True, False])
async def test_what_is_said_at_the_moment_of_the_end_counts_or_is_refused(
    sessions: Sessions, finish_first: bool
) -> None:
    agent = await run_agent(await sessions.client())
    calls: list[Call] = [
        lambda k: k.finish(agent.id, epoch=1, result={"by": "agent"}, error_message=None),
        lambda k: k.complete(agent.id, epoch=1, result={"by": "runner"}),
    ]
    answers = await collide(sessions, *(calls if finish_first else calls[::-1]))
    shown = await Kernel(await sessions.connection()).show(agent.id)
    if finish_first:
        assert answers == (None, None)
        assert shown.result == {"by": "agent"}
    else:
        assert isinstance(answers[1], AgentEnded)
        assert shown.result == {"by": "runner"}


@pytest.mark.parametrize("text", ["x" * 100_000, "\x01" * 20_000, "„" * 50_000])
async def test_whatever_a_child_says_its_parent_is_told_that_it_has_ended(
    kernel: Kernel, text: str
) -> None:
    root = await run_agent(kernel)
    children = [await run_agent(kernel, root.id, budget=9, role="„" * 200) for _ in range(3)]
    result = {"text": text[:4_000], "nothing": None}
    await kernel.finish(children[0].id, epoch=1, result=result, error_message=text)
    await kernel.complete(children[0].id, epoch=1, result={})
    await kernel.fail(children[1].id, epoch=1, code=text, message=text, result={"text": text})
    await kernel.terminate(children[2].id, reason=text)
    told = await kernel.receive(root.id, epoch=1)
    assert [m.payload["agent_id"] for m in told] == [str(c.id) for c in children]
    assert [m.payload.get("result_left_out") for m in told[1:]] == [True, None]
    fits = text.startswith("x")
    assert told[0].payload.get("result") == (result if fits else None)
