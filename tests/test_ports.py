"""Ports are given to one agent at a time, in the database."""

import asyncio

import pytest
from conftest import Sessions, run_agent

from bough.client.errors import LimitReached, StaleLease
from bough.client.rows import Spawned

CANDIDATES = list(range(20_000, 20_020))


async def test_ten_agents_that_ask_at_once_for_the_same_candidates_share_none(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=10)
    agents = [await run_agent(client) for _ in range(10)]
    given = await asyncio.gather(
        *(
            client.take_ports(a.id, epoch=1, host="here", count=2, candidates=CANDIDATES)
            for a in agents
        )
    )
    assert sorted(row.port for rows in given for row in rows) == CANDIDATES
    elsewhere = await client.take_ports(
        agents[0].id, epoch=1, host="there", count=1, candidates=CANDIDATES
    )
    assert elsewhere[0].port == CANDIDATES[0]


async def test_an_agent_keeps_its_ports_until_it_ends_and_then_others_get_them(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    first, second = await run_agent(client), await run_agent(client)

    async def take(agent: Spawned, count: int, epoch: int = 1) -> list[int]:
        candidates = CANDIDATES[:3]
        rows = await client.take_ports(
            agent.id,
            epoch=epoch,
            host="here",
            count=count,
            candidates=candidates,
        )
        return [row.port for row in rows]

    mine = await take(first, 2)
    assert await take(first, 2) == mine
    with pytest.raises(LimitReached, match="asks for 2 ports and 1 are free on here"):
        await take(second, 2)
    with pytest.raises(StaleLease):
        await take(first, 2, epoch=2)
    assert len(await take(second, 1)) == 1
    await client.complete(first.id, epoch=1, result={})
    assert len(await take(second, 3)) == 3
