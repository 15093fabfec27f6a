"""Two calls on one tree at once, in both orders: one waits, both are right, nothing deadlocks.

`collide` lets the second run into the open transaction of the first, so each order is certain.
"""

from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import Kernel, Sessions, run_agent, spawn_agent
from locks import Call, assert_sound, collide

from bough.client.errors import AgentEnded
from bough.client.rows import Changed, Spawned, Terminated
from bough.client.runner_calls import RunnerClient


def spawn(parent: UUID) -> Call:
    return lambda kernel: spawn_agent(kernel, parent, budget=1)


def terminate(agent_id: UUID) -> Call:
    return lambda kernel: kernel.terminate(agent_id, reason="raced")


def complete(agent_id: UUID, answer: int = 1) -> Call:
    return lambda kernel: kernel.complete(agent_id, epoch=1, result={"answer": answer})


def pause(agent_id: UUID) -> Call:
    return lambda kernel: kernel.pause(agent_id, reason="raced")


async def a_line(client: RunnerClient) -> list[UUID]:
    """A root, a child and a grandchild, all running."""
    root = await run_agent(client, budget=1000)
    child = await run_agent(client, root.id, budget=500)
    return [root.id, child.id, (await run_agent(client, child.id, budget=100)).id]


async def statuses(sessions: Sessions, root: UUID) -> list[str]:
    """Of the whole tree, top-down; the books are checked on the way."""
    kernel = Kernel(await sessions.connection())
    await assert_sound(kernel)
    return [a.status for a in await kernel.tree(root)]


def ended(answer: list[Terminated]) -> list[UUID]:
    return [t.id for t in answer]


async def test_a_spawn_that_meets_the_end_of_its_parent_is_refused(sessions: Sessions) -> None:
    root, child, _ = await a_line(await sessions.client())
    _, refused = await collide(sessions, terminate(child), spawn(child))
    assert isinstance(refused, AgentEnded)
    assert "cannot spawn" in str(refused)
    assert await statuses(sessions, root) == ["running", "terminated", "terminated"]


async def test_a_spawn_below_a_tree_that_is_being_terminated_is_refused(
    sessions: Sessions,
) -> None:
    root, _, grandchild = await a_line(await sessions.client())
    _, refused = await collide(sessions, terminate(root), spawn(grandchild))
    assert isinstance(refused, AgentEnded)
    assert await statuses(sessions, root) == ["terminated"] * 3


async def insert(kernel: Kernel, parent: UUID) -> UUID | str | None:
    """A child by hand, past every function; its id, or the SQLSTATE of the refusal."""
    made = uuid4()
    try:
        async with kernel.conn.transaction():
            await kernel.conn.execute(
                "insert into bough.agents (id, parent_id, task) values (%s, %s, 'x')",
                (made, parent),
            )
            await kernel.conn.execute(
                "insert into bough.budgets (agent_id, allocated) values (%s, 1)", (made,)
            )
    except psycopg.DatabaseError as error:
        return error.sqlstate
    return made


async def test_a_hand_written_insert_that_meets_the_end_of_its_parent_is_refused(
    sessions: Sessions,
) -> None:
    root, child, _ = await a_line(await sessions.client())
    _, refused = await collide(sessions, terminate(child), lambda kernel: insert(kernel, child))
    assert refused == "TR002"
    made, answer = await collide(sessions, lambda kernel: insert(kernel, root), terminate(root))
    assert ended(answer) == [root, made]
    assert await statuses(sessions, root) == ["terminated"] * 4


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_a_terminate_that_meets_a_spawn_takes_the_new_child_along(
    sessions: Sessions, level: int
) -> None:
    line = await a_line(await sessions.client())
    child, answer = await collide(sessions, spawn(line[2]), terminate(line[level]))
    assert isinstance(child, Spawned)
    assert ended(answer) == [*line[level:], child.id]
    assert await statuses(sessions, line[0]) == ["running"] * level + ["terminated"] * (4 - level)


async def test_a_spawn_that_meets_the_completion_of_its_parent_is_refused(
    sessions: Sessions,
) -> None:
    root, child, grandchild = await a_line(await sessions.client())
    _, refused = await collide(sessions, complete(grandchild), spawn(grandchild))
    assert isinstance(refused, AgentEnded)
    assert await statuses(sessions, root) == ["running", "running", "completed"]
    assert (await (await sessions.client()).show(child)).reserved == 0


