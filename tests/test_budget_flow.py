"""Tokens move down when an agent is made and up when it ends, and none is made or lost."""

from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import Kernel, run_agent, spawn_agent
from locks import assert_sound

from bough.client.budgets import Usage
from bough.client.errors import BudgetBusy, BudgetExceeded


async def spend(kernel: Kernel, agent_id: UUID, tokens: int) -> None:
    key = uuid4()
    await kernel.reserve(key, agent_id, tokens)
    await kernel.settle(key, agent_id, Usage(tokens=tokens))


async def end(kernel: Kernel, agent_id: UUID, how: str) -> None:
    if how == "complete":
        await kernel.complete(agent_id, epoch=1, result={})
    elif how == "fail":
        await kernel.fail(agent_id, epoch=1, code="x", message="x", result=None)
    else:
        await kernel.terminate(agent_id, reason="x")


async def account(kernel: Kernel, agent_id: UUID) -> tuple[int, int, int, int, int]:
    """allocated, used, reserved, available, and used in the whole subtree."""
    a = await kernel.show(agent_id)
    return a.allocated, a.used, a.reserved, a.available, a.subtree_used


@pytest.mark.parametrize("how", ["complete", "fail", "terminate"])
async def test_what_an_agent_did_not_use_comes_back_when_it_ends(kernel: Kernel, how: str) -> None:
    parent = await run_agent(kernel, budget=100_000)
    child = await run_agent(kernel, parent.id, budget=30_000)
    await spend(kernel, child.id, 20_000)
    assert await account(kernel, parent.id) == (100_000, 0, 30_000, 70_000, 20_000)
    await end(kernel, child.id, how)
    assert await account(kernel, parent.id) == (100_000, 20_000, 0, 80_000, 20_000)
    assert await account(kernel, child.id) == (30_000, 20_000, 0, 10_000, 20_000)
    reclaimed = await kernel.value(
        "select count(*) from bough.events where name = 'budget.reclaimed' and agent_id = %s",
        child.id,
    )
    assert reclaimed == 1
    await assert_sound(kernel)


@pytest.mark.parametrize("how", ["complete", "fail", "terminate"])
async def test_a_repeated_end_gives_nothing_back_a_second_time(kernel: Kernel, how: str) -> None:
    parent = await run_agent(kernel, budget=100)
    child = await run_agent(kernel, parent.id, budget=30)
    await spend(kernel, child.id, 10)
    for _ in range(3):
        await end(kernel, child.id, how)
    await kernel.conn.execute("update bough.agents set status = status")
    assert await account(kernel, parent.id) == (100, 10, 0, 90, 10)
    await assert_sound(kernel)


@pytest.mark.parametrize("how", ["complete", "fail", "terminate"])
async def test_a_grandchilds_use_is_still_counted_after_the_middle_agent_has_ended(
    kernel: Kernel, how: str
) -> None:
    root = await run_agent(kernel, budget=10_000)
    middle = await run_agent(kernel, root.id, budget=8_000)
    leaf = await run_agent(kernel, middle.id, budget=5_000)
    await spend(kernel, root.id, 1)
    await spend(kernel, middle.id, 20)
    await spend(kernel, leaf.id, 300)
    assert (await account(kernel, root.id))[4] == 321
    await end(kernel, leaf.id, "complete")
    assert await account(kernel, middle.id) == (8_000, 320, 0, 7_680, 320)
    assert (await account(kernel, root.id))[4] == 321
    await end(kernel, middle.id, how)
    assert await account(kernel, root.id) == (10_000, 321, 0, 9_679, 321)
    await assert_sound(kernel)


async def test_what_was_consumed_deep_down_is_never_handed_out_twice(kernel: Kernel) -> None:
    """A root of 10,000 whose descendants burn all of it cannot fund one token more."""
    root = await run_agent(kernel, budget=10_000)
    for _ in range(10):
        middle = await run_agent(kernel, root.id, budget=1_000)
        leaf = await run_agent(kernel, middle.id, budget=1_000)
        await spend(kernel, leaf.id, 1_000)
        await end(kernel, leaf.id, "complete")
        await end(kernel, middle.id, "complete")
    assert await account(kernel, root.id) == (10_000, 10_000, 0, 0, 10_000)
    with pytest.raises(BudgetExceeded, match="1 tokens required, 0 available"):
        await spawn_agent(kernel, root.id, budget=1)


