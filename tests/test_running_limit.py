"""Above the limit of agents that may run at once a spawn waits in line, and the line moves."""

import asyncio
from uuid import UUID

from conftest import Kernel, Sessions, enroll_runner, spawn_agent


async def claim(kernel: Kernel, runner: UUID, slots: int = 20) -> list[UUID]:
    return [c.id for c in await kernel.claim(runner, slots=slots)]


async def test_no_more_run_than_allowed_and_the_next_starts_when_one_ends(
    kernel: Kernel,
) -> None:
    root = await spawn_agent(kernel, max_running=3)
    children = [(await spawn_agent(kernel, root.id, budget=10)).id for _ in range(4)]
    runner = await enroll_runner(kernel)
    assert await claim(kernel, runner) == [root.id, *children[:2]]
    assert await claim(kernel, runner) == []
    await kernel.complete(children[0], epoch=1, result={})
    assert await claim(kernel, runner) == [children[2]]
    await kernel.terminate(children[1], reason="x")
    await kernel.terminate(children[2], reason="x")
    assert await claim(kernel, runner) == [children[3]]


async def test_the_line_of_one_tree_does_not_hold_up_another(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_running=1)
    for _ in range(30):
        await spawn_agent(kernel, root.id, budget=1)
    other = await spawn_agent(kernel)
    runner = await enroll_runner(kernel)
    assert await claim(kernel, runner, slots=3) == [root.id, other.id]


async def test_the_narrowest_limit_above_an_agent_holds(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_running=10)
    narrow = await spawn_agent(kernel, root.id, budget=100, max_running=1)
    below = await spawn_agent(kernel, narrow.id, budget=1)
    beside = await spawn_agent(kernel, root.id, budget=1)
    runner = await enroll_runner(kernel)
    assert await claim(kernel, runner) == [root.id, narrow.id, beside.id]
    assert (await kernel.show(below.id)).status == "created"


async def test_a_paused_agent_keeps_its_place_and_a_waiting_one_gives_it_up(
    kernel: Kernel,
) -> None:
    root = await spawn_agent(kernel, max_running=2)
    first, second, third = [(await spawn_agent(kernel, root.id, budget=1)).id for _ in range(3)]
    runner = await enroll_runner(kernel)
    assert await claim(kernel, runner) == [root.id, first]
    await kernel.pause(first, reason="x")
    assert await claim(kernel, runner) == []
    await kernel.resume(first)
    await kernel.conn.execute("update bough.agents set status = 'waiting' where id = %s", (first,))
    assert await claim(kernel, runner) == [second]
    assert (await kernel.show(third)).status == "created"


async def test_what_a_dead_runner_left_keeps_its_place_under_the_limit(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, max_running=2)
    children = [(await spawn_agent(kernel, root.id, budget=1)).id for _ in range(3)]
    await claim(kernel, await enroll_runner(kernel))
    await kernel.set_clock(16)
    heir = await enroll_runner(kernel)
    assert set(await claim(kernel, heir)) == {root.id, children[0]}


async def test_claimers_at_once_never_start_more_than_the_limit_allows(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=4)
    root = await spawn_agent(client, max_running=3)
    for _ in range(12):
        await spawn_agent(client, root.id, budget=1)
    runners = [await enroll_runner(client) for _ in range(4)]
    most = 0
    while len(await client.ps()) > 1:
        await asyncio.gather(*(client.claim(r, slots=2) for r in runners))
        running = [a for a in await client.ps() if a.status == "running"]
        most = max(most, len(running))
        assert 1 < len(running) <= 3
        await asyncio.gather(
            *(client.complete(a.id, epoch=1, result={}) for a in running if a.id != root.id)
        )
    assert most == 3


async def test_an_open_claim_under_a_limit_makes_another_pass_by_and_not_wait(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    root = await spawn_agent(client, max_running=2)
    child = await spawn_agent(client, root.id, budget=1)
    one, two = await enroll_runner(client), await enroll_runner(client)
    holder = Kernel(await sessions.connection())
    await holder.conn.execute("select 1")
    assert await claim(holder, one, slots=1) == [root.id]
    assert await asyncio.wait_for(client.claim(two, slots=5), 10) == []
    await holder.conn.commit()
    assert [c.id for c in await client.claim(two, slots=5)] == [child.id]
