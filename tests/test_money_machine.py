"""A Hypothesis machine: any sequence of calls on one tree, by three sessions, loses no token.

The machine keeps its own books in plain Python and compares every account, with every answer,
after every step. The sessions commit, so each call sees what the others did before.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import TABLES, enroll_runner, spawn_agent
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from locks import outcome

from bough.client.budgets import Usage
from bough.client.database import open_client
from bough.client.errors import BoughError
from bough.client.runner_calls import RunnerClient

BUDGET = 30_000
TTL_S = 60


@dataclass
class Book:
    """What the machine knows of one account."""

    parent: UUID | None
    allocated: int
    alive: bool = True
    used: int = 0
    kept: int = 0
    calls: dict[UUID, tuple[UUID, int, int]] = field(default_factory=dict[Any, Any])
    """Open calls by key: who made it, tokens, when it expires."""


class MoneyMachine(RuleBasedStateMachine):
    """Random calls against one root of BUDGET tokens."""

    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.books: dict[UUID, Book] = {}
        self.now = 0
        self.turn = 0
        self.do(self.begin())

    def do(self, call: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await call

        return self.loop.run(run())

    async def begin(self) -> None:
        self.conn = await self.stack.enter_async_context(
            await psycopg.AsyncConnection[Any].connect(self.dsn, autocommit=True)
        )
        await self.conn.execute(f"truncate {TABLES}".encode())
        self.clients: list[RunnerClient] = [
            await self.stack.enter_async_context(open_client(self.dsn, actor=f"session {n}"))
            for n in range(3)
        ]
        for client in self.clients:
            await self.set_clock(client)
        self.runner = await enroll_runner(self.clients[0], lease_s=100_000, slots=1000)
        root = await spawn_agent(self.clients[0], budget=BUDGET)
        self.root = root.id
        self.books[root.id] = Book(None, BUDGET, kept=300)

    @property
    def client(self) -> RunnerClient:
        self.turn += 1
        return self.clients[self.turn % 3]

    def teardown(self) -> None:
        self.do(self.conn.execute(f"truncate {TABLES}".encode()))
        self.loop.run(self.stack.aclose())
        self.loop.close()

    def pick(self, number: int, *, alive: bool = True) -> UUID:
        found = [i for i, b in self.books.items() if b.alive or not alive]
        return found[number % len(found)]

    def children(self, agent_id: UUID) -> list[UUID]:
        return [i for i, b in self.books.items() if b.parent == agent_id]

    def reserved(self, agent_id: UUID) -> int:
        living = sum(self.books[c].allocated for c in self.children(agent_id) if self.alive(c))
        return living + sum(tokens for _, tokens, _ in self.books[agent_id].calls.values())

    def alive(self, agent_id: UUID) -> bool:
        return self.books[agent_id].alive

    def available(self, agent_id: UUID) -> int:
        book = self.books[agent_id]
        return book.allocated - book.used - self.reserved(agent_id)

    def close(self, agent_id: UUID) -> None:
        for child in self.children(agent_id):
            if self.alive(child):
                self.close(child)
        book = self.books[agent_id]
        book.alive = False
        if book.parent:
            above = self.books[book.parent]
            above.used += book.used
            above.calls |= book.calls
            book.calls = {}

    def payer_of(self, key: UUID) -> Book:
        return next(b for b in self.books.values() if key in b.calls)

    def an_open_call(self, number: int) -> tuple[UUID, UUID, int] | None:
        found = [(k, c[0], c[1]) for b in self.books.values() for k, c in b.calls.items()]
        return found[number % len(found)] if found else None

    @rule(number=st.integers(0, 99), tokens=st.integers(-1, BUDGET))
    def spawn(self, number: int, tokens: int) -> None:
        parent = self.pick(number)
        answer = self.do(outcome(spawn_agent(self.client, parent, budget=tokens)))
        fits = 0 < tokens <= self.available(parent) - self.books[parent].kept
        assert isinstance(answer, BoughError) != fits, (answer, tokens)
        if fits:
            kept = min(tokens // 100, 1000) if tokens >= 20_000 else 0
            self.books[answer.id] = Book(parent, tokens, kept=kept)

    @rule(number=st.integers(0, 99), tokens=st.integers(-1, BUDGET // 3))
    def reserve(self, number: int, tokens: int) -> None:
        agent = self.pick(number, alive=False)
        key = uuid4()
        answer = self.do(outcome(self.client.reserve(key, agent, tokens, expires_s=TTL_S)))
        fits = self.alive(agent) and 0 < tokens <= self.available(agent)
        assert isinstance(answer, BoughError) != fits, (answer, tokens)
        if fits:
            self.books[agent].calls[key] = (agent, tokens, self.now + TTL_S)
            assert answer.available == self.available(agent)

    @rule(number=st.integers(0, 99), share=st.floats(0, 1))
    def settle(self, number: int, share: float) -> None:
        if (call := self.an_open_call(number)) is None:
            return
        key, agent, tokens = call
        use = int(tokens * share)
        for is_new in (True, False):
            done = self.do(self.client.settle(key, agent, Usage(tokens=use)))
            assert (done.is_new, done.tokens_used, done.overdraft) == (is_new, use, 0)
        payer = self.payer_of(key)
        del payer.calls[key]
        payer.used += use

    @rule(number=st.integers(0, 99))
    def release(self, number: int) -> None:
        if (call := self.an_open_call(number)) is None:
            return
        self.do(self.client.release(call[0], call[1]))
        del self.payer_of(call[0]).calls[call[0]]

    @rule(seconds=st.integers(1, TTL_S))
    def expire(self, seconds: int) -> None:
        self.now += seconds
        for client in self.clients:
            self.do(self.set_clock(client))
        self.do(self.client.expire())
        for book in self.books.values():
            for key, (_, tokens, ends) in list(book.calls.items()):
                if ends <= self.now:
                    del book.calls[key]
                    book.used += tokens

    async def set_clock(self, client: RunnerClient) -> None:
        async with client._opener() as conn:  # pyright: ignore[reportPrivateUsage]
            await conn.execute(
                "select set_config('bough.clock', (date '2030-01-01'"
                " + make_interval(secs => %s))::text, false)",
                (self.now,),
            )

    @rule(number=st.integers(0, 99), how=st.sampled_from(["complete", "fail", "terminate"]))
    def end(self, number: int, how: str) -> None:
        agent = self.pick(number)
        if agent == self.root:
            return
        if how == "terminate":
            self.do(self.client.terminate(agent, reason="x"))
        else:
            self.do(self.client.claim(self.runner, slots=1000))
            finish = (
                self.client.complete(agent, epoch=1, result={})
                if how == "complete"
                else self.client.fail(agent, epoch=1, code="x", message="x", result=None)
            )
            self.do(finish)
        self.close(agent)

    @rule(number=st.integers(0, 99), tokens=st.integers(1, BUDGET))
    def top_up(self, number: int, tokens: int) -> None:
        agent = self.pick(number)
        parent = self.books[agent].parent
        answer = self.do(outcome(self.client.grant_budget(agent, tokens)))
        fits = parent is None or tokens <= self.available(parent)
        assert isinstance(answer, BoughError) != fits, (answer, tokens)
        if fits:
            self.books[agent].allocated += tokens

    @rule(giver=st.integers(0, 99), taker=st.integers(0, 99), tokens=st.integers(1, BUDGET))
    def transfer(self, giver: int, taker: int, tokens: int) -> None:
        one, two = self.pick(giver), self.pick(taker)
        from_, to = self.books[one], self.books[two]
        answer = self.do(outcome(self.client.transfer_budget(one, two, tokens)))
        related = one != two and (
            from_.parent == two or to.parent == one or (from_.parent or 0) == (to.parent or 1)
        )
        gives = tokens <= self.available(one) and (to.parent == one or tokens < from_.allocated)
        fits = related and gives
        assert isinstance(answer, BoughError) != fits, (answer, tokens)
        if fits:
            from_.allocated -= tokens * (to.parent != one)
            to.allocated += tokens * (from_.parent != two)

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        tree = self.do(self.clients[0].tree(self.root))
        found = {a.id: (a.allocated, a.used, a.reserved, a.available, a.has_ended) for a in tree}
        expected = {
            i: (b.allocated, b.used, self.reserved(i), self.available(i), not b.alive)
            for i, b in self.books.items()
        }
        assert found == expected
        assert self.do(self.broken()) == []

    async def broken(self) -> list[Any]:
        return await (await self.conn.execute("select * from bough_api.verify()")).fetchall()


@pytest.fixture(scope="module")
async def machine_database(server: str, database: str) -> str:
    return database


def test_random_calls_of_three_sessions_lose_and_make_no_token(machine_database: str) -> None:
    MoneyMachine.dsn = machine_database
    run_state_machine_as_test(
        MoneyMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
