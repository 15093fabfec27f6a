"""Races made certain: the second session is known to wait for the first before the first goes on.

Nothing here sleeps for luck. `blocked` asks PostgreSQL whether a session waits for a lock and
fails after its bound, so a race that never happened is a red test and not a green one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from conftest import Kernel, Sessions

from bough.client.caller import Connection
from bough.client.errors import BoughError

BOUND_S = 20.0

Call = Callable[[Kernel], Awaitable[Any]]


async def session(sessions: Sessions) -> Kernel:
    """A client whose calls join one open transaction, until `conn.commit()`."""
    conn = await sessions.connection()
    await conn.execute("select 1")
    return Kernel(conn)


async def blocked(watcher: Connection, pid: int) -> None:
    """Return once the session `pid` waits for a lock; `watcher` must be in autocommit mode."""
    async with asyncio.timeout(BOUND_S):
        while True:
            cur = await watcher.execute(
                "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'",
                (pid,),
            )
            if await cur.fetchone():
                return
            await asyncio.sleep(0)


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call gave: its result, or the error that Bough refused it with."""
    try:
        return await call
    except BoughError as error:
        return error


async def collide(sessions: Sessions, first: Call, second: Call) -> tuple[Any, Any]:
    """Let `second` run into the open transaction of `first`; what both gave, once both ended."""
    watcher = await sessions.connection()
    await watcher.set_autocommit(True)
    one, two = await session(sessions), await session(sessions)
    won = await outcome(first(one))
    waiting = asyncio.create_task(_call_and_commit(two, second))
    try:
        await blocked(watcher, two.conn.info.backend_pid)
    finally:
        await one.conn.commit()
    return won, await waiting


async def _call_and_commit(kernel: Kernel, call: Call) -> Any:
    result = await outcome(call(kernel))
    await kernel.conn.commit()
    return result


async def assert_sound(kernel: Kernel) -> None:
    """Nothing that verify knows is broken; it covers life under an ended parent as well."""
    cur = await kernel.conn.execute("select rule, agent_id, detail from bough_api.verify()")
    assert await cur.fetchall() == []
