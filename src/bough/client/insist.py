"""Saying what must be said, however long the database is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bough.client.errors import ServerUnavailable

_PATIENCE_S = 600.0
Value = TypeVar("Value")


async def insist(call: Callable[[], Awaitable[Value]]) -> Value:
    """Call until PostgreSQL answers; gives up with ServerUnavailable after ten minutes."""
    delay_s = 0.1
    give_up_at = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        try:
            return await call()
        except ServerUnavailable:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, 5.0)
