"""What the kernel lets be recorded about worktrees that are gone."""

from uuid import UUID, uuid4

import pytest
from conftest import Kernel, end_merge, enroll_runner, run_agent, spawn_agent

from bough.client.errors import IllegalTransition, NoWorkspace

HEAD = "c" * 40


async def opened(kernel: Kernel, parent: UUID | None = None, branch: str = "bough/x/y") -> UUID:
    more = {"target_branch": branch} if parent else {}
    agent = await run_agent(
        kernel, parent, budget=10 if parent else 100, repo_path="/r", base_commit=HEAD, **more
    )
    place = f"/w/{agent.id}"
    await kernel.open_workspace(agent.id, epoch=1, path=place, branch=branch, base_commit=HEAD)
    await kernel.save_workspace(agent.id, epoch=1, head_commit=HEAD, files=1, added=1, removed=0)
    return agent.id


async def test_the_worktree_of_an_agent_that_lives_is_never_recorded_as_removed(
    kernel: Kernel,
) -> None:
    agent = await opened(kernel)
    with pytest.raises(IllegalTransition, match="is running and needs its worktree"):
        await kernel.remove_workspace(agent)
    await kernel.pause(agent, reason="wait")
    with pytest.raises(IllegalTransition, match="is paused"):
        await kernel.remove_workspace(agent)
    await kernel.terminate(agent, reason="enough")
    await kernel.remove_workspace(agent)
    await kernel.remove_workspace(agent)
    shown = await kernel.show(agent)
    assert (shown.isolation_status, shown.disk_bytes) == ("removed", 0)
    assert [k.id for k in await kernel.kept_workspaces()] == []
    sql = "select count(*) from bough.events where agent_id = %s and name = 'workspace.removed'"
    assert await kernel.value(sql, agent) == 1


async def test_who_has_no_worktree_or_does_not_exist_has_none_to_remove(kernel: Kernel) -> None:
    agent = await spawn_agent(kernel)
    await kernel.terminate(agent.id, reason="enough")
    for agent_id in (agent.id, uuid4()):
        with pytest.raises(NoWorkspace):
            await kernel.remove_workspace(agent_id)


async def test_a_merge_or_conflict_after_the_removal_is_recorded_beside_it(kernel: Kernel) -> None:
    agent = await opened(kernel)
    await kernel.complete(agent, epoch=1, result={})
    await kernel.remove_workspace(agent)
    ends = (("conflicted", None, ["a"]), ("merged", HEAD, list[str]()))
    for status, commit, conflicts in ends:
        more = {"previous": HEAD} if commit else {}
        await end_merge(kernel, agent, status, commit=commit, conflicts=conflicts, **more)
        shown = await kernel.show(agent)
        assert shown.isolation_status == "removed"
        assert (shown.merged_commit, shown.conflicts) == (commit, conflicts)


async def test_kept_worktrees_say_how_long_they_are_unused_and_who_needs_their_branch(
    kernel: Kernel,
) -> None:
    await kernel.set_clock(-5000)
    parent = await opened(kernel, branch="bough/p/p")
    child = await opened(kernel, parent, branch="bough/p/p")
    await enroll_runner(kernel)
    await kernel.complete(child, epoch=1, result={})
    await kernel.set_clock(-1000)
    await end_merge(kernel, child, "conflicted", conflicts=["a"])
    await kernel.complete(parent, epoch=1, result={})
    await kernel.set_clock(0)
    kept = {k.id: k for k in await kernel.kept_workspaces(repo_path="/r")}
    assert 990 < kept[child].age_s < 1010
    assert (kept[parent].status, kept[parent].host, kept[parent].is_target) == (
        "completed",
        "test",
        True,
    )
    await end_merge(kernel, child, "merged", commit=HEAD, previous=HEAD)
    kept = {k.id: k for k in await kernel.kept_workspaces(repo_path="/r")}
    assert not kept[parent].is_target
    assert await kernel.kept_workspaces(repo_path="/elsewhere") == []
