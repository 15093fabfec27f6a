"""Saying what must be said, however long the database is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bough.client.errors import IllegalTransition, ServerUnavailable
from bough.client.runner_calls import RunnerClient

_PATIENCE_S = 600.0
_PAUSED_S = 0.2
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


async def parked(
    client: RunnerClient, conditions: dict[str, Any], given_up: Callable[[], bool]
) -> bool:
    """Park an agent; False when what it waits for has happened already. Raises StaleLease.

    One that was paused in the same moment parks when it goes on. One whose parking was answered
    to nobody waits already: this goes on until it is woken, and the lease is another.
    """
    while True:
        try:
            return (await insist(lambda: client.park(**conditions))).parked
        except IllegalTransition:
            if given_up():
                return True
        await asyncio.sleep(_PAUSED_S)
