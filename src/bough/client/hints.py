"""Being woken instead of asking again and again.

The kernel sends a hint (NOTIFY) on a channel only while somebody has said that it listens there.
A hint carries nothing: whoever is woken looks at the database. Hints may be lost, with the server
or the connection; `wait` then returns after its time-out, so a listener is never stuck.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from bough.client.caller import Connection
from bough.client.database import connect

_TTL_S = 60


class Waiter(Protocol):
    """Something that says when there may be news."""

    async def wait(self, timeout_s: float) -> str | None:
        """Return at the next hint, or after timeout_s seconds."""
        ...


Listen = Callable[..., AbstractAsyncContextManager[Waiter]]
"""How one listens on channels: over a connection, or through the runner."""


def tree_channel(root_id: UUID) -> str:
    """Where changes in one tree are announced."""
    return f"bough_tree_{root_id}"


def runner_channel(runner_id: UUID) -> str:
    """Where a runner hears what others did to its agents; its heart-beat keeps it open."""
    return f"bough_runner_{runner_id}"


def budget_channel(agent_id: UUID) -> str:
    """Where it is announced that tokens came back to an account, or that it changed."""
    return f"bough_budget_{agent_id}"


def mail_channel(agent_id: UUID) -> str:
    """Where it is announced that an agent got mail."""
    return f"bough_mail_{agent_id}"


OPERATOR_CHANNEL = "bough_operator"
"""Where it is announced that an agent wrote to the operator or asks for an approval."""

QUEUE_CHANNEL = "bough_queue"
"""Where runners hear of new work; the heart-beat of an idle runner keeps it open."""


class Hints:
    """A listener on some channels over a connection of its own."""

    def __init__(self, dsn: str, channels: Sequence[str], *, register: bool) -> None:
        self._dsn = dsn
        self._channels = channels
        self._register = register
        self._name = str(uuid4())
        self._conn: Connection | None = None
        self._renew_at = 0.0

    async def wait(self, timeout_s: float) -> str | None:
        """Return the channel of the next hint, or None after `timeout_s` seconds at most."""
        try:
            conn = await self._listening()
            async for hint in conn.notifies(timeout=timeout_s, stop_after=1):
                return hint.channel
        except (psycopg.Error, OSError):
            # The server went away: be a clock until it is back.
            await self._close()
            await asyncio.sleep(min(timeout_s, 1.0))
        return None

    async def _listening(self) -> Connection:
        if self._conn is None:
            self._conn = await connect(self._dsn)
            for channel in self._channels:
                await self._conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            self._renew_at = 0.0
        if self._register and time.monotonic() >= self._renew_at:
            for channel in self._channels:
                await self._conn.execute(
                    "select bough_api.listen(%s, %s, %s)", (channel, self._name, _TTL_S)
                )
            self._renew_at = time.monotonic() + _TTL_S / 3
        return self._conn

    async def _close(self) -> None:
        conn, self._conn = self._conn, None
        if conn:
            with contextlib.suppress(psycopg.Error, OSError):
                await conn.close()

    async def open(self) -> None:
        """Listen from now on; what happens before the first `wait` is not missed."""
        with contextlib.suppress(psycopg.Error, OSError):
            await self._listening()

    async def close(self) -> None:
        """Stop listening and tell the kernel, so that it stops sending."""
        if self._conn and self._register and not self._conn.closed:
            with contextlib.suppress(psycopg.Error, OSError):
                for channel in self._channels:
                    await self._conn.execute(
                        "select bough_api.listen(%s, %s, 0)", (channel, self._name)
                    )
        await self._close()


@asynccontextmanager
async def listening(dsn: str, *channels: str, register: bool = True) -> AsyncGenerator[Hints]:
    """Hints on `channels` while the block runs; runners register by their heart-beat instead."""
    hints = Hints(dsn, channels, register=register)
    await hints.open()
    try:
        yield hints
    finally:
        await hints.close()
