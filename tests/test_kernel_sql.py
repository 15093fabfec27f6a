"""The SQL of the kernel: each statement checked, everything commented, indexed and named."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Kernel

from bough import kernel as bough_kernel

FILES = sorted(Path(bough_kernel.__file__).parent.glob("*/*.sql"))

OURS = "('bough'::regnamespace, 'bough_api'::regnamespace)"

NOT_INDEXED = {
    "hierarchies.ancestor_exists": "agents are never deleted; reads go by root_id first",
    "hierarchies.descendant_exists": "agents are never deleted; reads go by root_id first",
    "ports.agent_exists": "agents are never deleted; a machine holds few",
    "steps.agent_exists": "agents are never deleted; reads go by root_id first",
    "conversations.agent_exists": "agents are never deleted; reads go by root_id first",
    "reservations.payer_exists": "accounts are never deleted; reads go by root_id first",
    "agents.runner_exists": "runners are never deleted; living agents have agents_of_runner",
}
"""Foreign keys without an index of their own, and why none is needed."""


async def every(kernel: Kernel, query: str) -> list[tuple[Any, ...]]:
    return await (await kernel.conn.execute(query.encode())).fetchall()


async def test_plpgsql_check_finds_nothing_in_any_function_or_trigger(kernel: Kernel) -> None:
    try:
        async with kernel.conn.transaction():
            await kernel.conn.execute("create extension plpgsql_check")
    except (
        psycopg.errors.UndefinedFile,
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.InsufficientPrivilege,
    ) as error:
        pytest.skip(f"NO PLPGSQL_CHECK ON THIS SERVER, FUNCTION BODIES ARE UNCHECKED: {error}")
    checked = await every(
        kernel,
        f"""
        select p.oid::regprocedure::text, coalesce(t.tgrelid::regclass::text, ''), array(
            select c.message || coalesce(' in ' || c.statement, '')
                   || coalesce(' at line ' || c.lineno, '') || coalesce(': ' || c.hint, '')
              from plpgsql_check_function_tb(p.oid, coalesce(t.tgrelid, 0), fatal_errors => false,
                newtable => t.tgnewtable, extra_warnings => true,
                performance_warnings => false) c)
          from pg_proc p join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
          left join pg_trigger t on t.tgfoid = p.oid and not t.tgisinternal
         where p.pronamespace in {OURS}
        """,
    )
    assert len(checked) > 40
    triggers = [row for row in checked if row[1]]
    assert len(triggers) > 10
    assert [row for row in checked if row[2]] == []


async def test_every_function_of_the_api_runs_as_its_owner_with_an_empty_path(
    kernel: Kernel,
) -> None:
    found = await every(
        kernel,
        "select oid::regprocedure::text, prosecdef, coalesce(proconfig, '{}')"
        " from pg_proc where pronamespace = 'bough_api'::regnamespace",
    )
    assert len(found) > 25
    assert [f for f in found if not f[1] or f[2] != ['search_path=""']] == []


async def test_every_trigger_function_has_an_empty_path(kernel: Kernel) -> None:
    found = await every(
        kernel,
        "select oid::regprocedure::text, coalesce(proconfig, '{}') from pg_proc"
        " where pronamespace = 'bough'::regnamespace and prorettype = 'trigger'::regtype",
    )
    assert len(found) > 8
    assert [f for f in found if f[1] != ['search_path=""']] == []


async def test_nobody_but_the_role_of_programs_may_call_the_api(kernel: Kernel) -> None:
    public = await every(
        kernel,
        "select oid::regprocedure::text from pg_proc p, aclexplode(p.proacl) a"
        " where pronamespace = 'bough_api'::regnamespace and a.grantee = 0",
    )
    assert public == []
    internal = await every(
        kernel,
        "select oid::regprocedure::text from pg_proc"
        " where pronamespace = 'bough_api'::regnamespace and proname like '\\_%'"
        " and has_function_privilege('bough_program', oid, 'execute')",
    )
    assert internal == []


async def test_every_function_table_and_view_says_what_it_is(kernel: Kernel) -> None:
    silent = await every(
        kernel,
        f"""
        select oid::regprocedure::text from pg_proc
         where pronamespace in {OURS} and obj_description(oid, 'pg_proc') is null
        union all
        select oid::regclass::text from pg_class where relnamespace in {OURS}
           and relkind in ('r', 'v') and obj_description(oid, 'pg_class') is null
        """,
    )
    assert silent == []


async def test_every_amount_says_its_unit_and_every_optional_id_what_null_means(
    kernel: Kernel,
) -> None:
    """A unit stands in the column's name, in its comment or in that of its table."""
    columns = await every(
        kernel,
        """
        select c.relname || '.' || a.attname, format_type(a.atttypid, null), a.attnotnull,
               coalesce(col_description(c.oid, a.attnum), ''),
               coalesce(obj_description(c.oid, 'pg_class'), '')
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = 'bough'::regnamespace and c.relkind = 'r' and not attisdropped
        """,
    )
    assert len(columns) > 80
    unit = re.compile(r"token|second|byte|fraction|_s$|_bytes$|micro|usd", re.IGNORECASE)
    amounts = {"bough.tokens", "bough.allocation", "bough.fraction", "real", "double precision"}
    silent = [
        name
        for name, kind, is_needed, comment, of_table in columns
        if (
            (kind in amounts or name.endswith(("_s", "_bytes", "available")))
            and not any(unit.search(text) for text in (name, comment, of_table))
        )
        or (
            kind == "uuid"
            and not is_needed
            and not comment
            and name.partition(".")[2] not in {"parent_id", "root_id", "agent_id"}
        )
    ]
    assert silent == []