async def test_a_tree_that_is_terminated_brings_every_use_to_the_root(kernel: Kernel) -> None:
    root = await run_agent(kernel, budget=1_000)
    child = await run_agent(kernel, root.id, budget=900)
    leaves = [await run_agent(kernel, child.id, budget=100) for _ in range(5)]
    for tokens, agent in enumerate([root, child, *leaves], start=1):
        await spend(kernel, agent.id, tokens)
    assert (await account(kernel, root.id))[4] == sum(range(1, 8))
    assert (await account(kernel, child.id))[4] == sum(range(2, 8))
    await end(kernel, child.id, "terminate")
    assert await account(kernel, root.id) == (1_000, 28, 0, 972, 28)
    await assert_sound(kernel)


async def test_budget_flows_down_three_levels_and_each_level_owes_only_the_next(
    kernel: Kernel,
) -> None:
    root = await spawn_agent(kernel, budget=1_000)
    child = await spawn_agent(kernel, root.id, budget=600)
    leaf = await spawn_agent(kernel, child.id, budget=600)
    assert await account(kernel, root.id) == (1_000, 0, 600, 400, 0)
    assert await account(kernel, child.id) == (600, 0, 600, 0, 0)
    assert await account(kernel, leaf.id) == (600, 0, 0, 600, 0)
    with pytest.raises(BudgetExceeded, match="1 tokens required, 0 available"):
        await spawn_agent(kernel, child.id, budget=1)


async def test_an_agent_spends_at_most_what_it_has_not_given_away(kernel: Kernel) -> None:
    parent = await run_agent(kernel, budget=100)
    await spawn_agent(kernel, parent.id, budget=60)
    await spend(kernel, parent.id, 40)
    with pytest.raises(BudgetBusy, match="1 tokens required, 0 available now, 60 once others"):
        await spend(kernel, parent.id, 1)
    by_hand = "update bough.budgets set used = used + %s where agent_id = %s"
    for tokens, rule in ((1, "used_and_reserved_within_allocated"), (-41, "tokens_are_not_neg")):
        with pytest.raises(psycopg.errors.CheckViolation, match=rule):
            async with kernel.conn.transaction():
                await kernel.conn.execute(by_hand.encode(), (tokens, parent.id))


async def test_a_change_of_an_allocation_moves_what_the_parent_has_reserved(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1_000)
    child = await run_agent(kernel, root.id, budget=100)
    await spend(kernel, child.id, 50)

    async def allocate(tokens: int) -> None:
        async with kernel.conn.transaction():
            await kernel.conn.execute(
                "update bough.budgets set allocated = %s where agent_id = %s", (tokens, child.id)
            )

    await allocate(700)
    assert await account(kernel, root.id) == (1_000, 0, 700, 300, 50)
    await allocate(60)
    assert await account(kernel, root.id) == (1_000, 0, 60, 940, 50)
    with pytest.raises(psycopg.DatabaseError, match="941 tokens required, 940 available") as no:
        await allocate(1_001)
    assert no.value.sqlstate == "TR004"
    with pytest.raises(psycopg.errors.CheckViolation, match="used_and_reserved_within_allocated"):
        await allocate(49)
    assert await account(kernel, root.id) == (1_000, 0, 60, 940, 50)
    await end(kernel, child.id, "complete")
    with pytest.raises(psycopg.DatabaseError, match="has ended; its budget is closed") as no:
        await allocate(200)
    assert no.value.sqlstate == "TR002"
    await assert_sound(kernel)


@pytest.mark.parametrize("allocated", [0, -1, None])
async def test_an_allocation_of_nothing_is_refused_even_by_hand(
    kernel: Kernel, allocated: int | None
) -> None:
    """0 means none, never unlimited."""
    agent = await spawn_agent(kernel)
    with pytest.raises(psycopg.IntegrityError):
        async with kernel.conn.transaction():
            await kernel.conn.execute(
                "update bough.budgets set allocated = %s where agent_id = %s",
                (allocated, agent.id),
            )
    assert (await kernel.show(agent.id)).allocated == 1000
