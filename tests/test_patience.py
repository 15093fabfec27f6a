"""Waiting for tokens that others hold: woken when they come back, bounded, never given too much."""

import asyncio
from uuid import uuid4

import pytest
from conftest import Sessions, spawn_agent

from bough.client.budgets import Usage
from bough.client.errors import BudgetBusy, BudgetExceeded
from bough.client.patience import reserve_within
from bough.client.runner_calls import RunnerClient

BOUND_S = 4.0
"""Less than the time after which a waiter looks anyway: only a hint can be so quick."""


async def waiting(client: RunnerClient, sessions: Sessions) -> None:
    conn = await sessions.connection()
    await conn.set_autocommit(True)
    async with asyncio.timeout(BOUND_S):
        while True:
            cur = await conn.execute(
                "select 1 from bough.listeners where channel like 'bough_budget_%'"
            )
            if await cur.fetchone():
                return
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["settle", "release", "child ends", "top-up"])
async def test_who_waits_is_woken_when_tokens_come_back(sessions: Sessions, how: str) -> None:
    client = await sessions.client(pooled=3)
    root = await spawn_agent(client, budget=100)
    held = uuid4()
    child = None
    if how == "child ends":
        child = await spawn_agent(client, root.id, budget=80)
    else:
        await client.reserve(held, root.id, 80)
    waiter = asyncio.create_task(
        reserve_within(client, sessions.dsn, uuid4(), root.id, 50, wait_s=60)
    )
    await waiting(client, sessions)
    assert not waiter.done()
    if how == "settle":
        await client.settle(held, root.id, Usage(tokens=10))
    elif how == "release":
        await client.release(held, root.id)
    elif how == "top-up":
        await client.grant_budget(root.id, 100)
    elif child:
        await client.terminate(child.id, reason="x")
    async with asyncio.timeout(BOUND_S):
        assert (await waiter).tokens_reserved == 50


async def test_waiting_has_a_bound_and_what_never_fits_is_refused_at_once(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root = await spawn_agent(client, budget=100)
    await client.reserve(uuid4(), root.id, 80)
    for wait_s in (0, 0.05):
        with pytest.raises(BudgetBusy):
            await reserve_within(client, sessions.dsn, uuid4(), root.id, 50, wait_s=wait_s)
    with pytest.raises(BudgetExceeded):
        await reserve_within(client, sessions.dsn, uuid4(), root.id, 101, wait_s=60)
    assert (await client.show(root.id)).available == 20


async def test_ten_that_wait_for_room_for_one_go_one_after_the_other(sessions: Sessions) -> None:
    client = await sessions.client(pooled=5)
    root = await spawn_agent(client, budget=1_000)
    open_calls = 0

    async def call() -> None:
        nonlocal open_calls
        key = uuid4()
        await reserve_within(client, sessions.dsn, key, root.id, 800, wait_s=60)
        open_calls += 1
        assert open_calls == 1
        await asyncio.sleep(0)
        open_calls -= 1
        await client.settle(key, root.id, Usage(tokens=10))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(call())
    assert (await client.show(root.id)).used == 100