async def test_every_constraint_has_a_name_that_somebody_thought_of(kernel: Kernel) -> None:
    """Refusals are shown by the name of the rule: refused by the rule: failed says why."""
    names = await every(kernel, f"select conname from pg_constraint where connamespace in {OURS}")
    assert len(names) > 40
    automatic = re.compile(r"_(check|fkey|key|excl)\d*$")
    assert [name for (name,) in names if automatic.search(name)] == []


async def test_every_time_has_a_zone(kernel: Kernel) -> None:
    naive = await every(
        kernel,
        "select a.attrelid::regclass::text, a.attname from pg_attribute a"
        " join pg_class c on c.oid = a.attrelid and c.relnamespace = 'bough'::regnamespace"
        " where a.atttypid in ('timestamp'::regtype, 'date'::regtype, 'time'::regtype)",
    )
    assert naive == []


async def test_every_foreign_key_is_indexed_or_explained(kernel: Kernel) -> None:
    bare = await every(
        kernel,
        """
        select k.conrelid::regclass::text || '.' || k.conname from pg_constraint k
         where k.contype = 'f' and k.connamespace = 'bough'::regnamespace and not exists (
           select from pg_index i where i.indrelid = k.conrelid
              and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] = k.conkey
              and (i.indpred is null
                   or pg_get_expr(i.indpred, i.indrelid) ~ '^\\(\\w+ IS NOT NULL\\)$'))
        """,
    )
    assert {name.removeprefix("bough.") for (name,) in bare} == NOT_INDEXED.keys()


async def test_every_table_of_a_tree_has_an_index_that_begins_with_the_root(
    kernel: Kernel,
) -> None:
    """A tree never shares a row with another, so trees can be spread over partitions."""
    tables = await every(
        kernel,
        """
        select c.relname, exists (select from pg_index i where i.indrelid = c.oid
                  and i.indpred is null and i.indkey[0] = a.attnum)
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'root_id'
         where c.relnamespace = 'bough'::regnamespace and c.relkind = 'r'
        """,
    )
    assert len(tables) > 8
    assert [name for name, is_led in tables if not is_led] == []


async def test_every_table_about_agents_knows_their_tree(kernel: Kernel) -> None:
    lost = await every(
        kernel,
        """
        select distinct k.conrelid::regclass::text from pg_constraint k
         where k.confrelid = 'bough.agents'::regclass and not exists (
           select from pg_attribute a where a.attrelid = k.conrelid and a.attname = 'root_id')
        """,
    )
    assert lost == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_kernel_file_has_no_dynamic_sql_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("-- ")
    code = re.sub(r"--[^\n]*|'(?:[^']|'')*'", "''", text)
    allowed = re.compile(r"execute\s+(function|on function)\b")
    found = [code[m.start() : m.start() + 40] for m in re.finditer(r"\bexecute\b", code, re.I)]
    assert [f for f in found if not allowed.match(f)] == []


async def test_the_clock_can_be_set_and_is_the_time_otherwise(kernel: Kernel) -> None:
    assert await kernel.value("select bough.now() = statement_timestamp()")
    await kernel.set_clock(3600)
    ahead = await kernel.value("select extract(epoch from bough.now() - statement_timestamp())")
    assert 3590 < ahead < 3610
    agent = await kernel.value("insert into bough.agents (task) values ('x') returning created_at")
    assert agent == await kernel.value("select bough.now()")
