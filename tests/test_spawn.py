"""A spawn makes an agent whole, with its place, its budget and its record, or makes nothing."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, run_agent, spawn_agent
from locks import assert_sound, collide, outcome
from psycopg import sql

from bough.client.errors import (
    AgentEnded,
    AgentNotFound,
    BoughError,
    BudgetExceeded,
    InvalidInput,
    RuleBroken,
)
from bough.client.rows import Spawned


async def sizes(kernel: Kernel) -> dict[str, int]:
    """How many rows each table has."""
    cur = await kernel.conn.execute(
        "select relname from pg_class where relnamespace = 'bough'::regnamespace"
        " and relkind = 'r' order by relname"
    )
    found: dict[str, int] = {}
    for (table,) in await cur.fetchall():
        count = sql.SQL("select count(*) from {}").format(sql.Identifier("bough", table))
        row = await (await kernel.conn.execute(count)).fetchone()
        assert row
        found[table] = row[0]
    assert {"agents", "budgets", "hierarchies", "workspaces", "events"} <= found.keys()
    return found


async def test_a_root_is_a_tree_of_its_own_at_level_0(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, budget=500, task="plan", role="planner", timeout_s=60)
    assert (root.id, root.depth_level, root.status, root.is_new) == (
        root.root_id,
        0,
        "created",
        True,
    )
    shown = await kernel.show(root.id)
    assert (shown.parent_id, shown.task, shown.role, shown.timeout_s) == (
        None,
        "plan",
        "planner",
        60,
    )
    assert (shown.allocated, shown.used, shown.reserved, shown.available) == (500, 0, 0, 500)
    assert (shown.children, shown.lease_epoch, shown.repo_path) == ([], 0, None)


async def test_a_child_knows_its_parent_and_asks_for_a_workspace(kernel: Kernel) -> None:
    root = await spawn_agent(kernel)
    child = await spawn_agent(
        kernel, root.id, budget=10, repo_path="/r", base_commit="a" * 40, target_branch="main"
    )
    assert (child.root_id, child.depth_level) == (root.id, 1)
    shown = await kernel.show(child.id)
    assert (shown.parent_id, shown.isolation_status) == (root.id, "pending")
    assert (shown.repo_path, shown.base_commit, shown.target_branch) == ("/r", "a" * 40, "main")
    assert (await kernel.show(root.id)).children == [child.id]
    assert [a.id for a in await kernel.tree(root.id)] == [root.id, child.id]


async def test_a_parent_of_100k_that_gives_30k_and_40k_keeps_30k(kernel: Kernel) -> None:
    parent = await spawn_agent(kernel, budget=100_000)
    for tokens in (30_000, 40_000):
        await spawn_agent(kernel, parent.id, budget=tokens)
    shown = await kernel.show(parent.id)
    assert (shown.reserved, shown.available) == (70_000, 30_000)
    with pytest.raises(BudgetExceeded, match=r"30001 tokens required, 30000 available"):
        await spawn_agent(kernel, parent.id, budget=30_001)
    # What is left when all has been given away is kept for the parent's own last report.
    await spawn_agent(kernel, parent.id, budget=29_000)
    assert (await kernel.show(parent.id)).available == 1_000


REFUSED: dict[str, tuple[dict[str, Any], type[BoughError], str]] = {
    "a budget of none": ({"budget": None}, InvalidInput, "buys nothing"),
    "a budget of 0, which is none and never unlimited": (
        {"budget": 0},
        InvalidInput,
        "a budget of 0 tokens buys nothing",
    ),
    "a negative budget": ({"budget": -5}, InvalidInput, "a budget of -5 tokens"),
    "a budget of 2^63": ({"budget": 2**63}, InvalidInput, "out of range"),
    "the largest budget there is": ({"budget": 2**63 - 1}, BudgetExceeded, "1000 available"),
    "more than the parent has": ({"budget": 1001}, BudgetExceeded, "1001 .* 1000 available"),
    "no task": ({"task": None}, InvalidInput, "the task is empty"),
    "an empty task": ({"task": ""}, InvalidInput, "the task is empty"),
    "a blank task": ({"task": " \n\t "}, InvalidInput, "the task is empty"),
    "a huge task": ({"task": "ü" * 50_001}, InvalidInput, "100002 bytes, at most 100000 fit"),
    "NUL in the task": ({"task": "a\0b"}, InvalidInput, "NUL"),
    "NUL in the program": ({"program": {"argv": ["a\0b"]}}, InvalidInput, "Unicode"),
    "a lone surrogate in the task": ({"task": "a\ud800"}, InvalidInput, "not valid Unicode"),
    "an unknown parent": ({"parent": UUID(int=7)}, AgentNotFound, "to be the parent"),
    "a blank role": ({"role": " "}, RuleBroken, "label is not blank"),
    "a timeout of 0 s": ({"timeout_s": 0}, InvalidInput, "limits count from"),
    "a running limit of 0": ({"max_running": 0}, InvalidInput, "limits count from"),
    "a negative depth limit": ({"max_depth": -1}, InvalidInput, "limits count from"),
    "a negative children limit": ({"max_children": -1}, InvalidInput, "limits count from"),
    "a huge depth limit": ({"max_depth": 2**31 - 1}, InvalidInput, "out of range"),
    "an unknown runner": ({"runner_id": UUID(int=7)}, RuleBroken, "runner exists"),
    "a base that is no commit": (
        {"repo_path": "/r", "base_commit": "HEAD"},
        RuleBroken,
        "object id is hexadecimal",
    ),
    "a repository without a base": ({"repo_path": "/r"}, RuleBroken, "base commit"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_spawn_that_is_refused_leaves_nothing(kernel: Kernel, what: str) -> None:
    changes, error, pattern = REFUSED[what]
    parent = await spawn_agent(kernel)
    before = await sizes(kernel), await kernel.show(parent.id)
    with pytest.raises(error, match=pattern) as refusal:
        await spawn_agent(kernel, **child_of(parent.id, changes))
    assert type(refusal.value) is error
    assert "\n" not in str(refusal.value)
    assert (await sizes(kernel), await kernel.show(parent.id)) == before


def child_of(parent: UUID, changes: dict[str, Any]) -> dict[str, Any]:
    return {"parent": parent} | changes


@pytest.mark.parametrize("end", ["complete", "fail", "terminate"])
async def test_an_ended_parent_spawns_nothing(kernel: Kernel, end: str) -> None:
    parent = await run_agent(kernel)
    if end == "complete":
        await kernel.complete(parent.id, epoch=1, result={})
    elif end == "fail":
        await kernel.fail(parent.id, epoch=1, code="x", message="x", result=None)
    else:
        await kernel.terminate(parent.id, reason="x")
    before = await sizes(kernel)
    with pytest.raises(AgentEnded, match="cannot spawn; spawn under a living agent"):
        await spawn_agent(kernel, parent.id)
    assert await sizes(kernel) == before


async def test_a_repeat_with_the_same_key_gives_the_first_even_when_the_parent_is_full(
    kernel: Kernel,
) -> None:
    parent = await spawn_agent(kernel, budget=100, max_children=1)
    key = uuid4()
    first = await spawn_agent(kernel, parent.id, key=key, budget=100)
    before = await sizes(kernel)
    again = await spawn_agent(kernel, parent.id, key=key, budget=100)
    assert again == Spawned(first.id, first.root_id, first.depth_level, "created", False)
    await kernel.terminate(parent.id, reason="x")
    late = await spawn_agent(kernel, parent.id, key=key, budget=100)
    assert (late.id, late.status, late.is_new) == (first.id, "terminated", False)
    assert await sizes(kernel) | {"events": 0} == before | {"events": 0}


async def test_the_key_of_another_agent_is_refused(kernel: Kernel) -> None:
    parent = await spawn_agent(kernel)
    key = (await spawn_agent(kernel, parent.id, budget=1)).id
    before = await sizes(kernel)
    for changes in ({"task": "other"}, {"parent": None}, {"parent": key}):
        with pytest.raises(InvalidInput, match="belongs to another agent; make a new one"):
            await spawn_agent(kernel, **child_of(parent.id, {"key": key} | changes))
    assert await sizes(kernel) == before


async def test_two_repeats_at_once_make_one_agent_although_one_child_is_allowed(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    parent = await spawn_agent(client, max_children=1, budget=100)
    key = uuid4()

    async def spawn(kernel: Kernel) -> Spawned:
        return await spawn_agent(kernel, parent.id, key=key, budget=100)

    first, second = await collide(sessions, spawn, spawn)
    assert isinstance(second, Spawned), second
    assert (first.id, first.is_new) == (key, True)
    assert (second.id, second.is_new) == (key, False)


async def test_of_two_spawns_at_once_with_budget_for_one_exactly_one_passes(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    parent = await spawn_agent(client, budget=100)

    async def spawn(kernel: Kernel) -> Spawned:
        return await spawn_agent(kernel, parent.id, budget=60)

    first, second = await collide(sessions, spawn, spawn)
    assert isinstance(first, Spawned)
    assert isinstance(second, BudgetExceeded)
    assert "60 tokens required, 40 available" in str(second)
    assert (await client.show(parent.id)).children == [first.id]
    await assert_sound(Kernel(await sessions.connection()))


async def test_of_fifty_spawns_at_once_with_budget_for_five_exactly_five_pass(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=8)
    parent = await spawn_agent(client, budget=599)
    answers = await asyncio.gather(
        *(outcome(spawn_agent(client, parent.id, budget=100)) for _ in range(50))
    )
    assert len([a for a in answers if isinstance(a, Spawned)]) == 5
    assert len([a for a in answers if isinstance(a, BudgetExceeded)]) == 45
    shown = await client.show(parent.id)
    assert (shown.reserved, shown.available, len(shown.children)) == (500, 99, 5)


async def test_five_levels_deep_every_ancestor_is_linked_at_its_distance(kernel: Kernel) -> None:
    line = [await spawn_agent(kernel)]
    for _ in range(5):
        line.append(await spawn_agent(kernel, line[-1].id))
    ids = [agent.id for agent in line]
    assert [agent.depth_level for agent in line] == [0, 1, 2, 3, 4, 5]
    cur = await kernel.conn.execute(
        "select parent_id, child_id, distance from bough.hierarchies where root_id = %s", (ids[0],)
    )
    expected = {(ids[a], ids[b], b - a) for a in range(6) for b in range(a + 1, 6)}
    assert set(await cur.fetchall()) == expected
    assert len(expected) == 15
