"""Whatever is done in whatever order, the books balance after every step.

A model of a few lines says what every account must hold; it knows nothing of triggers.
"""

import random
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, enroll_runner, spawn_agent
from locks import assert_sound

from bough.client.budgets import Usage
from bough.client.errors import BudgetExceeded

STEPS = 90


@dataclass(slots=True)
class Account:
    """One agent as the model sees it."""

    parent: UUID | None
    allocated: int
    own: int = 0
    alive: bool = True
    children: list[UUID] = field(default_factory=list[UUID])


class Books:
    """The model: what each agent used itself; all else follows."""

    def __init__(self) -> None:
        self.accounts: dict[UUID, Account] = {}

    def used(self, agent_id: UUID) -> int:
        """Own use and that of everything below which has ended."""
        account = self.accounts[agent_id]
        ended = [c for c in account.children if not self.accounts[c].alive]
        return account.own + sum(self.used(c) for c in ended)

    def reserved(self, agent_id: UUID) -> int:
        children = [self.accounts[c] for c in self.accounts[agent_id].children]
        return sum(c.allocated for c in children if c.alive)

    def available(self, agent_id: UUID) -> int:
        return self.accounts[agent_id].allocated - self.used(agent_id) - self.reserved(agent_id)

    def subtree(self, agent_id: UUID) -> int:
        account = self.accounts[agent_id]
        return account.own + sum(self.subtree(c) for c in account.children)

    def open(self, agent_id: UUID, parent: UUID | None, tokens: int) -> None:
        self.accounts[agent_id] = Account(parent, tokens)
        if parent:
            self.accounts[parent].children.append(agent_id)

    def close(self, agent_id: UUID) -> None:
        self.accounts[agent_id].alive = False
        for child in self.accounts[agent_id].children:
            self.close(child)

    def living(self) -> list[UUID]:
        return [i for i, a in self.accounts.items() if a.alive]


class Walk:
    """One random walk over a tree, checked after each step."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        self.kernel = kernel
        self.rng = random.Random(seed)
        self.books = Books()
        self.refused = 0

    async def begin(self) -> None:
        self.runner = await enroll_runner(self.kernel)
        self.root = (await spawn_agent(self.kernel, budget=1_000_000)).id
        self.books.open(self.root, None, 1_000_000)

    async def step(self) -> None:
        chosen = self.rng.choice(self.books.living())
        act = self.rng.choice(
            [self.spawn] * 6 + [self.spend] * 4 + [self.end] * 2 + [self.terminate, self.hold]
        )
        await act(chosen)

    async def spawn(self, parent: UUID) -> None:
        # Mostly what fits, so that the tree grows; now and then more than there is.
        part = self.rng.choice([4, 4, 4, 1])
        tokens = self.rng.randint(1, max(2, self.books.accounts[parent].allocated // part))
        try:
            child = await spawn_agent(self.kernel, parent, budget=tokens)
        except BudgetExceeded:
            assert tokens > self.books.available(parent)
            self.refused += 1
            return
        assert tokens <= self.books.available(parent)
        self.books.open(child.id, parent, tokens)

    async def spend(self, agent_id: UUID) -> None:
        tokens = self.rng.randint(0, self.books.available(agent_id) // 4)
        if tokens == self.books.available(agent_id):
            return
        key = uuid4()
        await self.kernel.reserve(key, agent_id, tokens + 1)
        await self.kernel.settle(key, agent_id, Usage(tokens=tokens))
        self.books.accounts[agent_id].own += tokens

    async def end(self, agent_id: UUID) -> None:
        """Complete or fail what runs; let the line move for what does not."""
        agent = await self.kernel.show(agent_id)
        if agent.status != "running" or agent_id == self.root:
            await self.kernel.claim(self.runner, slots=5, root_id=self.root)
            return
        if self.rng.random() < 0.5:
            await self.kernel.complete(agent_id, epoch=agent.lease_epoch, result={})
        else:
            await self.kernel.fail(
                agent_id, epoch=agent.lease_epoch, code="x", message="x", result=None
            )
        self.books.close(agent_id)

    async def terminate(self, agent_id: UUID) -> None:
        if agent_id != self.root:
            await self.kernel.terminate(agent_id, reason="x")
            self.books.close(agent_id)

    async def hold(self, agent_id: UUID) -> None:
        if not await self.kernel.pause(agent_id, reason="x"):
            await self.kernel.resume(agent_id)

    async def compare(self) -> None:
        found = {
            a.id: (a.used, a.reserved, a.available, a.subtree_used, not a.has_ended)
            for a in await self.kernel.tree(self.root)
        }
        books = self.books
        assert found == {
            i: (
                books.used(i),
                books.reserved(i),
                books.available(i),
                books.subtree(i),
                a.alive,
            )
            for i, a in books.accounts.items()
        }


@pytest.mark.parametrize("seed", range(8))
async def test_the_books_balance_after_every_step_of_a_random_walk(
    kernel: Kernel, seed: int
) -> None:
    walk = Walk(kernel, seed)
    await walk.begin()
    for _ in range(STEPS):
        await walk.step()
        await walk.compare()
        await assert_sound(kernel)
    ended = [a for a in walk.books.accounts.values() if not a.alive]
    assert ended
    assert len(walk.books.accounts) > 10
    await kernel.terminate(walk.root, reason="the end")
    root = await kernel.show(walk.root)
    assert root.used == walk.books.subtree(walk.root) > 0
    assert root.reserved == 0
