"""The queue of merges in the database: each ends once, in one way, and who must know is told."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import Kernel, Sessions, end_merge, run_agent, saved_agent, spawn_agent
from locks import collide

from bough.client.errors import (
    AgentNotFound,
    IllegalTransition,
    NotYours,
    NoWorkspace,
    RuleBroken,
)
from bough.client.mail import OPERATOR
from bough.client.runner_calls import RunnerClient

SOURCE, OLD, NEW = "c" * 40, "d" * 40, "e" * 40


async def queued(client: RunnerClient, agent_id: UUID, *, into: str = "main") -> UUID:
    made = await client.queue_merge(uuid4(), agent_id, target_branch=into, strategy="merge")
    return made.id


async def plan(client: RunnerClient, *keys: UUID, below: UUID | None = None) -> list[UUID]:
    same: dict[str, Any] = {"sources": [SOURCE] * len(keys), "previous": [OLD] * len(keys)}
    stand = await client.plan_merges(keys, **same, commits=[NEW] * len(keys), below=below)
    return [row.id for row in stand]


async def record(client: RunnerClient, key: UUID, status: str, **more: Any) -> None:
    values: dict[str, Any] = {"source": SOURCE, "previous": None, "commit": None}
    values |= {"conflicts": [], "reason": None, "gate_output": None}
    await client.record_merge(key, status=status, **values | more)


async def statuses(client: RunnerClient, *keys: UUID) -> list[str]:
    return [merge.status for merge in await client.merges(keys)]


async def mail(kernel: Kernel, recipient: UUID) -> list[Any]:
    inbox = await kernel.inbox(None if recipient == OPERATOR else recipient, page=100)
    return [m.payload for m in inbox if m.type == "child.conflicted"]


async def test_a_queue_is_of_one_branch_of_one_repository_and_in_order(kernel: Kernel) -> None:
    first, second = await saved_agent(kernel), await saved_agent(kernel)
    keys = [await queued(kernel, a.id) for a in (second, first)]
    other = await queued(kernel, first.id, into="release")
    line = await kernel.merge_queue("/r", target_branch="main")
    assert [row.id for row in line] == keys
    assert (line[0].source_branch, line[0].head_commit) == ("bough/x", SOURCE)
    assert len(await kernel.merge_queue("/r", target_branch=None)) == 3
    assert await kernel.merge_queue("/elsewhere", target_branch="main") == []
    again = await kernel.queue_merge(other, first.id, target_branch="x", strategy="squash")
    assert (again.id, again.status) == (other, "queued")
    assert len(await kernel.merge_queue("/r", target_branch=None)) == 3


async def test_only_saved_work_of_an_agent_that_has_ended_is_queued(kernel: Kernel) -> None:
    with pytest.raises(AgentNotFound):
        await queued(kernel, uuid4())
    bare = await run_agent(kernel)
    with pytest.raises(NoWorkspace, match="has no workspace to merge"):
        await queued(kernel, bare.id)
    alive = await run_agent(kernel, repo_path="/r", base_commit="a" * 40)
    await kernel.open_workspace(alive.id, epoch=1, path="/w", branch="b", base_commit="a" * 40)
    await kernel.save_workspace(alive.id, epoch=1, head_commit=SOURCE, files=0, added=0, removed=0)
    with pytest.raises(IllegalTransition, match="has not ended"):
        await queued(kernel, alive.id)


async def test_a_merge_ends_once_and_a_repeat_changes_nothing(kernel: Kernel) -> None:
    agent = await saved_agent(kernel)
    key = await end_merge(kernel, agent.id, "merged", previous=OLD, commit=NEW)
    await record(kernel, key, "refused", reason="late")
    assert await statuses(kernel, key) == ["merged"]
    assert (await kernel.show(agent.id)).merged_commit == NEW
    with pytest.raises(psycopg.DatabaseError, match="has ended as merged"):
        await kernel.conn.execute("update bough.merges set status = 'refused', reason = 'r'")


@pytest.mark.parametrize(
    ("status", "more", "rule"),
    [
        ("merged", {}, "merged names commits"),
        ("conflicted", {}, "conflict has paths"),
        ("refused", {}, "refused says why"),
        ("gate_failed", {"reason": "r", "gate_output": "x" * 32769}, "gate output fits"),
        ("landed", {}, "merge status is known"),
    ],
)
async def test_an_end_says_all_that_belongs_to_it(
    kernel: Kernel, status: str, more: dict[str, Any], rule: str
) -> None:
    key = await queued(kernel, (await saved_agent(kernel)).id)
    with pytest.raises(RuleBroken, match=rule):
        await record(kernel, key, status, **more)


async def test_what_is_being_done_is_not_withdrawn_and_what_is_withdrawn_is_not_planned(
    kernel: Kernel,
) -> None:
    one, two = [await queued(kernel, (await saved_agent(kernel)).id) for _ in range(2)]
    assert await plan(kernel, one) == [one]
    [left] = await kernel.withdraw_merge(one)
    [gone] = await kernel.withdraw_merge(two)
    assert (left.status, gone.status) == ("queued", "withdrawn")
    assert await plan(kernel, one, two) == [one]
    line = await kernel.merge_queue("/r", target_branch="main")
    assert [(row.planned_commit, row.planned_on) for row in line] == [(NEW, OLD)]


async def test_a_new_plan_of_a_branch_takes_the_place_of_the_old_one(kernel: Kernel) -> None:
    one, two = [await queued(kernel, (await saved_agent(kernel)).id) for _ in range(2)]
    other = await queued(kernel, (await saved_agent(kernel)).id, into="release")
    await plan(kernel, other)
    await plan(kernel, one, two)
    await plan(kernel, two)
    line = await kernel.merge_queue("/r", target_branch=None)
    assert {row.id: row.planned_commit for row in line} == {one: None, two: NEW, other: NEW}


async def test_a_plan_and_a_withdrawal_at_once_never_both_hold(sessions: Sessions) -> None:
    client = await sessions.client()
    for withdraw_first in (True, False):
        key = await queued(client, (await saved_agent(client)).id)

        async def withdraw(kernel: Kernel, key: UUID = key) -> Any:
            return await kernel.withdraw_merge(key)

        async def go_ahead(kernel: Kernel, key: UUID = key) -> Any:
            return await plan(kernel, key)

        calls = [withdraw, go_ahead]
        first, second = await collide(sessions, *(calls if withdraw_first else calls[::-1]))
        withdrawn, planned = (first, second) if withdraw_first else (second, first)
        assert (withdrawn[0].status == "withdrawn") != bool(planned)


async def test_the_parent_hears_of_a_conflict_once_and_the_operator_of_a_root(
    kernel: Kernel,
) -> None:
    root = await saved_agent(kernel)
    await end_merge(kernel, root.id, "conflicted", conflicts=["a", "b"])
    await end_merge(kernel, root.id, "conflicted", conflicts=["a", "b"])
    [told] = await mail(kernel, OPERATOR)
    assert (told["agent_id"], told["into"], told["paths"]) == (str(root.id), "main", 2)
    assert told["conflicts"] == ["a", "b"]
    parent = await run_agent(kernel)
    child = await saved_agent(kernel, parent.id, budget=100)
    await end_merge(kernel, child.id, "conflicted", conflicts=["a"])
    await end_merge(kernel, child.id, "conflicted", conflicts=["a", "c" * 9000])
    told = await mail(kernel, parent.id)
    assert [m.get("conflicts") for m in told] == [["a"], None]
    assert told[1]["conflicts_left_out"] is True


async def test_an_ended_parent_hears_nothing_and_the_conflict_is_recorded(kernel: Kernel) -> None:
    parent = await run_agent(kernel)
    child = await saved_agent(kernel, parent.id, budget=100)
    await kernel.complete(parent.id, epoch=1, result={})
    key = await end_merge(kernel, child.id, "conflicted", conflicts=["a"])
    assert await statuses(kernel, key) == ["conflicted"]
    assert await mail(kernel, OPERATOR) == []


async def test_a_conflict_and_the_end_of_the_parent_at_once_are_both_recorded(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    for order in (1, -1):
        parent = await run_agent(client)
        child = await saved_agent(client, parent.id, budget=100)
        key = await queued(client, child.id)

        async def tell(kernel: Kernel, key: UUID = key) -> None:
            await record(kernel, key, "conflicted", conflicts=["a"])

        async def end(kernel: Kernel, parent_id: UUID = parent.id) -> None:
            await kernel.complete(parent_id, epoch=1, result={})

        done = await collide(sessions, *[tell, end][::order])
        assert list(done) == [None, None]
        assert await statuses(client, key) == ["conflicted"]


async def test_an_agent_sees_and_ends_merges_of_its_own_subtree_only(kernel: Kernel) -> None:
    parent, stranger = await run_agent(kernel), await run_agent(kernel)
    child = await saved_agent(kernel, parent.id, budget=100)
    root = await saved_agent(kernel)
    own, foreign = await queued(kernel, child.id), await queued(kernel, root.id)
    line = await kernel.merge_queue("/r", target_branch="main", below=parent.id)
    assert [row.id for row in line] == [own]
    assert [m.id for m in await kernel.merges([own, foreign], below=parent.id)] == [own]
    assert await plan(kernel, foreign) == [foreign]
    assert await plan(kernel, own, foreign, below=parent.id) == [own]
    line = await kernel.merge_queue("/r", target_branch="main")
    assert [row.planned_commit for row in line] == [NEW, NEW]
    with pytest.raises(NotYours, match="is not below"):
        await record(kernel, foreign, "refused", reason="r", below=parent.id)
    await plan(kernel, own)
    await kernel.withdraw_merge(foreign, below=stranger.id)
    assert await statuses(kernel, foreign) == ["queued"]
    with pytest.raises(NoWorkspace, match="in conflict"):
        await kernel.resolve_merge(foreign, uuid4(), below=parent.id)


async def test_what_a_resolver_brings_counts_for_those_whose_conflicts_it_resolved(
    kernel: Kernel,
) -> None:
    first, second = await saved_agent(kernel), await saved_agent(kernel)
    conflict = await end_merge(kernel, first.id, "conflicted", conflicts=["a"])
    await kernel.resolve_merge(conflict, second.id)
    # The first resolution conflicts again and is itself resolved.
    third = await saved_agent(kernel)
    again = await end_merge(kernel, second.id, "conflicted", conflicts=["b"])
    await kernel.resolve_merge(again, third.id)
    await queued(kernel, third.id)
    [row] = await kernel.merge_queue("/r", target_branch="main")
    assert row.settled == ["b"]
    await record(kernel, row.id, "merged", previous=OLD, commit=NEW)
    shown = [await kernel.show(a.id) for a in (first, second, third)]
    assert [(a.isolation_status, a.merged_commit) for a in shown] == [("merged", NEW)] * 3
    await queued(kernel, first.id)
    [row] = await kernel.merge_queue("/r", target_branch="main")
    assert (row.landed_sources, row.landed_commits) == ([SOURCE], [NEW])


async def test_what_a_branch_had_already_keeps_the_commit_that_brought_it(kernel: Kernel) -> None:
    agent = await saved_agent(kernel)
    await end_merge(kernel, agent.id, "merged", previous=OLD, commit=NEW)
    await end_merge(kernel, agent.id, "merged", previous="f" * 40, commit="f" * 40)
    assert (await kernel.show(agent.id)).merged_commit == NEW


async def test_every_merge_leaves_its_events(kernel: Kernel) -> None:
    agent = await saved_agent(kernel)
    await end_merge(kernel, agent.id, "gate_failed", reason="make test exited with 2")
    await spawn_agent(kernel)
    names = await kernel.value(
        "select array_agg(name::text order by id) from bough.events where name like 'merge.%%'"
    )
    assert names == ["merge.queued", "merge.gate_failed"]
