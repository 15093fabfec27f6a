"""Accounts changed from outside: top-up, transfer, freeze; nothing is made or lost on the way."""

from uuid import UUID, uuid4

import pytest
from conftest import Kernel, run_agent, spawn_agent
from locks import assert_sound

from bough.client.budgets import Usage
from bough.client.errors import AgentEnded, BudgetExceeded, BudgetFrozen, InvalidInput


async def account(client: Kernel, agent_id: UUID) -> tuple[int, int, int]:
    """used, reserved, available."""
    a = await client.show(agent_id)
    return a.used, a.reserved, a.available


async def test_a_top_up_of_a_child_comes_from_its_parent_and_of_a_root_from_outside(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1_000)
    child = await run_agent(kernel, root.id, budget=100)
    granted = await kernel.grant_budget(child.id, 400)
    assert (granted.allocated, granted.payer_id) == (500, root.id)
    assert await account(kernel, root.id) == (0, 500, 500)
    with pytest.raises(BudgetExceeded, match="501 tokens required, 500 available"):
        await kernel.grant_budget(child.id, 501)
    granted = await kernel.grant_budget(root.id, 1_000)
    assert (granted.allocated, granted.payer_id) == (2_000, None)
    await kernel.complete(child.id, epoch=1, result={})
    with pytest.raises(AgentEnded):
        await kernel.grant_budget(child.id, 1)
    await assert_sound(kernel)


async def test_tokens_go_between_an_agent_and_its_parent_or_siblings_only(kernel: Kernel) -> None:
    root = await run_agent(kernel, budget=1_000)
    one = await run_agent(kernel, root.id, budget=300)
    two = await run_agent(kernel, root.id, budget=200)
    leaf = await run_agent(kernel, two.id, budget=100)
    stranger = await run_agent(kernel, budget=1_000)
    moved = await kernel.transfer_budget(one.id, two.id, 100)
    assert [(m.id, m.allocated) for m in moved] == [(one.id, 200), (two.id, 300)]
    await kernel.transfer_budget(one.id, root.id, 50)
    await kernel.transfer_budget(root.id, two.id, 25)
    assert await account(kernel, root.id) == (0, 475, 525)
    for giver, taker in ((one, leaf), (leaf, root), (root, stranger), (one, stranger), (one, one)):
        with pytest.raises(InvalidInput, match="between an agent and its parent or siblings"):
            await kernel.transfer_budget(giver.id, taker.id, 1)
    with pytest.raises(BudgetExceeded, match="151 tokens required, 149 may leave"):
        await kernel.transfer_budget(one.id, two.id, 151)
    for tokens in (0, -5):
        with pytest.raises(InvalidInput):
            await kernel.transfer_budget(one.id, two.id, tokens)
    assert await account(kernel, root.id) == (0, 475, 525)
    await assert_sound(kernel)


async def test_siblings_exchange_tokens_even_when_the_parent_has_none_left(kernel: Kernel) -> None:
    root = await run_agent(kernel, budget=100_000)
    one = await run_agent(kernel, root.id, budget=50_000)
    two = await run_agent(kernel, root.id, budget=49_000)
    await kernel.reserve(uuid4(), root.id, 1_000)
    await kernel.transfer_budget(one.id, two.id, 10)
    assert (await kernel.show(two.id)).allocated == 49_010


async def test_a_frozen_subtree_starts_nothing_new_but_settles_what_is_open(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1_000)
    child = await run_agent(kernel, root.id, budget=500)
    key = uuid4()
    await kernel.reserve(key, child.id, 100)
    frozen = await kernel.freeze_budget(root.id, reason="weekend")
    assert {f.id for f in frozen} == {root.id, child.id}
    assert await kernel.freeze_budget(root.id, reason="again") == []
    with pytest.raises(BudgetFrozen, match="weekend"):
        await kernel.reserve(uuid4(), child.id, 1)
    with pytest.raises(BudgetFrozen, match="weekend"):
        await spawn_agent(kernel, child.id, budget=1)
    await kernel.settle(key, child.id, Usage(tokens=60))
    assert len(await kernel.unfreeze_budget(root.id)) == 2
    await kernel.reserve(uuid4(), child.id, 440)
    await assert_sound(kernel)
