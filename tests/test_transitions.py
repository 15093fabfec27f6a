"""Only legal transitions pass and a place in the tree is for ever, whoever writes the statement.

The statements here are plain ones by the owner of the tables, past every function.
"""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import Kernel, enroll_runner, run_agent, spawn_agent
from locks import assert_sound

STATUSES = ("created", "running", "waiting", "paused", "completed", "failed", "terminated")

LEGAL: dict[str, set[str]] = {
    "created": {"running", "paused", "terminated"},
    "running": {"waiting", "paused", "completed", "failed", "terminated"},
    "waiting": {"running", "paused", "completed", "failed", "terminated"},
    "paused from created": {"created", "failed", "terminated"},
    "paused from running": {"running", "failed", "terminated"},
    "paused from waiting": {"waiting", "failed", "terminated"},
    "completed": set(),
    "failed": set(),
    "terminated": set(),
}


async def set_status(kernel: Kernel, agent_id: UUID, status: str) -> None:
    async with kernel.conn.transaction():
        await kernel.conn.execute(
            "update bough.agents set status = %s, error_code ="
            " case when %s = 'failed' then 'x' else error_code end where id = %s",
            (status, status, agent_id),
        )


async def agent_in(kernel: Kernel, state: str) -> UUID:
    """An agent that came to `state` by legal steps, and that has a runner."""
    agent_id = (await spawn_agent(kernel, runner_id=await enroll_runner(kernel))).id
    status, _, origin = state.partition(" from ")
    steps = [] if "created" in (status, origin) else ["running"]
    steps += [s for s in (origin, status) if s not in ("", "created", "running")]
    for step in steps:
        await set_status(kernel, agent_id, step)
    assert (await kernel.show(agent_id)).status == status
    return agent_id


@pytest.mark.parametrize("state", LEGAL)
async def test_an_agent_leaves_a_status_only_by_a_legal_transition(
    kernel: Kernel, state: str
) -> None:
    now = state.partition(" ")[0]
    for wanted in STATUSES:
        agent_id = await agent_in(kernel, state)
        if wanted == now:
            continue
        if wanted in LEGAL[state]:
            await set_status(kernel, agent_id, wanted)
            assert (await kernel.show(agent_id)).status == wanted
            continue
        before = await kernel.show(agent_id)
        with pytest.raises(psycopg.DatabaseError, match=f"{now} and cannot become {wanted}") as no:
            await set_status(kernel, agent_id, wanted)
        assert no.value.sqlstate == "TR003"
        assert await kernel.show(agent_id) == before
    await assert_sound(kernel)


async def refused(kernel: Kernel, statement: bytes, *values: Any) -> str:
    """The SQLSTATE, or for a constraint its name, with which a statement is refused."""
    with pytest.raises(psycopg.DatabaseError) as refusal:
        async with kernel.conn.transaction():
            await kernel.conn.execute(statement, values)
    return refusal.value.diag.constraint_name or refusal.value.sqlstate or ""


async def test_an_unknown_status_is_refused(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    update = b"update bough.agents set status = %s where id = %s"
    assert await refused(kernel, update, "zombie", agent.id) == "status_is_known"


async def test_a_paused_agent_cannot_be_given_another_way_back(kernel: Kernel) -> None:
    agent_id = await agent_in(kernel, "paused from running")
    for way in ("completed", "waiting"):
        update = b"update bough.agents set paused_from = %s where id = %s"
        assert await refused(kernel, update, way, agent_id) == "TR003"
    assert [c.status for c in await kernel.resume(agent_id)] == ["running"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("completed_at = now()", "ended_exactly_when_dated"),
        ("result = '{}'", "result_only_when_ended"),
        ("runner_id = null", "running_belongs_to_a_runner"),
        ("paused_from = 'running'", "TR003"),
        ("status = 'failed'", "failed_says_why"),
        ("progress = 1.5", "fraction_is_0_to_1"),
        ("id = gen_random_uuid()", "TR003"),
        ("root_id = gen_random_uuid()", "TR003"),
        ("depth_level = 3", "TR003"),
        ("parent_id = null", "TR003"),
        ("parent_id = id", "TR003"),
    ],
)
async def test_a_hand_written_change_of_a_living_agent_is_refused(
    kernel: Kernel, change: str, rule: str
) -> None:
    root = await spawn_agent(kernel)
    agent = await run_agent(kernel, root.id)
    update = f"update bough.agents set {change} where id = %s".encode()
    assert await refused(kernel, update, agent.id) == rule
    await assert_sound(kernel)


async def test_a_hand_written_insert_gets_its_right_place(kernel: Kernel) -> None:
    root = await spawn_agent(kernel)
    child = await spawn_agent(kernel, root.id, budget=100)
    wrong, right = uuid4(), uuid4()
    await kernel.conn.execute(
        "insert into bough.agents (id, parent_id, root_id, depth_level, task)"
        " values (%s, %s, %s, 77, 'x')",
        (right, child.id, wrong),
    )
    await kernel.conn.execute(
        "insert into bough.budgets (agent_id, root_id, allocated) values (%s, %s, 60)",
        (right, wrong),
    )
    shown = await kernel.show(right)
    assert (shown.root_id, shown.depth_level, shown.allocated) == (root.id, 2, 60)
    assert (await kernel.show(child.id)).reserved == 60
    assert await kernel.value("select root_id from bough.budgets where agent_id = %s", right) == (
        root.id
    )
    await assert_sound(kernel)


@pytest.mark.parametrize("status", [s for s in STATUSES if s != "created"])
async def test_a_hand_written_insert_starts_as_created(kernel: Kernel, status: str) -> None:
    insert = b"insert into bough.agents (task, status) values ('x', %s)"
    assert await refused(kernel, insert, status) == "TR003"


@pytest.mark.parametrize("end", ["completed", "failed", "terminated"])
async def test_no_statement_leaves_an_agent_alive_under_an_ended_parent(
    kernel: Kernel, end: str
) -> None:
    parent = await run_agent(kernel)
    child = await spawn_agent(kernel, parent.id)
    with pytest.raises(psycopg.DatabaseError, match="has living children; terminate ends"):
        await set_status(kernel, parent.id, end)
    await kernel.terminate(child.id, reason="x")
    await set_status(kernel, parent.id, end)
    insert = b"insert into bough.agents (parent_id, task) values (%s, 'x')"
    assert await refused(kernel, insert, parent.id) == "TR002"
    await assert_sound(kernel)


async def test_an_agent_that_was_is_never_deleted(kernel: Kernel) -> None:
    agent = await spawn_agent(kernel)
    assert await refused(kernel, b"delete from bough.agents where id = %s", agent.id) == (
        "agent_exists"
    )


async def test_every_change_of_status_is_dated_and_recorded(kernel: Kernel) -> None:
    agent_id = await agent_in(kernel, "created")
    for step in ("running", "paused", "running", "waiting", "running", "completed"):
        await set_status(kernel, agent_id, step)
    cur = await kernel.conn.execute(
        "select name from bough.events where agent_id = %s and name like 'agent.%%' order by id",
        (agent_id,),
    )
    assert [name for (name,) in await cur.fetchall()] == [
        "agent.created",
        "agent.started",
        "agent.paused",
        "agent.resumed",
        "agent.waiting",
        "agent.resumed",
        "agent.completed",
    ]
    shown = await kernel.show(agent_id)
    assert shown.started_at
    assert shown.completed_at == shown.status_at
    assert shown.created_at <= shown.started_at <= shown.status_at
