"""Brings a database to this program's schema, back, and tells where it stands.

All pending migrations and the functions are applied in one transaction under an advisory lock,
so any number of programs may migrate at once and a broken one leaves the database as it was.
Functions are made anew in a fresh schema that takes the old one's name at commit: calls that
are under way finish in the old schema, which goes once they have.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row

Connection = psycopg.AsyncConnection[Any]

_HERE = Path(__file__).parent
_LOCK = 0x626F7567  # "boug": one migration at a time per database
_DRAIN_S = 5.0  # how long calls in the old functions may take before they are left for next time

_MAKE_ROLE = """
do $$ begin
  create role bough_program nologin;
exception when duplicate_object or unique_violation or insufficient_privilege then null; end $$;
do $$ begin
  grant bough_program to current_user;
exception when others then null; end $$;
"""


class MigrationError(Exception):
    """The schema cannot be changed as asked: a file was edited, or the database is newer."""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration: known to this program, applied to the database, or both."""

    version: int
    name: str
    applied_at: datetime | None
    state: str
    """applied, pending, changed (the file differs from what was applied) or unknown."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, for which agent, with the numbers."""

    rule: str
    agent_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class _File:
    version: int
    name: str
    path: Path

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def rollback(self) -> Path:
        return self.path.with_name(self.path.stem + ".rollback.sql")


@dataclass(frozen=True, slots=True)
class _Applied:
    version: int
    name: str
    checksum: str
    applied_at: datetime


def _files(folder: Path) -> list[_File]:
    up = [p for p in folder.glob("[0-9]*.sql") if not p.stem.endswith(".rollback")]
    return sorted(
        (_File(int(p.stem.split("_")[0]), p.stem.partition("_")[2], p) for p in up),
        key=lambda f: f.version,
    )


def expected_version(folder: Path = _HERE / "migrations") -> int:
    """The schema version that this program needs."""
    return max(f.version for f in _files(folder))


