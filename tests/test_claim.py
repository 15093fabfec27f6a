"""A claim takes what dead runners left, then the line, oldest first, and each agent once."""

import asyncio
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import collide

from bough.client.errors import RunnerGone, StaleLease
from bough.client.rows import Claimed, Held


def ids(claimed: list[Claimed]) -> list[UUID]:
    return [c.id for c in claimed]


async def test_the_oldest_in_line_comes_first_and_no_more_than_asked_for(kernel: Kernel) -> None:
    line = [(await spawn_agent(kernel, task=f"number {n}")).id for n in range(5)]
    runner = await enroll_runner(kernel)
    assert ids(await kernel.claim(runner, slots=0)) == []
    assert ids(await kernel.claim(runner, slots=2)) == line[:2]
    assert ids(await kernel.claim(runner, slots=9)) == line[2:]
    assert await kernel.claim(runner, slots=9) == []


async def test_a_claim_brings_all_that_is_needed_to_start(kernel: Kernel) -> None:
    runner = await enroll_runner(kernel)
    agent = await spawn_agent(
        kernel,
        budget=70,
        task="t",
        role="r",
        driver="command",
        program={"argv": ["make"]},
        timeout_s=9,
        repo_path="/repo",
        base_commit="b" * 40,
    )
    (claimed,) = await kernel.claim(runner, slots=1)
    shown = await kernel.show(agent.id)
    assert shown.started_at
    assert claimed == Claimed(
        id=agent.id,
        root_id=agent.id,
        parent_id=None,
        lease_epoch=1,
        role="r",
        task="t",
        driver="command",
        program={"argv": ["make"]},
        timeout_s=9,
        started_at=shown.started_at,
        allocated=70,
        available=70,
        repo_path="/repo",
        base_commit="b" * 40,
        worktree_path=None,
        branch_name=None,
        isolation_status="pending",
    )
    assert (shown.status, shown.runner_id) == ("running", runner)


async def test_what_a_dead_runner_left_comes_first_under_the_next_epoch(kernel: Kernel) -> None:
    left = await run_agent(kernel)
    started_at = (await kernel.show(left.id)).started_at
    older = await spawn_agent(kernel)
    await kernel.set_clock(16)
    heir = await enroll_runner(kernel)
    first, second = await kernel.claim(heir, slots=9)
    assert (first.id, first.lease_epoch, first.started_at) == (left.id, 2, started_at)
    assert (second.id, second.lease_epoch) == (older.id, 1)
    names = await kernel.value(
        "select array_agg(name::text order by id) from bough.events where agent_id = %s"
        " and name like 'agent.%%'",
        left.id,
    )
    assert names == ["agent.created", "agent.started", "agent.reclaimed"]


