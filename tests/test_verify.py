"""verify says nothing of a sound database, and finds every rule that was broken behind its back.

Triggers are switched off inside a transaction that is rolled back; only so can a rule be broken.
"""

import re
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import Kernel, run_agent, spawn_agent

from bough import kernel as bough_kernel
from bough.client.budgets import Usage

RULES: dict[str, tuple[str, str, str]] = {
    # rule: how to break it, at which agent it shows, which numbers are named
    "every agent has a budget": (
        "delete from bough.budgets where agent_id = %(leaf)s",
        "leaf",
        "created",
    ),
    "allocated = used + reserved + available": (
        """alter table bough.budgets alter available drop expression;
        update bough.budgets set available = 7 where agent_id = %(leaf)s""",
        "leaf",
        "100 <> 0 + 0 + 7",
    ),
    "reserved = allocations of living children + open calls": (
        "update bough.budgets set reserved = 99 where agent_id = %(child)s",
        "child",
        "99 <> 100 + 0",
    ),
    "used = calls + used of ended children": (
        "update bough.budgets set used = 30 where agent_id = %(leaf)s",
        "leaf",
        "30 <> 0 + 0",
    ),
    "an open call is on the account of a living agent or a root": (
        """insert into bough.reservations (id, root_id, agent_id, payer_id, tokens_reserved,
          operation, expires_at) values (gen_random_uuid(), %(root)s, %(ended)s, %(ended)s, 7,
          'call', now())""",
        "ended",
        "7 tokens on",
    ),
    "an agent has ended exactly when its budget is reclaimed": (
        "update bough.budgets set reclaimed_at = null where agent_id = %(ended)s",
        "ended",
        "completed, reclaimed ",
    ),
    "no agent lives under an ended parent": (
        "update bough.agents set status = 'terminated', completed_at = now() where id = %(child)s",
        "leaf",
        "created under terminated",
    ),
    "a child is one level below its parent, in its tree": (
        "update bough.agents set depth_level = 5 where id = %(leaf)s",
        "leaf",
        "level 5 under 1",
    ),
    "one ancestor a level": (
        "delete from bough.hierarchies where child_id = %(leaf)s and distance = 2",
        "leaf",
        "1 rows for level 2",
    ),
    "distance 1 is the parent": (
        """update bough.hierarchies set parent_id = %(ended)s
        where child_id = %(leaf)s and distance = 1""",
        "leaf",
        "",
    ),
}

Found = set[tuple[str, UUID, str]]


async def found(kernel: Kernel) -> Found:
    cur = await kernel.conn.execute("select rule, agent_id, detail from bough_api.verify()")
    return set(await cur.fetchall())


async def a_tree(kernel: Kernel) -> dict[str, UUID]:
    """A root with an ended child that used 20 of 50, and a living child with a living leaf."""
    root = await run_agent(kernel)
    ended = await run_agent(kernel, root.id, budget=50)
    await kernel.charge(uuid4(), ended.id, Usage(tokens=20))
    await kernel.complete(ended.id, epoch=1, result={})
    child = await run_agent(kernel, root.id, budget=200)
    leaf = await spawn_agent(kernel, child.id, budget=100)
    assert await found(kernel) == set()
    return {"root": root.id, "ended": ended.id, "child": child.id, "leaf": leaf.id}


async def test_a_fresh_database_is_sound(empty_database: str) -> None:
    async with await psycopg.AsyncConnection.connect(empty_database, autocommit=True) as conn:
        await bough_kernel.migrate(conn)
        assert await bough_kernel.verify(conn) == []


@pytest.mark.parametrize("rule", RULES)
async def test_a_rule_that_was_broken_is_found_with_the_agent_and_the_numbers(
    kernel: Kernel, rule: str
) -> None:
    ids = await a_tree(kernel)
    statements, agent, detail = RULES[rule]
    await kernel.conn.execute("set local session_replication_role = replica")
    for statement in statements.split(";"):
        await kernel.conn.execute(statement.encode(), ids)
    await kernel.conn.execute("set local session_replication_role = origin")
    broken = [(a, d) for r, a, d in await found(kernel) if r == rule]
    assert len(broken) == 1
    assert broken[0][0] == ids[agent]
    assert detail in broken[0][1]


async def test_the_agents_of_another_tree_are_not_taken_for_ours(kernel: Kernel) -> None:
    ids = await a_tree(kernel)
    other = await spawn_agent(kernel)
    await kernel.conn.execute("set local session_replication_role = replica")
    await kernel.conn.execute(
        "update bough.agents set root_id = %s where id = %s", (other.id, ids["leaf"])
    )
    rules = {(r, a) for r, a, _ in await found(kernel)}
    assert ("a child is one level below its parent, in its tree", ids["leaf"]) in rules


def test_every_rule_of_verify_is_broken_by_a_test() -> None:
    code = (Path(bough_kernel.__file__).parent / "code" / "verify.sql").read_text()
    assert set(re.findall(r"^  select '([^']+)'", code, re.MULTILINE)) == RULES.keys()
