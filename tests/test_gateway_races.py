"""Calls in flight at once, programs that hang up, agents that end in mid-call, waiting in line."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from conftest import Sessions
from gateways import STOPS, WIRES, Agent, Gate, gated

from bough.client.budgets import Usage

pytest_plugins = ["gateways"]

every_wire = pytest.mark.parametrize("wire", WIRES)
BOUND_S = 20.0


async def settled(agent: Agent) -> None:
    """Wait until no call of an agent is open."""
    async with asyncio.timeout(BOUND_S):
        while any(row.status == "open" for row in await agent.rows()):
            await asyncio.sleep(0.01)


async def heard(chunks: AsyncIterator[bytes], text: bytes) -> None:
    """Read a stream until it has said this."""
    got = b""
    async for chunk in chunks:
        got += chunk
        if text in got:
            return
    raise AssertionError(got)


@every_wire
async def test_ten_calls_at_once_against_budget_for_five_let_five_pass(
    sessions: Sessions, wire: str
) -> None:
    async with gated(sessions, BOUGH_QUEUE_S="0") as gate:
        # Neither a count nor an earlier call makes the second five cheaper than the first.
        gate.provider.counts = False
        rich = await gate.agent()
        await rich.asks(wire, "m?out=20", text="a" * 50, most=60)
        one = (await rich.rows())[0].reserved
        gate.provider.bills.clear()
        gate.provider.most_open = 0
        agent = await gate.agent(one * 5 + one // 2)
        asking = [
            asyncio.create_task(agent.asks(wire, "m?gate=1", text="b" * 50, most=60))
            for _ in range(10)
        ]
        async with asyncio.timeout(BOUND_S):
            while sum(task.done() for task in asking) < 5 or gate.provider.open_calls < 5:
                await asyncio.sleep(0.01)
        assert (await agent.account()).open_calls == 5
        gate.provider.gate.set()
        statuses = sorted([(await task).status for task in asking])
        assert statuses == sorted([200] * 5 + [STOPS[wire]] * 5)
        assert len(gate.provider.bills) == gate.provider.most_open == 5
        assert (await agent.account()).used == gate.provider.billed
        await gate.is_sound()


async def test_children_of_one_parent_never_spend_more_than_it_gave(gate: Gate) -> None:
    parent = await gate.agent(60_000)
    children = [await gate.agent(15_000, parent=parent) for _ in range(3)]
    everybody = [parent, *children]
    asking = [
        agent.asks(WIRES[n % 3], "m?out=400", most=2_000, stream=bool(n % 2))
        for n in range(12)
        for agent in everybody
    ]
    called = await asyncio.gather(*asking)
    assert {c.status for c in called} <= {200, *STOPS.values()}
    assert sum(c.status == 200 for c in called) >= 12
    used = [(await agent.account()).used for agent in everybody]
    assert sum(used) == gate.provider.billed
    await gate.is_sound()


@every_wire
async def test_a_call_waits_for_tokens_that_others_give_back(gate: Gate, wire: str) -> None:
    agent = await gate.agent(20_000)
    held = uuid4()
    await gate.client.reserve(held, agent.id, 19_900)
    asking = [asyncio.create_task(agent.asks(wire, text="x" * 900)) for _ in range(5)]
    async with asyncio.timeout(BOUND_S):
        while not (await (await gate.look.execute(LISTENS, (str(agent.id),))).fetchone())[0]:
            await asyncio.sleep(0.01)
    # Five wait, and one connection listens for them all.
    assert (await (await gate.look.execute(LISTENS, (str(agent.id),))).fetchone())[0] == 1
    assert gate.provider.bills == []
    await gate.client.settle(held, agent.id, Usage(tokens=100))
    assert [(await task).status for task in asking] == [200] * 5
    assert (await agent.account()).used == gate.provider.billed + 100


LISTENS = "select count(*) from bough.listeners where channel like '%%' || %s"


@every_wire
async def test_a_call_that_waited_in_vain_is_refused_for_good(
    sessions: Sessions, wire: str
) -> None:
    async with gated(sessions, BOUGH_QUEUE_S="1") as gate:
        agent = await gate.agent(20_000)
        await gate.client.reserve(uuid4(), agent.id, 19_900)
        called = await asyncio.gather(*(agent.asks(wire, text="x" * 900) for _ in range(3)))
        assert {c.status for c in called} == {STOPS[wire]}
        assert {c.headers["x-should-retry"] for c in called} == {"false"}
        assert gate.provider.bills == []
        assert (await agent.account()).open_calls == 1


@every_wire
async def test_a_program_that_hangs_up_while_it_waits_in_line_leaves_nothing(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent(20_000)
    held = uuid4()
    await gate.client.reserve(held, agent.id, 19_900)
    asking = asyncio.create_task(agent.asks(wire, text="x" * 900))
    async with asyncio.timeout(BOUND_S):
        while not (await (await gate.look.execute(LISTENS, (str(agent.id),))).fetchone())[0]:
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(BOUND_S):
        while (await (await gate.look.execute(LISTENS, (str(agent.id),))).fetchone())[0]:
            await asyncio.sleep(0.01)
    await gate.client.release(held, agent.id)
    assert (await agent.account()).available == 20_000
    assert gate.provider.bills == []


@every_wire
async def test_the_answer_to_a_program_that_hung_up_is_read_to_its_end_and_settled_exactly(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    async with agent.streams(wire, "m?out=40&gate=1") as response:
        await heard(response.aiter_raw(), b"w19 ")
    assert (await agent.account()).open_calls == 1
    gate.provider.gate.set()
    await settled(agent)
    (row,) = await agent.rows()
    assert row.used == gate.provider.billed < row.reserved
    assert gate.provider.bills[0].output == 40


@every_wire
@pytest.mark.parametrize("stream", [False, True])
async def test_who_hangs_up_on_a_provider_that_does_not_end_is_charged_in_full_after_a_while(
    sessions: Sessions, wire: str, stream: bool
) -> None:
    async with gated(sessions, BOUGH_DRAIN_S="0") as gate:
        agent = await gate.agent()
        asking = asyncio.create_task(agent.asks(wire, "m?out=40&gate=1", stream=stream))
        await asyncio.wait_for(gate.provider.arrived.wait(), BOUND_S)
        asking.cancel()
        await asyncio.wait([asking])
        await settled(agent)
        (row,) = await agent.rows()
        assert row.used == row.reserved >= gate.provider.billed > 0
        async with asyncio.timeout(BOUND_S):
            while gate.provider.open_calls:
                await asyncio.sleep(0.01)


@every_wire
async def test_a_call_of_an_agent_that_is_terminated_is_settled_on_its_parent(
    gate: Gate, wire: str
) -> None:
    parent = await gate.agent(100_000)
    child = await gate.agent(50_000, parent=parent)
    async with child.streams(wire, "m?out=40&gate=1") as response:
        chunks = response.aiter_raw()
        await heard(chunks, b"w19 ")
        await gate.client.terminate(child.id, reason="x")
        gate.provider.gate.set()
        await heard(chunks, b"w39 ")
    await settled(child)
    (row,) = await child.rows()
    assert (row.payer_id, row.used) == (parent.id, gate.provider.billed)
    account = await parent.account()
    assert (account.used, account.reserved) == (gate.provider.billed, 0)
    await gate.is_sound()


async def test_what_a_gateway_that_closes_has_open_is_charged_in_full(sessions: Sessions) -> None:
    async with gated(sessions) as gate:
        agent = await gate.agent()
        asking = asyncio.create_task(agent.asks("messages", "m?gate=1", stream=True))
        await asyncio.wait_for(gate.provider.arrived.wait(), BOUND_S)
        look, billed = gate, gate.provider
    with pytest.raises(httpx2.TransportError):
        await asking
    agent.gate = look
    await settled(agent)
    (row,) = await agent.rows()
    assert row.used == row.reserved >= billed.billed > 0
