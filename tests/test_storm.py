"""Thousands of calls at once on one tree: no deadlock, the books balance, the tree is whole."""

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
from conftest import Kernel, Sessions, enroll_runner, spawn_agent
from locks import assert_sound, outcome

from bough.client.errors import AgentEnded, BoughError, BudgetExceeded, StaleLease
from bough.client.runner_calls import RunnerClient

SESSIONS, OPERATIONS, DEPTH, BUDGET = 8, 2_400, 4, 8
EXPECTED = (AgentEnded, BudgetExceeded, StaleLease)


class Storm:
    """One tree that many sessions work on; `seen` counts what came of the calls."""

    def __init__(self, root: UUID, runner: UUID) -> None:
        self.root, self.runner = root, runner
        self.agents = [(root, 0)]
        self.left = OPERATIONS
        self.seen: Counter[str] = Counter()

    async def look(self, client: RunnerClient) -> None:
        """Forget the ended: calls on them are refused at once and raise no storm."""
        tree = await client.tree(self.root)
        self.agents = [(a.id, a.depth_level) for a in tree if not a.has_ended]

    async def act(self, client: RunnerClient, rng: random.Random) -> str:
        """One random call; its name. No call ends the root."""
        agent_id, level = rng.choice(self.agents)
        acts = ["claim", "pause", "resume", "complete", "fail", "terminate"]
        act = rng.choices(acts, [3, 1, 2, 3, 2, 1] if level else [3, 1, 2, 0, 0, 0])[0]
        if level < DEPTH and rng.random() < 0.7:
            act = "spawn"
            child = await spawn_agent(client, agent_id, budget=10 ** (BUDGET - 1 - level))
            self.agents.append((child.id, level + 1))
        elif act == "claim":
            await client.claim(self.runner, slots=4, root_id=self.root)
        elif act == "complete":
            await client.complete(agent_id, epoch=1, result={})
        elif act == "fail":
            await client.fail(agent_id, epoch=1, code="x", message="x", result=None)
        elif act == "terminate":
            await client.terminate(agent_id, reason="storm")
        elif act == "pause":
            await client.pause(agent_id, reason="storm")
        else:
            await client.resume(agent_id)
        return act

    async def blow(self, client: RunnerClient, seed: int) -> None:
        rng = random.Random(seed)
        while self.left > 0:
            self.left -= 1
            if self.left % 10 == 0:
                await self.look(client)
            answer: Any = await outcome(self.act(client, rng))
            if isinstance(answer, BoughError):
                cause = answer.__cause__
                state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
                # A deadlock (40P01) would arrive as ServerUnavailable.
                assert isinstance(answer, EXPECTED), (type(answer), answer, state)
                self.seen["refused"] += 1
            else:
                self.seen[answer] += 1


async def test_a_storm_of_eight_sessions_on_one_tree_leaves_it_sound(sessions: Sessions) -> None:
    clients = [await sessions.client() for _ in range(SESSIONS)]
    runner = await enroll_runner(clients[0], lease_s=600)
    root = await spawn_agent(clients[0], budget=10**BUDGET, max_depth=DEPTH, max_running=50)
    storm = Storm(root.id, runner)
    async with asyncio.TaskGroup() as group:
        for seed, client in enumerate(clients):
            group.create_task(storm.blow(client, seed))
    kernel = Kernel(await sessions.connection())
    await assert_sound(kernel)
    assert sum(storm.seen.values()) == OPERATIONS
    # Without these the storm was a breeze.
    assert storm.seen["refused"] < OPERATIONS / 2, storm.seen
    for act in ("spawn", "claim", "complete", "fail", "terminate", "pause", "resume", "refused"):
        assert storm.seen[act] > 10, storm.seen
    assert {a.depth_level for a in await kernel.tree(root.id)} == set(range(DEPTH + 1))
    await clients[0].terminate(root.id, reason="calm")
    assert await clients[0].ps() == []
    await assert_sound(Kernel(await sessions.connection()))


async def test_complete_racing_terminate_two_hundred_times_is_decided_once_each_time(
    sessions: Sessions,
) -> None:
    """Others were wrong 88 times of 200, with 45 deadlocks."""
    one, two = await sessions.client(), await sessions.client()
    runner = await enroll_runner(one, lease_s=600)
    root = await spawn_agent(one, budget=1_000_000)
    winners: Counter[str] = Counter()
    for n in range(200):
        child = await spawn_agent(one, root.id, budget=100, runner_id=runner)
        await one.claim(runner, slots=9)
        calls = [
            outcome(one.complete(child.id, epoch=1, result={"n": n})),
            outcome(two.terminate(child.id, reason="raced")),
        ]
        answers = await asyncio.gather(*(calls if n % 2 else reversed(calls)))
        refused = [a for a in answers if isinstance(a, BoughError)]
        assert len(refused) == 1, answers
        assert isinstance(refused[0], AgentEnded)
        shown = await one.show(child.id)
        assert shown.result == ({"n": n} if shown.status == "completed" else None)
        winners[shown.status] += 1
    assert (await one.show(root.id)).reserved == 0
    assert winners.keys() == {"completed", "terminated"}, winners
    await assert_sound(Kernel(await sessions.connection()))


async def test_complete_racing_a_claim_by_another_runner_two_hundred_times_is_decided_once(
    sessions: Sessions,
) -> None:
    one, two = await sessions.client(), await sessions.client()
    root = await spawn_agent(one, budget=1_000_000)
    winners: Counter[str] = Counter()
    heir = await enroll_runner(two, lease_s=600)
    await two.claim(heir, slots=1)
    for n in range(200):
        lost = await enroll_runner(one, lease_s=600)
        child = await spawn_agent(one, root.id, budget=100, runner_id=lost)
        await one.claim(lost, slots=1, root_id=root.id)
        await one.retire(lost)
        claim = asyncio.create_task(two.claim(heir, slots=1)) if n % 2 else None
        end = asyncio.create_task(outcome(one.complete(child.id, epoch=1, result={"by": "lost"})))
        if claim is None:
            # Its request is on the way before that of the claim.
            await asyncio.sleep(0)
        taken = await (claim or two.claim(heir, slots=1))
        finished = await end
        shown = await one.show(child.id)
        if taken:
            assert (shown.status, shown.lease_epoch, shown.runner_id) == ("running", 2, heir)
            assert isinstance(finished, StaleLease)
            await two.complete(child.id, epoch=2, result={"by": "heir"})
        else:
            assert finished is None
            assert (shown.status, shown.result) == ("completed", {"by": "lost"})
        winners["heir" if taken else "lost"] += 1
    assert winners.keys() == {"lost", "heir"}, winners
    assert (await one.show(root.id)).reserved == 0
    await assert_sound(Kernel(await sessions.connection()))
