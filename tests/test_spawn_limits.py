"""Limits that an ancestor set hold for the whole subtree, whatever a child asks for."""

from typing import Any

import pytest
from conftest import Kernel, Sessions, enroll_runner, spawn_agent
from locks import collide

from bough.client.errors import LimitReached
from bough.client.rows import Spawned


async def test_a_spawn_below_the_depth_limit_is_refused_with_both_levels(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_depth=2)
    child = await spawn_agent(kernel, root.id, budget=100)
    grandchild = await spawn_agent(kernel, child.id, budget=10)
    with pytest.raises(LimitReached, match="level 3 asked, 2 allowed"):
        await spawn_agent(kernel, grandchild.id, budget=1)
    assert (await kernel.show(grandchild.id)).children == []


async def test_a_depth_limit_of_0_allows_no_child(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_depth=0)
    with pytest.raises(LimitReached, match="level 1 asked, 0 allowed"):
        await spawn_agent(kernel, root.id)


async def test_a_depth_limit_counts_from_the_agent_that_sets_it(kernel: Kernel) -> None:
    root = await spawn_agent(kernel)
    child = await spawn_agent(kernel, root.id, max_depth=1)
    grandchild = await spawn_agent(kernel, child.id, budget=100)
    assert (await kernel.show(grandchild.id)).depth_limit == 2
    with pytest.raises(LimitReached, match="level 3 asked, 2 allowed"):
        await spawn_agent(kernel, grandchild.id, budget=1)


async def test_a_child_over_the_children_limit_is_refused_with_both_numbers(
    kernel: Kernel,
) -> None:
    root = await spawn_agent(kernel, max_children=2)
    first = await spawn_agent(kernel, root.id, budget=1)
    await spawn_agent(kernel, root.id, budget=1)
    await kernel.terminate(first.id, reason="the limit counts children of a whole life")
    with pytest.raises(LimitReached, match="has spawned 2 of 2 allowed"):
        await spawn_agent(kernel, root.id, budget=1)


async def test_a_children_limit_holds_for_each_agent_below(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_children=1)
    child = await spawn_agent(kernel, root.id, budget=100)
    await spawn_agent(kernel, child.id, budget=1)
    with pytest.raises(LimitReached, match="has spawned 1 of 1 allowed"):
        await spawn_agent(kernel, child.id, budget=1)


async def test_a_child_cannot_lift_a_limit_that_its_parent_set(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_depth=1, max_children=1, max_running=1)
    child = await spawn_agent(
        kernel, root.id, budget=100, max_depth=50, max_children=50, max_running=50
    )
    shown = await kernel.show(child.id)
    assert (shown.depth_limit, shown.children_limit) == (1, 1)
    with pytest.raises(LimitReached, match="depth limit"):
        await spawn_agent(kernel, child.id, budget=1)
    runner = await enroll_runner(kernel)
    assert len(await kernel.claim(runner, slots=10)) == 1


async def test_a_child_can_narrow_a_limit_for_those_below_it(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_depth=9, max_children=9)
    child = await spawn_agent(kernel, root.id, budget=100, max_depth=0, max_children=0)
    shown = await kernel.show(child.id)
    assert (shown.depth_limit, shown.children_limit) == (1, 0)
    await spawn_agent(kernel, root.id, budget=1)


@pytest.mark.parametrize("limit", ["max_depth", "max_children"])
async def test_a_hand_written_insert_is_held_to_the_limits_too(kernel: Kernel, limit: str) -> None:
    limits: dict[str, Any] = {limit: 0}
    root = await spawn_agent(kernel, **limits)
    with pytest.raises(Exception, match="limit: ") as refusal:
        async with kernel.conn.transaction():
            await kernel.conn.execute(
                "insert into bough.agents (parent_id, task, depth_limit, children_limit)"
                " values (%s, 'by hand', 99, 99)",
                (root.id,),
            )
    assert getattr(refusal.value, "sqlstate", None) == "TR006"


async def test_of_two_spawns_at_once_for_the_last_place_exactly_one_passes(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root = await spawn_agent(client, max_children=1)

    async def spawn(kernel: Kernel) -> Spawned:
        return await spawn_agent(kernel, root.id, budget=1)

    first, second = await collide(sessions, spawn, spawn)
    assert isinstance(second, LimitReached)
    assert (await client.show(root.id)).children == [first.id]
