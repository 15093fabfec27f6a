"""A hint is sent when somebody listens and only then, and is never needed to be right."""

import asyncio
from uuid import UUID

from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import BOUND_S, session

from bough.client.caller import Connection
from bough.client.hints import QUEUE_CHANNEL, listening, runner_channel, tree_channel

END = "bough_end_of_test"


class Ear:
    """A connection that listens without telling the kernel so."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def listen(self, *channels: str) -> None:
        await self._conn.set_autocommit(True)
        for channel in (*channels, END):
            await self._conn.execute(f'listen "{channel}"'.encode())

    async def heard(self) -> list[str]:
        """What came so far; notifications keep their order, so an end mark is proof."""
        await self._conn.execute("select pg_notify(%s, '')", (END,))
        channels: list[str] = []
        async for hint in self._conn.notifies(timeout=BOUND_S):
            if hint.channel == END:
                return channels
            channels.append(hint.channel)
        raise AssertionError(f"no end mark within {BOUND_S} s")


async def ear(sessions: Sessions, *channels: str) -> Ear:
    made = Ear(await sessions.connection())
    await made.listen(*channels)
    return made


async def test_a_listener_is_woken_by_every_change_in_its_tree(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await run_agent(client, repo_path="/r", base_commit="a" * 40)
    a, channel = agent.id, tree_channel(agent.id)
    async with listening(sessions.dsn, channel) as hints:
        for change in (
            lambda: client.log(a, epoch=1, streams=["stdout"], contents=["x"]),
            lambda: client.open_workspace(a, epoch=1, path="/w", branch="b", base_commit="a" * 40),
            lambda: spawn_agent(client, a, budget=1),
            lambda: client.pause(a, reason="x"),
            lambda: client.resume(a),
            lambda: client.terminate(a, reason="x"),
        ):
            await change()
            assert await hints.wait(BOUND_S) == channel
            while await hints.wait(0.01):
                pass


async def test_nobody_is_woken_by_a_change_in_another_tree(sessions: Sessions) -> None:
    client = await sessions.client()
    mine, other = await spawn_agent(client), await spawn_agent(client)
    async with listening(sessions.dsn, tree_channel(mine.id)) as hints:
        await client.terminate(other.id, reason="x")
        await client.terminate(mine.id, reason="x")
        assert await hints.wait(BOUND_S) == tree_channel(mine.id)
        assert await hints.wait(0.05) is None


async def test_no_hint_is_sent_while_nobody_says_that_it_listens(sessions: Sessions) -> None:
    client = await sessions.client()
    agent = await spawn_agent(client)
    channels = (tree_channel(agent.id), QUEUE_CHANNEL)
    deaf = await ear(sessions, *channels)
    await spawn_agent(client, agent.id, budget=1)
    assert await deaf.heard() == []
    async with listening(sessions.dsn, *channels):
        await spawn_agent(client, agent.id, budget=1)
    assert sorted(await deaf.heard()) == sorted(channels)
    await spawn_agent(client, agent.id, budget=1)
    assert await deaf.heard() == []


async def test_a_listener_that_died_is_forgotten_by_the_clock(sessions: Sessions) -> None:
    client = await session(sessions)
    agent = await spawn_agent(client)
    channel = tree_channel(agent.id)
    deaf = await ear(sessions, channel)
    await client.value("select bough_api.listen(%s, 'died', 60)", channel)
    for clock, hints in ((59, [channel]), (61, [])):
        await client.set_clock(clock)
        await spawn_agent(client, agent.id, budget=1)
        await client.conn.commit()
        assert await deaf.heard() == hints
    await client.set_clock(60 + 61)
    await client.value("select bough_api.listen('other', 'other', 60)")
    assert await client.value("select array_agg(listener) from bough.listeners") == ["other"]


async def test_listening_never_waits_for_another_listener(sessions: Sessions) -> None:
    """Two runners that tidy up the same dead listeners must not wait for each other."""
    client = await sessions.client()
    await enroll_runner(client)
    one, two = await session(sessions), await session(sessions)
    for n in range(3):
        await one.value("select bough_api.listen('c', %s, 1)", f"dead {n}")
    await one.conn.commit()
    for kernel in (one, two):
        await kernel.set_clock(120)
    await one.value("select bough_api.listen('c', 'one', 60)")
    listen = two.value("select bough_api.listen('c', 'two', 60)")
    await asyncio.wait_for(listen, BOUND_S / 4)
    await one.conn.commit()
    await two.conn.commit()
    left = await two.value(
        "select array_agg(listener order by listener) from bough.listeners where channel = 'c'"
    )
    assert left == ["one", "two"]


async def wakes(kernel: Kernel) -> list[str]:
    """Which kinds of channel have a registered listener."""
    cur = await kernel.conn.execute("select channel from bough.listeners order by 1")
    return [channel for (channel,) in await cur.fetchall()]


async def test_the_queue_is_heard_by_idle_runners_only(sessions: Sessions) -> None:
    client = await session(sessions)
    runner = await enroll_runner(client)
    own = runner_channel(runner)
    assert await wakes(client) == [own]
    await client.heartbeat(runner, wants_work=True)
    assert await wakes(client) == [QUEUE_CHANNEL, own]
    await client.heartbeat(runner, wants_work=False)
    assert await wakes(client) == [own]
    await client.heartbeat(runner, wants_work=True)
    await client.retire(runner)
    assert await wakes(client) == []


async def test_a_runner_hears_what_others_do_to_its_agents_and_what_is_kept_for_it(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    runner, other = await enroll_runner(client), await enroll_runner(client)
    await client.heartbeat(other, wants_work=True)
    mine, theirs = runner_channel(runner), runner_channel(other)
    listener = await ear(sessions, mine, theirs, QUEUE_CHANNEL)
    agent = await spawn_agent(client, runner_id=runner)
    assert await listener.heard() == [mine]
    await client.claim(runner, slots=1)
    await listener.heard()
    await client.pause(agent.id, reason="x")
    assert await listener.heard() == [mine]
    await client.terminate(agent.id, reason="x")
    assert await listener.heard() == [mine]


async def moves_the_line(client: Kernel, listener: Ear, agent_id: UUID) -> bool:
    await client.terminate(agent_id, reason="x")
    await client.conn.commit()
    return QUEUE_CHANNEL in await listener.heard()


async def test_the_line_is_told_when_a_place_under_a_running_limit_comes_free(
    sessions: Sessions,
) -> None:
    client = await session(sessions)
    runner = await enroll_runner(client)
    await client.heartbeat(runner, wants_work=True)
    listener = await ear(sessions, QUEUE_CHANNEL)
    limited = await spawn_agent(client, max_running=2)
    child = await spawn_agent(client, limited.id, budget=1)
    free = await spawn_agent(client)
    await client.claim(runner, slots=9)
    await client.conn.commit()
    assert await listener.heard() == [QUEUE_CHANNEL]
    assert await moves_the_line(client, listener, child.id)
    assert not await moves_the_line(client, listener, free.id)


async def test_a_listener_without_a_server_becomes_a_clock(sessions: Sessions) -> None:
    async with listening("host=/nonexistent dbname=none", "bough_x") as hints:
        assert await hints.wait(0.05) is None
    client = await sessions.client()
    agent = await spawn_agent(client)
    channel = tree_channel(agent.id)
    async with listening(sessions.dsn, channel) as hints:
        killer = await sessions.connection()
        await killer.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and query like 'select bough_api.listen(%%'",
        )
        assert await hints.wait(1.0) is None
        async with asyncio.timeout(BOUND_S):
            while not await hints.wait(0.2):
                await client.report(agent.id, epoch=0, progress=None, note="anybody there?")
                await spawn_agent(client, agent.id, budget=1)
