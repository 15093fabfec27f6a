"""How agents end: once, with all below them, deepest first, and what comes too late is kept."""

from uuid import UUID

import pytest
from conftest import Kernel, enroll_runner, run_agent, spawn_agent
from locks import assert_sound

from bough.client.errors import AgentEnded, AgentNotFound, IllegalTransition, RuleBroken, StaleLease
from bough.client.rows import Terminated


async def events_of(kernel: Kernel, root_id: UUID, like: str) -> list[tuple[str, UUID]]:
    """Names and agents of a tree's events in the order they were written."""
    cur = await kernel.conn.execute(
        "select name, agent_id from bough.events where root_id = %s and name like %s order by id",
        (root_id, like),
    )
    return await cur.fetchall()


async def a_line(kernel: Kernel, levels: int) -> list[UUID]:
    """A root and one agent a level below it, all running; their ids, top-down."""
    ids = [(await run_agent(kernel, budget=10**levels)).id]
    for level in range(levels - 1, 0, -1):
        ids.append((await run_agent(kernel, ids[-1], budget=10**level)).id)
    return ids


async def test_complete_keeps_the_result_and_says_when(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.complete(agent.id, epoch=1, result={"answer": [42]})
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.result, shown.error_code) == ("completed", {"answer": [42]}, None)
    assert shown.completed_at == shown.status_at
    assert shown.reclaimed_at


