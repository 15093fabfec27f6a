"""The schema goes up and down, whole or not at all, whoever else is there."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from conftest import Sessions, spawn_agent

from bough import kernel
from bough.client.database import open_client
from bough.kernel.migrate import Connection

KERNEL = Path(kernel.__file__).parent
EVERY = list(range(1, kernel.expected_version() + 1))


async def connect(dsn: str) -> Connection:
    return await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True)


def dump(dsn: str) -> str:
    # pg_dump writes a random key into \\restrict lines since the August 2025 releases.
    out = subprocess.run(
        ["pg_dump", "--schema-only", "-d", dsn], capture_output=True, text=True, check=True
    ).stdout
    return "\n".join(line for line in out.splitlines() if not line.startswith("\\"))


async def test_up_down_and_up_again_leaves_the_same_schema(empty_database: str) -> None:
    async with await connect(empty_database) as conn:
        before = await catalogue(conn)
        await kernel.migrate(conn)
        first = await catalogue(conn)
        assert await kernel.rollback(conn, to=0) == EVERY[::-1]
        assert await catalogue(conn) == before
        await kernel.migrate(conn)
        assert await catalogue(conn) == first
        assert await kernel.verify(conn) == []


async def catalogue(conn: Connection) -> list[Any]:
    """Every object of ours as PostgreSQL itself describes it."""
    cur = await conn.execute(
        """
        select 'column', c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod)
               || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || a.attnotnull
               || coalesce(col_description(c.oid, a.attnum), '')
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
          left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where c.relnamespace::regnamespace::text like 'bough%'
        union all
        select 'constraint', conrelid::regclass::text || contypid::regtype::text, conname,
               pg_get_constraintdef(oid)
          from pg_constraint where connamespace::regnamespace::text like 'bough%'
        union all
        select 'function', pronamespace::regnamespace::text, oid::regprocedure::text,
               pg_get_functiondef(oid) || coalesce(obj_description(oid), '') || proacl::text
          from pg_proc where pronamespace::regnamespace::text like 'bough%'
        union all
        select 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
          from pg_trigger where not tgisinternal
        union all
        select 'schema', nspname, '', coalesce(obj_description(oid), '')
          from pg_namespace where nspname like 'bough%'
        order by 1, 2, 3, 4
        """
    )
    return await cur.fetchall()


async def test_the_dump_after_up_down_up_is_the_same(empty_database: str) -> None:
    if shutil.which("pg_dump") is None:
        pytest.skip("NO pg_dump HERE: the catalogue is compared by another test")
    async with await connect(empty_database) as conn:
        await kernel.migrate(conn)
        try:
            first = dump(empty_database)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"THIS pg_dump CANNOT READ THE SERVER: {error.stderr.strip()}")
        await kernel.rollback(conn, to=0)
        await kernel.migrate(conn)
        assert dump(empty_database) == first


async def test_rolling_back_to_each_version_and_up_again_works(empty_database: str) -> None:
    async with await connect(empty_database) as conn:
        await kernel.migrate(conn)
        newest = kernel.expected_version()
        for version in range(newest - 1, -1, -1):
            assert await kernel.rollback(conn, to=version) == list(range(newest, version, -1))
            assert await kernel.migrate(conn) == list(range(version + 1, newest + 1))


async def test_fifty_sessions_of_ten_programs_migrate_at_once(empty_database: str) -> None:
    code = (
        "import asyncio, psycopg, sys\n"
        "from bough import kernel\n"
        "async def one():\n"
        "    async with await psycopg.AsyncConnection.connect(\n"
        "            sys.argv[1], autocommit=True) as conn:\n"
        "        print(await kernel.migrate(conn, only_if_needed=True), flush=True)\n"
        "async def main():\n"
        "    await asyncio.gather(*(one() for _ in range(5)))\n"
        "asyncio.run(main())\n"
    )
    programs = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, empty_database, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(10)
    ]
    said = "".join([(await p.communicate())[0].decode() for p in programs])
    assert [p.returncode for p in programs] == [0] * 10
    assert sorted(said.splitlines()) == sorted([str(EVERY)] + ["[]"] * 49)


def copied(tmp_path: Path) -> Path:
    shutil.copytree(KERNEL / "migrations", tmp_path / "migrations")
    return tmp_path / "migrations"


async def test_an_edited_migration_is_refused_by_name(empty_database: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    async with await connect(empty_database) as conn:
        await kernel.migrate(conn, folder=folder)
        file = folder / "002_limits_and_mail_order.sql"
        file.write_text(file.read_text() + "-- edited\n")
        with pytest.raises(kernel.MigrationError, match="002 limits_and_mail_order was edited"):
            await kernel.migrate(conn, folder=folder)
        with pytest.raises(kernel.MigrationError, match="002 limits_and_mail_order was edited"):
            await kernel.rollback(conn, to=0, folder=folder)
        states = {s.version: s.state for s in await kernel.status(conn, folder=folder)}
        assert states == dict.fromkeys(EVERY, "applied") | {2: "changed"}


async def test_a_database_newer_than_the_program_is_refused(
    empty_database: str, tmp_path: Path
) -> None:
    folder = copied(tmp_path)
    (folder / "999_future.sql").write_text("create table bough.future (id integer);")
    async with await connect(empty_database) as conn:
        await kernel.migrate(conn, folder=folder)
        with pytest.raises(kernel.MigrationError, match="upgrade bough"):
            await kernel.migrate(conn)


async def test_a_broken_migration_leaves_nothing_of_itself_or_those_before(
    empty_database: str, tmp_path: Path
) -> None:
    folder = copied(tmp_path)
    (folder / "004_broken.sql").write_text("create table bough.fine (id integer); select 1/0;")
    async with await connect(empty_database) as conn:
        before = await catalogue(conn)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await kernel.migrate(conn, folder=folder)
        assert await catalogue(conn) == before
        await kernel.migrate(conn)


async def test_going_back_to_a_version_that_never_was_is_refused(empty_database: str) -> None:
    async with await connect(empty_database) as conn:
        await kernel.migrate(conn)
        with pytest.raises(kernel.MigrationError, match="no version 999 to go back to; applied is"):
            await kernel.rollback(conn, to=999)


async def test_functions_are_made_anew_under_live_callers_without_an_error(
    empty_database: str,
) -> None:
    done = asyncio.Event()
    calls = 0

    async with await connect(empty_database) as conn:
        await kernel.migrate(conn)

        async def call() -> None:
            nonlocal calls
            async with open_client(empty_database, actor="test") as client:
                while not done.is_set():
                    agent = await spawn_agent(client)
                    await client.find(str(agent.id))
                    await client.terminate(agent.id, reason="enough")
                    calls += 3

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(call())
            for _ in range(20):
                await kernel.migrate(conn)
            done.set()
        assert calls > 300
        left = await conn.execute("select 1 from pg_namespace where nspname ~ 'bough_api_'")
        assert await left.fetchone() is None


async def test_without_a_schema_a_call_says_how_to_get_one(empty_database: str) -> None:
    from bough.client.errors import BadConfiguration

    async with open_client(empty_database, actor="test") as client:
        with pytest.raises(BadConfiguration, match="run: bough db migrate"):
            await client.find("a")


async def test_a_program_cannot_write_a_table(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await spawn_agent(client)
    conn = await sessions.connection()
    await conn.execute("set role bough_program")
    for statement in (
        b"update bough.budgets set allocated = 1000000",
        b"delete from bough.events",
        b"select * from bough.agents",
        b"select bough_api._take('%s', '%s')" % (str(agent.id).encode(), str(uuid4()).encode()),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with conn.transaction():
                await conn.execute(statement)
