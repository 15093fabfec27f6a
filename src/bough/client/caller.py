"""How a call reaches the kernel: over a borrowed connection, one round trip, errors of ours.

Every call is a transaction of its own, so nothing is held open between calls.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

from bough.client.errors import translated

Connection = psycopg.AsyncConnection[Any]
Opener = Callable[[], AbstractAsyncContextManager[Connection]]
Row = TypeVar("Row")


class Caller:
    """Calls the kernel over connections that `opener` lends; safe for many tasks at once."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    async def _all(
        self, row: type[Row], sql: LiteralString, values: dict[str, Any] | None = None
    ) -> list[Row]:
        with translated():
            async with self._opener() as conn:
                cur = conn.cursor(row_factory=class_row(row))
                await cur.execute(sql, values)
                return await cur.fetchall()

    async def _one(self, row: type[Row], sql: LiteralString, values: dict[str, Any]) -> Row:
        return (await self._all(row, sql, values))[0]

    async def _do(self, sql: LiteralString, values: dict[str, Any]) -> None:
        with translated():
            async with self._opener() as conn:
                await conn.execute(sql, values)