async def test_fail_keeps_code_and_message(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    message = "line one\nline two: ü\0 end"
    await kernel.fail(agent.id, epoch=1, code="exit_3", message=message, result={"exit": 3})
    shown = await kernel.show(agent.id)
    assert (shown.status, shown.error_code, shown.status_reason) == ("failed", "exit_3", "exit_3")
    assert (shown.error_message, shown.result) == (message.replace("\0", "\ufffd"), {"exit": 3})
    assert (await events_of(kernel, agent.id, "agent.failed")) == [("agent.failed", agent.id)]


async def test_a_repeated_complete_gets_the_first_answer(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.complete(agent.id, epoch=1, result={"n": 1})
    first = await kernel.show(agent.id)
    await kernel.complete(agent.id, epoch=1, result={"n": 2})
    assert await kernel.show(agent.id) == first
    assert len(await events_of(kernel, agent.id, "agent.completed")) == 1
    assert await events_of(kernel, agent.id, "agent.late_result") == []


async def test_a_worker_declared_dead_comes_back_and_its_result_is_kept_but_not_applied(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel)
    await kernel.set_clock(60)
    heir = await enroll_runner(kernel)
    assert [c.lease_epoch for c in await kernel.claim(heir, slots=1)] == [2]
    with pytest.raises(StaleLease, match="under lease 2, this is 1; the result was kept"):
        await kernel.complete(agent.id, epoch=1, result={"from": "the dead"})
    with pytest.raises(StaleLease):
        await kernel.fail(agent.id, epoch=1, code="c", message="m", result=None)
    assert (await kernel.show(agent.id)).status == "running"
    cur = await kernel.conn.execute(
        "select data from bough.events where name = 'agent.late_result' order by id"
    )
    assert [data for (data,) in await cur.fetchall()] == [
        {"epoch": 1, "status": "completed", "result": {"from": "the dead"}},
        {"epoch": 1, "status": "failed", "code": "c", "message": "m"},
    ]
    await kernel.complete(agent.id, epoch=2, result={"from": "the heir"})
    assert (await kernel.show(agent.id)).result == {"from": "the heir"}


async def test_an_end_that_was_decided_otherwise_is_refused_and_kept(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.terminate(agent.id, reason="enough")
    before = await kernel.show(agent.id)
    with pytest.raises(AgentEnded, match="is terminated; the result was kept as an event"):
        await kernel.complete(agent.id, epoch=1, result={})
    assert await kernel.show(agent.id) == before
    assert len(await events_of(kernel, agent.id, "agent.late_result")) == 1


async def test_only_an_agent_that_was_started_can_complete(kernel: Kernel) -> None:
    agent = await spawn_agent(kernel)
    for _ in ("created", "paused"):
        with pytest.raises(IllegalTransition, match="is created and cannot become completed"):
            await kernel.complete(agent.id, epoch=0, result={})
        await kernel.pause(agent.id, reason="x")


async def test_a_failure_without_a_code_is_refused(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    code: str = None  # type: ignore[assignment]
    with pytest.raises(RuleBroken, match="failed says why"):
        await kernel.fail(agent.id, epoch=1, code=code, message="m", result=None)
    assert (await kernel.show(agent.id)).status == "running"


async def test_calls_for_an_agent_that_never_was_say_so(kernel: Kernel) -> None:
    nobody = UUID(int=7)
    for call in (
        kernel.complete(nobody, epoch=1, result={}),
        kernel.terminate(nobody, reason="x"),
        kernel.pause(nobody, reason="x"),
        kernel.resume(nobody),
        kernel.report(nobody, epoch=1, progress=None, note=""),
        kernel.show(nobody),
    ):
        with pytest.raises(AgentNotFound, match="no agent 00000000; see bough ps --all"):
            await call


async def test_terminate_ends_all_below_deepest_first_and_names_whom_to_stop(
    kernel: Kernel,
) -> None:
    line = await a_line(kernel, 4)
    runners = [(await kernel.show(i)).runner_id for i in line]
    ended = await kernel.terminate(line[0], reason="by the operator")
    assert ended == [Terminated(i, r) for i, r in zip(line, runners, strict=True)]
    assert await events_of(kernel, line[0], "agent.terminated") == [
        ("agent.terminated", i) for i in reversed(line)
    ]
    reasons = [(await kernel.show(i)).status_reason for i in line]
    assert reasons == ["by the operator"] + ["ancestor terminated"] * 3
    assert await kernel.terminate(line[0], reason="again") == []
    await assert_sound(kernel)


async def test_terminate_leaves_everything_outside_the_subtree_alone(kernel: Kernel) -> None:
    root = await run_agent(kernel)
    chosen, other = [await run_agent(kernel, root.id, budget=10) for _ in range(2)]
    below = await run_agent(kernel, chosen.id, budget=1)
    await kernel.terminate(chosen.id, reason="x")
    states = {a.id: a.status for a in await kernel.tree(root.id)}
    assert states == {
        root.id: "running",
        chosen.id: "terminated",
        below.id: "terminated",
        other.id: "running",
    }


async def test_terminating_what_has_completed_says_so(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.complete(agent.id, epoch=1, result={})
    with pytest.raises(AgentEnded, match="has already completed"):
        await kernel.terminate(agent.id, reason="x")


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_a_parent_that_ends_takes_its_living_descendants_deepest_first(
    kernel: Kernel, end: str
) -> None:
    root, child, grandchild, last = await a_line(kernel, 4)
    done = await run_agent(kernel, child, budget=1)
    await kernel.complete(done.id, epoch=1, result={})
    if end == "completed":
        await kernel.complete(child, epoch=1, result={})
    else:
        await kernel.fail(child, epoch=1, code="x", message="x", result=None)
    ends = [e for e in await events_of(kernel, root, "agent.%") if e[0].endswith("ed")]
    assert ends[-3:] == [
        ("agent.terminated", last),
        ("agent.terminated", grandchild),
        (f"agent.{end}", child),
    ]
    shown = {a.id: (a.status, a.status_reason) for a in await kernel.tree(root)}
    assert shown[last] == shown[grandchild] == ("terminated", f"parent {end}")
    assert shown[done.id][0] == "completed"
    assert shown[root][0] == "running"
    await assert_sound(kernel)


async def test_a_report_is_kept_until_the_agent_has_ended(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.report(agent.id, epoch=1, progress=0.5, note="half")
    await kernel.report(agent.id, epoch=1, progress=None, note="still half")
    shown = await kernel.show(agent.id)
    assert (shown.progress, shown.progress_note) == (0.5, "still half")
    await kernel.complete(agent.id, epoch=1, result={})
    with pytest.raises(AgentEnded, match="has ended"):
        await kernel.report(agent.id, epoch=1, progress=0.9, note="after the end")
    assert (await kernel.show(agent.id)).progress_note == "still half"
    assert len(await events_of(kernel, agent.id, "agent.reported")) == 2
