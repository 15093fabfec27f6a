"""Who spends by a token, and a reservation that takes what is there when less will do."""

import asyncio
import hashlib
import secrets
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import assert_sound, collide
from parking import LONG_S, start

from bough.client.budgets import Usage
from bough.client.errors import (
    AgentEnded,
    BudgetBusy,
    BudgetExceeded,
    BudgetFrozen,
    InvalidInput,
    StaleLease,
    TokenInvalid,
)
from bough.client.patience import reserve_within


async def issue(kernel: Kernel, agent_id: UUID, *, epoch: int = 1) -> bytes:
    token = hashlib.sha256(secrets.token_bytes(16)).digest()
    await kernel.issue_token(agent_id, epoch=epoch, token_hash=token)
    return token


async def test_a_spender_is_told_with_its_account(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=1_000)
    token = await issue(kernel, agent.id)
    await kernel.reserve(uuid4(), agent.id, 300)
    who = await kernel.spender(token)
    assert (who.agent_id, who.allocated, who.available) == (agent.id, 1_000, 700)


async def test_a_spender_that_has_ended_is_told_from_a_stranger(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    token = await issue(kernel, agent.id)
    await kernel.pause(agent.id, reason="x")
    assert (await kernel.spender(token)).agent_id == agent.id
    await kernel.terminate(agent.id, reason="x")
    with pytest.raises(AgentEnded, match="has terminated and spends no more"):
        await kernel.spender(token)
    for stranger in (b"", hashlib.sha256(b"guess").digest()):
        with pytest.raises(TokenInvalid):
            await kernel.spender(stranger)


async def test_a_spender_that_another_runner_took_over_is_stale(kernel: Kernel) -> None:
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    agent = await start(kernel, runner)
    old = await issue(kernel, agent)
    await kernel.retire(runner)
    await kernel.claim(await enroll_runner(kernel), slots=9)
    with pytest.raises(StaleLease, match="under lease 2 now, this token is of 1"):
        await kernel.spender(old)
    new = await issue(kernel, agent, epoch=2)
    assert (await kernel.spender(new)).agent_id == agent


@pytest.mark.parametrize(
    ("available", "granted"), [(1_000, 800), (800, 800), (799, 799), (500, 500)]
)
async def test_who_can_do_with_less_gets_what_is_there(
    kernel: Kernel, available: int, granted: int
) -> None:
    agent = await run_agent(kernel, budget=available)
    key = uuid4()
    made = await kernel.reserve(key, agent.id, 800, at_least=500)
    assert (made.tokens_reserved, made.available) == (granted, available - granted)
    again = await kernel.reserve(key, agent.id, 800, at_least=500)
    assert (again.tokens_reserved, again.is_new) == (granted, False)
    await kernel.settle(key, agent.id, Usage(tokens=10))
    assert (await kernel.show(agent.id)).available == available - 10
    await assert_sound(kernel)


async def test_less_than_the_least_is_refused_with_the_number_that_would_do(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel, budget=499)
    with pytest.raises(BudgetExceeded, match="500 tokens required, 499 available"):
        await kernel.reserve(uuid4(), agent.id, 800, at_least=500)
    await kernel.grant_budget(agent.id, 1)
    held = uuid4()
    await kernel.reserve(held, agent.id, 1)
    with pytest.raises(BudgetBusy, match="500 tokens required, 499 available now, 500 once"):
        await kernel.reserve(uuid4(), agent.id, 800, at_least=500)
    await kernel.release(held, agent.id)
    await kernel.freeze_budget(agent.id, reason="x")
    with pytest.raises(BudgetFrozen):
        await kernel.reserve(uuid4(), agent.id, 800, at_least=500)
    for least in (0, -1, 801):
        with pytest.raises(InvalidInput):
            await kernel.reserve(uuid4(), agent.id, 800, at_least=least)
    assert (await kernel.show(agent.id)).available == 500


async def test_two_that_would_take_all_share_what_is_there(sessions: Sessions) -> None:
    client = await sessions.client()
    root = await spawn_agent(client, budget=1_000)
    one, two = await collide(
        sessions,
        lambda k: k.reserve(uuid4(), root.id, 700, at_least=200),
        lambda k: k.reserve(uuid4(), root.id, 700, at_least=200),
    )
    assert (one.tokens_reserved, two.tokens_reserved) == (700, 300)
    assert (await client.show(root.id)).available == 0


async def test_a_key_that_comes_twice_at_once_is_paid_once(sessions: Sessions) -> None:
    client = await sessions.client()
    root = await spawn_agent(client, budget=1_000)
    key = uuid4()
    one, two = await collide(
        sessions,
        lambda k: k.reserve(key, root.id, 700, at_least=100),
        lambda k: k.reserve(key, root.id, 700, at_least=100),
    )
    assert (one.tokens_reserved, one.is_new) == (700, True)
    assert (two.tokens_reserved, two.is_new) == (700, False)
    assert (await client.show(root.id)).available == 300


async def test_who_waits_takes_what_came_back(sessions: Sessions) -> None:
    client = await sessions.client(pooled=2)
    root = await spawn_agent(client, budget=1_000)
    first, second = uuid4(), uuid4()
    await client.reserve(first, root.id, 600)
    await client.reserve(second, root.id, 400)
    waiter = asyncio.create_task(
        reserve_within(client, sessions.dsn, uuid4(), root.id, 900, wait_s=60, at_least=500)
    )
    await asyncio.sleep(0)
    await client.settle(second, root.id, Usage(tokens=100))
    assert not waiter.done()
    await client.settle(first, root.id, Usage(tokens=100))
    async with asyncio.timeout(20):
        assert (await waiter).tokens_reserved == 800