async def test_a_completion_that_meets_a_spawn_ends_the_new_child(sessions: Sessions) -> None:
    root, child, _ = await a_line(await sessions.client())
    new, done = await collide(sessions, spawn(child), complete(child))
    assert isinstance(new, Spawned)
    assert done is None
    assert await statuses(sessions, root) == ["running", "completed", "terminated", "terminated"]


async def test_a_completion_below_a_tree_that_is_being_terminated_is_kept_not_applied(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root, _, grandchild = await a_line(client)
    answer, late = await collide(sessions, terminate(root), complete(grandchild))
    assert ended(answer)[-1] == grandchild
    assert isinstance(late, AgentEnded)
    assert await statuses(sessions, root) == ["terminated"] * 3
    assert (await client.show(grandchild)).result is None


async def test_a_terminate_of_the_tree_waits_for_a_completion_deep_down_and_leaves_it(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root, child, grandchild = await a_line(client)
    done, answer = await collide(sessions, complete(grandchild), terminate(root))
    assert done is None
    assert ended(answer) == [root, child]
    assert await statuses(sessions, root) == ["terminated", "terminated", "completed"]
    assert (await client.show(grandchild)).result == {"answer": 1}


async def test_a_completion_that_meets_a_pause_still_counts(sessions: Sessions) -> None:
    root, child, grandchild = await a_line(await sessions.client())
    held, done = await collide(sessions, pause(root), complete(grandchild))
    assert len(held) == 3
    assert done is None
    assert await statuses(sessions, root) == ["paused", "paused", "completed"]
    assert {c.id for c in await (await sessions.client()).resume(root)} == {root, child}


async def test_a_pause_that_meets_a_completion_is_refused(sessions: Sessions) -> None:
    root, _, grandchild = await a_line(await sessions.client())
    _, refused = await collide(sessions, complete(grandchild), pause(grandchild))
    assert isinstance(refused, AgentEnded)
    assert await statuses(sessions, root) == ["running", "running", "completed"]


async def test_a_pause_of_the_tree_passes_over_what_completes_meanwhile(
    sessions: Sessions,
) -> None:
    root, child, grandchild = await a_line(await sessions.client())
    _, held = await collide(sessions, complete(grandchild), pause(root))
    assert set(held) == {Changed(root, "paused"), Changed(child, "paused")}
    assert await statuses(sessions, root) == ["paused", "paused", "completed"]


async def test_two_completions_at_once_count_once_and_the_first_answer_stays(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root, child, grandchild = await a_line(client)
    answers = await collide(sessions, complete(grandchild, 1), complete(grandchild, 2))
    assert answers == (None, None)
    assert (await client.show(grandchild)).result == {"answer": 1}
    assert (await client.show(child)).reserved == 0
    assert await statuses(sessions, root) == ["running", "running", "completed"]


async def test_of_complete_and_terminate_at_once_the_first_decides(sessions: Sessions) -> None:
    client = await sessions.client()
    root, child, grandchild = await a_line(client)
    answer, late = await collide(sessions, terminate(grandchild), complete(grandchild))
    assert ended(answer) == [grandchild]
    assert isinstance(late, AgentEnded)
    done, late = await collide(sessions, complete(child), terminate(child))
    assert done is None
    assert isinstance(late, AgentEnded)
    assert await statuses(sessions, root) == ["running", "completed", "terminated"]


async def test_two_terminates_at_once_of_root_and_child_end_each_agent_once(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    for first, second in ((0, 1), (1, 0), (0, 0), (0, 2), (2, 0)):
        line = await a_line(client)
        one, two = await collide(sessions, terminate(line[first]), terminate(line[second]))
        assert ended(one) == line[first:]
        assert ended(two) == line[:first][second:]
        assert await statuses(sessions, line[0]) == ["terminated"] * 3
    conn = await sessions.connection()
    cur = await conn.execute("select agent_id from bough.events where name = 'agent.terminated'")
    found = [agent_id for (agent_id,) in await cur.fetchall()]
    assert len(found) == len(set(found)) == 15


async def test_a_resume_that_meets_a_terminate_is_refused(sessions: Sessions) -> None:
    client = await sessions.client()
    root, child, _ = await a_line(client)
    await client.pause(root, reason="x")
    _, refused = await collide(sessions, terminate(root), lambda kernel: kernel.resume(child))
    assert isinstance(refused, AgentEnded)
    assert await statuses(sessions, root) == ["terminated"] * 3
