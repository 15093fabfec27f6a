"""A fresh database on an embedded server, or on BOUGH_TEST_DATABASE_URL, for one run."""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bough import kernel
from bough.client import embedded


@asynccontextmanager
async def database() -> AsyncGenerator[str]:
    """A migrated database, dropped afterwards."""
    home = None
    server = os.environ.get("BOUGH_TEST_DATABASE_URL")
    if server is None:
        home = Path(tempfile.mkdtemp(prefix="bough-bench-", dir="/tmp"))
        home.chmod(0o755)
        server = (await embedded.start(home)).dsn
    name = f"bough_bench_{os.getpid()}"
    try:
        async with await psycopg.AsyncConnection[Any].connect(server, autocommit=True) as admin:
            await admin.execute(f"create database {name}".encode())
            try:
                dsn = make_conninfo(server, dbname=name)
                async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
                    await kernel.migrate(conn)
                yield dsn
            finally:
                await admin.execute(f"drop database {name} with (force)".encode())
    finally:
        if home:
            await embedded.stop(home)
            shutil.rmtree(home, ignore_errors=True)
