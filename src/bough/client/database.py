"""Where the database is and how programs connect to it.

An address from `--database` or BOUGH_DATABASE_URL, else the embedded server, started and migrated
when needed. A program acts as the role bough_program where the server allows it: then it can call
functions and read views but write no table. Raises ServerUnavailable and BadConfiguration.
"""

import getpass
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from bough import kernel
from bough.client import embedded
from bough.client.caller import Connection
from bough.client.errors import BadConfiguration, ServerUnavailable, translated
from bough.client.runner_calls import RunnerClient

CONNECT_TIMEOUT_S = 10
_STAMP = "bough-schema"


def external_address(chosen: str | None = None) -> str | None:
    """The address that was given, by option or BOUGH_DATABASE_URL; None: the embedded server."""
    return chosen or os.environ.get("BOUGH_DATABASE_URL") or None


async def address(chosen: str | None = None) -> str:
    """A connection string that works now; starts and migrates the embedded server if need be."""
    given = external_address(chosen)
    if given:
        return given
    try:
        server = await embedded.start()
    except embedded.EmbeddedError as error:
        raise ServerUnavailable(str(error)) from error
    await _migrate_embedded(server)
    return server.dsn


async def _migrate_embedded(server: embedded.EmbeddedServer) -> None:
    # The stamp saves every command a look into the catalogue.
    stamp = server.data_dir / _STAMP
    wanted = kernel.fingerprint()
    if _read(stamp) == wanted:
        return
    async with administer(server.dsn) as conn:
        try:
            await kernel.migrate(conn, only_if_needed=True)
        except kernel.MigrationError as error:
            raise BadConfiguration(str(error)) from error
    stamp.write_text(wanted)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def forget_stamp() -> None:
    """Make the next command look at the embedded schema again, after a rollback."""
    (embedded.status().data_dir / _STAMP).unlink(missing_ok=True)


@asynccontextmanager
async def administer(dsn: str) -> AsyncGenerator[Connection]:
    """A connection as the user itself, for migrations and checks."""
    with translated():
        conn = await connect(dsn)
    async with conn:
        yield conn


async def connect(dsn: str) -> Connection:
    """A plain autocommit connection; raises psycopg errors, BadConfiguration for a bad address."""
    try:
        full = make_conninfo(dsn, connect_timeout=CONNECT_TIMEOUT_S, application_name="bough")
    except psycopg.ProgrammingError as error:
        raise BadConfiguration(
            f"the database address is not understood ({str(error).strip()}); "
            "use postgresql://user@host/database"
        ) from error
    return await psycopg.AsyncConnection.connect(full, autocommit=True)


def operator() -> str:
    """Who the person at this terminal is, for the audit log."""
    try:
        return f"operator:{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"operator:{os.getuid()}"


async def _prepare(conn: Connection, actor: str) -> None:
    try:
        await conn.execute(
            "select set_config('bough.actor', %s, false),"
            " set_config('role', 'bough_program', false)",
            (actor,),
        )
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
        # The server did not let us make or take the role; `bough doctor` says so.
        await conn.execute("select set_config('bough.actor', %s, false)", (actor,))


@asynccontextmanager
async def open_client(
    dsn: str, *, actor: str, pooled: int | None = None
) -> AsyncGenerator[RunnerClient]:
    """A client over one connection, or over a pool of at most `pooled`.

    One connection serves one call after the other; a pool is for programs with many tasks and
    replaces connections that a restart of the server has broken.
    """
    if pooled is None:
        with translated():
            conn = await connect(dsn)
            await _prepare(conn, actor)

        @asynccontextmanager
        async def lend() -> AsyncGenerator[Connection]:
            yield conn

        async with conn:
            yield RunnerClient(lend)
        return
    async with _pooled(dsn, actor, pooled) as client:
        yield client


@asynccontextmanager
async def _pooled(dsn: str, actor: str, size: int) -> AsyncGenerator[RunnerClient]:
    from psycopg_pool import AsyncConnectionPool, PoolTimeout

    # The pool would only say that time is up; a first connection says what is wrong.
    with translated():
        await (await connect(dsn)).close()

    async def configure(conn: Connection) -> None:
        await _prepare(conn, actor)

    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        make_conninfo(dsn, application_name="bough"),
        connection_class=Connection,
        min_size=1,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        kwargs={"autocommit": True},
        configure=configure,
        open=False,
    )

    @asynccontextmanager
    async def borrow() -> AsyncGenerator[Connection]:
        try:
            async with pool.connection() as conn:
                yield conn
        except PoolTimeout as error:
            raise ServerUnavailable(
                f"PostgreSQL gave no connection within {CONNECT_TIMEOUT_S} s; see: bough doctor"
            ) from error

    async with pool:
        yield RunnerClient(borrow)
