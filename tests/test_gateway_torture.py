"""Random calls, hang-ups, ends of agents and kills of the gateway: nothing is unaccounted.

`make gateway-torture` makes ten thousand of them.
"""

from collections.abc import AsyncIterator

import pytest
from conftest import fresh_database
from psycopg import AsyncConnection

from bench.gateway_torture import judged, run
from bough import kernel as bough_kernel


@pytest.fixture
async def own_database(server: str) -> AsyncIterator[str]:
    async with fresh_database(server) as dsn:
        async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
            await bough_kernel.migrate(conn)
        yield dsn


async def test_every_call_is_charged_as_billed_or_in_full(own_database: str) -> None:
    scene, rows = await run(own_database, 400, 2, 7)
    counts, worst = judged(scene, rows)
    assert worst == 0
    assert not [what for what in counts if what.startswith("B")]
    assert sum(n for what, n in counts.items() if what.startswith("exactly")) > 150
    for what in ("program hung up", "answered 200", "answered 429", "cut"):
        assert scene.seen[what] > 3, scene.seen