def fingerprint() -> str:
    """Changes whenever a migration or a function of this program does."""
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*/*.sql")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


async def _applied(conn: Connection) -> dict[int, _Applied]:
    found = await (await conn.execute("select to_regclass('bough.schema_migrations')")).fetchone()
    if found is None or found[0] is None:
        return {}
    async with conn.cursor(row_factory=class_row(_Applied)) as cur:
        await cur.execute("select version, name, checksum, applied_at from bough.schema_migrations")
        return {row.version: row for row in await cur.fetchall()}


def _compare(files: list[_File], applied: dict[int, _Applied]) -> list[MigrationStatus]:
    known = {f.version: f for f in files}
    rows: list[MigrationStatus] = []
    for version in sorted(known.keys() | applied.keys()):
        file, row = known.get(version), applied.get(version)
        if file is None:
            state = "unknown"
        elif row is None:
            state = "pending"
        else:
            state = "applied" if row.checksum == file.checksum else "changed"
        name = file.name if file else row.name if row else ""
        rows.append(MigrationStatus(version, name, row.applied_at if row else None, state))
    return rows


def _refuse_broken(rows: list[MigrationStatus]) -> None:
    for row in rows:
        title = f"migration {row.version:03} {row.name}"
        if row.state == "changed":
            raise MigrationError(
                f"{title} was edited after it was applied; restore the file and put the change "
                "into a new migration"
            )
        if row.state == "unknown":
            raise MigrationError(
                f"the database has {title}, which this program does not know; upgrade bough"
            )


def _code_files(code: Path) -> list[bytes]:
    """The function files in the order they are loaded; grants name all others, so come last."""
    paths = sorted(code.glob("*.sql"), key=lambda p: (p.name == "grants.sql", p.name))
    return [p.read_bytes() for p in paths]


@asynccontextmanager
async def _alone(conn: Connection) -> AsyncGenerator[None]:
    """One migration at a time; others wait in line. Goes with the connection if we die."""
    await conn.execute("select pg_advisory_lock(%s)", (_LOCK,))
    try:
        yield
    finally:
        if not conn.closed:
            await conn.execute("select pg_advisory_unlock(%s)", (_LOCK,))


async def status(conn: Connection, *, folder: Path = _HERE / "migrations") -> list[MigrationStatus]:
    """Where each migration stands, oldest first; reads only."""
    return _compare(_files(folder), await _applied(conn))


async def migrate(
    conn: Connection,
    *,
    folder: Path = _HERE / "migrations",
    code: Path = _HERE / "code",
    only_if_needed: bool = False,
) -> list[int]:
    """Apply what is pending and make the functions anew; the versions applied.

    `conn` must be in autocommit mode and allowed to create schemas. With `only_if_needed`,
    functions that are current already stay. Raises MigrationError; then nothing has changed.
    """
    functions = _code_files(code)
    checksum = hashlib.sha256(b"".join(functions)).hexdigest()
    async with _alone(conn):
        applied = await _applied(conn)
        files = _files(folder)
        _refuse_broken(_compare(files, applied))
        pending = [f for f in files if f.version not in applied]
        if only_if_needed and not pending and await _current_code(conn) == checksum:
            return []
        async with conn.transaction():
            # A table in use by a long query must not make every other caller queue behind us.
            await conn.execute("set local lock_timeout = '10s'")
            for file in pending:
                await conn.execute(file.path.read_bytes())
                await conn.execute(
                    "insert into bough.schema_migrations (version, name, checksum)"
                    " values (%s, %s, %s)",
                    (file.version, file.name, file.checksum),
                )
            await _apply_code(conn, functions, checksum)
        await _drop_replaced_code(conn)
        return [f.version for f in pending]


async def _current_code(conn: Connection) -> str | None:
    row = await (
        await conn.execute(
            "select obj_description(oid, 'pg_namespace') from pg_namespace"
            " where nspname = 'bough_api'"
        )
    ).fetchone()
    return str(row[0]).rpartition(" ")[2] if row else None


async def _apply_code(conn: Connection, functions: list[bytes], checksum: str) -> None:
    await conn.execute("drop schema if exists bough_api_replaced cascade")
    if await _current_code(conn) is not None:
        await conn.execute("alter schema bough_api rename to bough_api_replaced")
    await conn.execute("create schema bough_api")
    await conn.execute(_MAKE_ROLE.encode())
    role = await conn.execute("select 1 from pg_roles where rolname = 'bough_program'")
    granted = functions if await role.fetchone() else functions[:-1]
    for file in granted:
        await conn.execute(file)
    # A comment takes no parameters; the checksum is ours and hexadecimal.
    comment = f"comment on schema bough_api is 'What programs call; code {checksum}'"
    await conn.execute(comment.encode())


async def _drop_replaced_code(conn: Connection) -> None:
    """Drop the old functions once every transaction that may still call them has ended."""
    started = await (await conn.execute("select clock_timestamp()")).fetchone()
    deadline = asyncio.get_running_loop().time() + _DRAIN_S
    while asyncio.get_running_loop().time() < deadline:
        busy = await conn.execute(
            "select 1 from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and xact_start < %s"
            " and wait_event is distinct from 'advisory' limit 1",
            started,
        )
        if await busy.fetchone() is None:
            await conn.execute("drop schema if exists bough_api_replaced cascade")
            return
        await asyncio.sleep(0.02)


async def rollback(conn: Connection, *, to: int, folder: Path = _HERE / "migrations") -> list[int]:
    """Take back every migration above version `to` (0: all), newest first; their versions.

    The functions go as well: an older schema has other functions. Raises MigrationError when a
    file was edited or has no rollback; then nothing has changed.
    """
    async with _alone(conn), conn.transaction():
        await conn.execute("set local lock_timeout = '10s'")
        applied = await _applied(conn)
        if to < 0 or (to > 0 and to not in applied):
            newest = max(applied, default=0)
            raise MigrationError(f"there is no version {to} to go back to; applied is {newest}")
        files = _files(folder)
        _refuse_broken(_compare(files, applied))
        undone = [f for f in reversed(files) if f.version in applied and f.version > to]
        if undone:
            await conn.execute("drop schema if exists bough_api_replaced cascade")
            await conn.execute("drop schema if exists bough_api cascade")
        for file in undone:
            if not file.rollback.exists():
                raise MigrationError(f"migration {file.version:03} has no {file.rollback.name}")
            await conn.execute(file.rollback.read_bytes())
            if file.version > 1:
                await conn.execute(
                    "delete from bough.schema_migrations where version = %s", (file.version,)
                )
    return [f.version for f in undone]


async def verify(conn: Connection) -> list[Violation]:
    """Every rule that does not hold in the database; an empty list is proof that all do."""
    cur = await conn.execute("select rule, agent_id, detail from bough_api.verify()")
    return [Violation(str(r), str(a), str(d)) for r, a, d in await cur.fetchall()]
