"""Agents that run or wait, for tests of waiting: made, parked, and what woke them."""

from typing import Any
from uuid import UUID, uuid4

from conftest import Kernel, spawn_agent

from bough.client.runner_calls import RunnerClient

LONG_S = 100_000


async def start(
    client: RunnerClient, runner: UUID, parent: UUID | None = None, *, budget: int = 100
) -> UUID:
    """An agent that this runner runs under epoch 1."""
    agent = await spawn_agent(client, parent, budget=budget, runner_id=runner)
    claimed = await client.claim(runner, slots=1000, root_id=agent.root_id)
    assert agent.id in [c.id for c in claimed]
    return agent.id


async def park(client: RunnerClient, agent_id: UUID, *, epoch: int = 1, **what: Any) -> None:
    """Park an agent, which has nothing of it yet."""
    answer = await client.park(agent_id, epoch=epoch, **what)
    assert (answer.parked, answer.ready) == (True, None)


async def woken_by(kernel: Kernel, agent_id: UUID) -> str | None:
    """What has woken a parked agent, or None: nothing has."""
    cur = await kernel.conn.execute(
        "select a.status, w.woken_by from bough.waits w join bough.agents a on a.id = w.agent_id"
        " where w.agent_id = %s",
        (agent_id,),
    )
    [(status, by)] = await cur.fetchall()
    assert status == "waiting"
    return by


async def wait_is_gone(kernel: Kernel, agent_id: UUID) -> bool:
    """True when nothing is left of a wait."""
    left = "select count(*) from bough.waits where agent_id = %s"
    return await kernel.value(left, agent_id) == 0


async def ask(client: RunnerClient, agent_id: UUID, *, expires_s: int = 60) -> UUID:
    """An approval that this agent asks for."""
    key = uuid4()
    await client.request_approval(key, agent_id, epoch=1, question="May I?", expires_s=expires_s)
    return key