async def test_a_living_runners_agents_are_not_taken(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    holder = (await kernel.show(agent.id)).runner_id
    assert holder
    await kernel.set_clock(14)
    assert await kernel.claim(await enroll_runner(kernel), slots=9) == []
    await kernel.heartbeat(holder, wants_work=False)
    await kernel.set_clock(28)
    other = await enroll_runner(kernel)
    assert await kernel.claim(other, slots=9) == []
    await kernel.set_clock(29.5)
    assert ids(await kernel.claim(other, slots=9)) == [agent.id]


async def test_a_late_heart_beat_keeps_what_nobody_has_taken_yet(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    holder = (await kernel.show(agent.id)).runner_id
    assert holder
    await kernel.set_clock(600)
    with pytest.raises(RunnerGone, match="has lost its lease; start a new one"):
        await kernel.claim(holder, slots=1)
    assert await kernel.heartbeat(holder, wants_work=True) == [Held(agent.id, 1, "running")]
    assert await kernel.claim(await enroll_runner(kernel), slots=9) == []


async def test_a_late_heart_beat_does_not_list_what_another_has_taken(kernel: Kernel) -> None:
    """The clock jumped, or the machine slept 30 minutes."""
    agent = await run_agent(kernel)
    holder = (await kernel.show(agent.id)).runner_id
    assert holder
    await kernel.set_clock(1800)
    heir = await enroll_runner(kernel)
    await kernel.claim(heir, slots=1)
    assert await kernel.heartbeat(holder, wants_work=True) == []
    assert await kernel.heartbeat(heir, wants_work=True) == [Held(agent.id, 2, "running")]


async def test_a_heart_beat_lists_exactly_the_living_agents_it_holds(kernel: Kernel) -> None:
    runner, other = await enroll_runner(kernel), await enroll_runner(kernel)
    mine = [await spawn_agent(kernel, runner_id=runner) for _ in range(4)]
    theirs = await spawn_agent(kernel, runner_id=other)
    assert await kernel.heartbeat(runner, wants_work=False) == []
    await kernel.claim(runner, slots=4)
    await kernel.claim(other, slots=4)
    kept = await spawn_agent(kernel, runner_id=runner)
    await kernel.complete(mine[0].id, epoch=1, result={})
    await kernel.terminate(mine[1].id, reason="x")
    await kernel.pause(mine[2].id, reason="x")
    held = await kernel.heartbeat(runner, wants_work=False)
    assert sorted((h.id, h.lease_epoch, h.status) for h in held) == sorted(
        [(mine[2].id, 1, "paused"), (mine[3].id, 1, "running")]
    )
    assert await kernel.heartbeat(other, wants_work=False) == [Held(theirs.id, 1, "running")]
    assert kept.status == "created"


async def test_an_agent_kept_for_a_runner_waits_for_it_while_it_lives(kernel: Kernel) -> None:
    wanted, other = await enroll_runner(kernel), await enroll_runner(kernel)
    kept = await spawn_agent(kernel, runner_id=wanted)
    assert await kernel.claim(other, slots=9) == []
    assert ids(await kernel.claim(wanted, slots=9)) == [kept.id]
    orphan = await spawn_agent(kernel, runner_id=wanted)
    await kernel.set_clock(16)
    third = await enroll_runner(kernel)
    assert set(ids(await kernel.claim(third, slots=9))) == {kept.id, orphan.id}


async def test_a_retired_runners_agents_are_free_at_once(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    holder = (await kernel.show(agent.id)).runner_id
    assert holder
    kept = await spawn_agent(kernel, runner_id=holder)
    await kernel.retire(holder)
    heir = await enroll_runner(kernel)
    taken = await kernel.claim(heir, slots=9)
    assert [(c.id, c.lease_epoch) for c in taken] == [(agent.id, 2), (kept.id, 1)]


@pytest.mark.parametrize("holds", [True, False])
async def test_a_retired_runner_takes_and_keeps_nothing_more(kernel: Kernel, holds: bool) -> None:
    runner = await enroll_runner(kernel)
    if holds:
        await spawn_agent(kernel, runner_id=runner)
        await kernel.claim(runner, slots=1)
    await kernel.retire(runner)
    with pytest.raises(RunnerGone, match="start a new one"):
        await kernel.claim(runner, slots=1)
    with pytest.raises(RunnerGone, match="start a new one"):
        await kernel.heartbeat(runner, wants_work=True)


async def test_a_runner_that_was_never_enrolled_takes_nothing(kernel: Kernel) -> None:
    await spawn_agent(kernel)
    with pytest.raises(RunnerGone):
        await kernel.claim(uuid4(), slots=1)
    with pytest.raises(RunnerGone):
        await kernel.heartbeat(uuid4(), wants_work=True)


async def test_a_claim_of_one_tree_takes_nothing_of_another(kernel: Kernel) -> None:
    left = await run_agent(kernel)
    others = await spawn_agent(kernel)
    mine = await spawn_agent(kernel)
    child = await spawn_agent(kernel, mine.id, budget=1)
    await kernel.set_clock(16)
    runner = await enroll_runner(kernel)
    assert ids(await kernel.claim(runner, slots=9, root_id=mine.id)) == [mine.id, child.id]
    assert ids(await kernel.claim(runner, slots=9)) == [left.id, others.id]


async def test_every_stale_call_is_refused_and_changes_nothing(kernel: Kernel) -> None:
    agent = await run_agent(kernel, repo_path="/r", base_commit="a" * 40)
    await kernel.set_clock(16)
    await kernel.claim(await enroll_runner(kernel), slots=1)
    before = await kernel.show(agent.id)
    a, e = agent.id, 1
    for call in (
        kernel.log(a, epoch=e, streams=["stdout"], contents=["x"]),
        kernel.report(a, epoch=e, progress=1.0, note="x"),
        kernel.open_workspace(a, epoch=e, path="/w", branch="b", base_commit="c" * 40),
        kernel.save_workspace(a, epoch=e, head_commit="c" * 40, files=1, added=1, removed=1),
        kernel.fail_workspace(a, epoch=e),
        kernel.record_program(a, epoch=e, pid=1, process_start="1", boot_id="b"),
    ):
        with pytest.raises(StaleLease, match="under lease 2, this is 1: another runner"):
            await call
    assert await kernel.show(agent.id) == before
    assert await kernel.logs(agent.id) == []


async def test_the_strays_of_a_dead_runner_are_named_on_their_machine_only(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    await kernel.record_program(agent.id, epoch=1, pid=77, process_start="9", boot_id="here")
    assert await kernel.strays("here") == []
    await kernel.set_clock(16)
    (stray,) = await kernel.strays("here")
    assert (stray.agent_id, stray.pid, stray.process_start) == (agent.id, 77, "9")
    assert await kernel.strays("elsewhere") == []


async def test_twenty_agents_and_four_claimers_at_once_make_twenty_starts(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=4)
    agents = {(await spawn_agent(client)).id for _ in range(20)}
    runners = [await enroll_runner(client) for _ in range(4)]

    async def claim_all(runner: UUID) -> list[UUID]:
        mine: list[UUID] = []
        while taken := await client.claim(runner, slots=2):
            mine += ids(taken)
        return mine

    shares = await asyncio.gather(*(claim_all(r) for r in runners))
    taken = [i for share in shares for i in share]
    assert len(taken) == 20
    assert set(taken) == agents
    assert {a.lease_epoch for a in await client.ps()} == {1}


async def test_a_claim_waits_for_no_lock_and_takes_the_next_in_line(sessions: Sessions) -> None:
    client = await sessions.client()
    first, second = await spawn_agent(client), await spawn_agent(client)
    runner = await enroll_runner(client)
    holder = Kernel(await sessions.connection())
    await holder.conn.execute("select from bough.agents where id = %s for update", (first.id,))
    assert ids(await asyncio.wait_for(client.claim(runner, slots=9), 10)) == [second.id]
    await holder.conn.rollback()
    assert ids(await client.claim(runner, slots=9)) == [first.id]


async def test_an_agent_that_is_terminated_while_being_claimed_ends(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await spawn_agent(client)
    runner = await enroll_runner(client)

    async def claim(kernel: Kernel) -> list[Claimed]:
        return await kernel.claim(runner, slots=1)

    async def terminate(kernel: Kernel) -> list[UUID | None]:
        return [t.runner_id for t in await kernel.terminate(agent.id, reason="x")]

    claimed, stopped = await collide(sessions, claim, terminate)
    assert ids(claimed) == [agent.id]
    assert stopped == [runner]
    assert await client.heartbeat(runner, wants_work=False) == []
