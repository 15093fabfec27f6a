"""One call's tokens: set aside, then settled, released or expired, once, on the right account."""

from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from conftest import Kernel, run_agent, spawn_agent
from locks import assert_sound

from bough.client.budgets import Usage
from bough.client.errors import (
    AgentEnded,
    AgentNotFound,
    BoughError,
    BudgetBusy,
    BudgetExceeded,
    BudgetFrozen,
    InvalidInput,
    ReservationEnded,
    ReservationNotFound,
)


class EventRow(NamedTuple):
    name: str
    data: dict[str, Any]


async def kernel_events(kernel: Kernel, agent_id: UUID) -> list[EventRow]:
    cur = await kernel.conn.execute(
        "select name, data from bough.events where agent_id = %s order by id", (agent_id,)
    )
    return [EventRow(*row) for row in await cur.fetchall()]


async def account(kernel: Kernel, agent_id: UUID) -> tuple[int, int, int]:
    """used, reserved, available."""
    a = await kernel.show(agent_id)
    return a.used, a.reserved, a.available


async def test_a_call_is_set_aside_then_settled_and_the_rest_is_free_again(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=1000)
    key = uuid4()
    made = await kernel.reserve(key, agent.id, 300, operation="messages", model="m")
    assert (made.tokens_reserved, made.available, made.is_new) == (300, 700, True)
    assert await account(kernel, agent.id) == (0, 300, 700)
    done = await kernel.settle(key, agent.id, Usage(tokens=120))
    assert (done.payer_id, done.tokens_used, done.available, done.overdraft) == (
        agent.id,
        120,
        880,
        0,
    )
    assert await account(kernel, agent.id) == (120, 0, 880)
    await assert_sound(kernel)


async def test_a_repeat_of_each_call_gives_the_first_answer_and_changes_nothing(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel, budget=1000)
    one, two, three = uuid4(), uuid4(), uuid4()
    for is_new in (True, False, False):
        assert (await kernel.reserve(one, agent.id, 300)).is_new == is_new
        assert (await kernel.reserve(two, agent.id, 100)).is_new == is_new
    assert await account(kernel, agent.id) == (0, 400, 600)
    for is_new in (True, False, False):
        assert (await kernel.settle(one, agent.id, Usage(tokens=10))).is_new == is_new
        assert (await kernel.release(two, agent.id)).is_new == is_new
        assert (await kernel.charge(three, agent.id, Usage(tokens=5))).is_new == is_new
    # Even after the call has ended a repeated reserve finds it instead of making a second.
    assert not (await kernel.reserve(one, agent.id, 300)).is_new
    assert await account(kernel, agent.id) == (15, 0, 985)


async def test_a_call_ends_one_way_only(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=1000)
    settled, released = uuid4(), uuid4()
    for key in (settled, released):
        await kernel.reserve(key, agent.id, 100)
    await kernel.settle(settled, agent.id, Usage(tokens=60))
    await kernel.release(released, agent.id)
    with pytest.raises(ReservationEnded, match="settled before, with 60 tokens charged"):
        await kernel.settle(settled, agent.id, Usage(tokens=61))
    with pytest.raises(ReservationEnded, match="settled before"):
        await kernel.release(settled, agent.id)
    with pytest.raises(ReservationEnded, match="100 tokens was released before"):
        await kernel.settle(released, agent.id, Usage(tokens=60))
    assert await account(kernel, agent.id) == (60, 0, 940)


async def test_a_call_of_another_agent_cannot_be_settled_released_or_taken(kernel: Kernel) -> None:
    root = await run_agent(kernel, budget=1000)
    other = await run_agent(kernel, root.id, budget=500)
    key = uuid4()
    await kernel.reserve(key, root.id, 100)
    with pytest.raises(ReservationNotFound, match="has no reservation"):
        await kernel.settle(key, other.id, Usage(tokens=1))
    with pytest.raises(ReservationNotFound):
        await kernel.release(key, other.id)
    for call in (
        kernel.reserve(key, other.id, 100),
        kernel.charge(key, other.id, Usage(tokens=1)),
    ):
        with pytest.raises(InvalidInput, match="was used before, for another call"):
            await call
    assert await account(kernel, root.id) == (0, 600, 400)
    assert await account(kernel, other.id) == (0, 0, 500)


@pytest.mark.parametrize("tokens", [0, -1, 2**63, 10**30, "text", None, 1.5])
async def test_a_number_that_makes_no_sense_is_refused(kernel: Kernel, tokens: int) -> None:
    agent = await run_agent(kernel, budget=1000)
    key = uuid4()
    await kernel.reserve(key, agent.id, 10)
    if tokens not in (1.5,):
        with pytest.raises(InvalidInput):
            await kernel.reserve(uuid4(), agent.id, tokens)
        with pytest.raises(InvalidInput):
            await kernel.grant_budget(agent.id, tokens)
    if tokens != 0 and tokens != 1.5:
        with pytest.raises(InvalidInput):
            await kernel.settle(key, agent.id, Usage(tokens=tokens))
        with pytest.raises(InvalidInput):
            await kernel.charge(uuid4(), agent.id, Usage(tokens=tokens))
    assert await account(kernel, agent.id) == (0, 10, 990)


async def test_an_absurd_time_to_expire_is_refused(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    for seconds in (0, -5, 86_401, 2**31 - 1):
        with pytest.raises(InvalidInput, match="1 to 86400 s"):
            await kernel.reserve(uuid4(), agent.id, 1, expires_s=seconds)


async def test_an_agent_that_has_ended_or_never_was_reserves_and_charges_nothing(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1000)
    child = await run_agent(kernel, root.id, budget=500)
    await kernel.complete(child.id, epoch=1, result={})
    for call in (
        kernel.reserve(uuid4(), child.id, 1),
        kernel.charge(uuid4(), child.id, Usage(tokens=1)),
    ):
        with pytest.raises(AgentEnded, match="has ended and spends no more"):
            await call
    for call in (
        kernel.reserve(uuid4(), uuid4(), 1),
        kernel.charge(uuid4(), uuid4(), Usage(tokens=1)),
        kernel.grant_budget(uuid4(), 1),
        kernel.account(uuid4()),
    ):
        with pytest.raises(AgentNotFound):
            await call


async def test_what_will_fit_later_is_told_apart_from_what_never_will(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=100)
    held = uuid4()
    await kernel.reserve(held, agent.id, 80)
    with pytest.raises(BudgetBusy, match="50 tokens required, 20 available now, 100 once others"):
        await kernel.reserve(uuid4(), agent.id, 50)
    with pytest.raises(BudgetExceeded, match="101 tokens required, 20 available"):
        await kernel.reserve(uuid4(), agent.id, 101)
    await kernel.settle(held, agent.id, Usage(tokens=60))
    with pytest.raises(BudgetExceeded, match="50 tokens required, 40 available"):
        await kernel.reserve(uuid4(), agent.id, 50)


async def test_use_beyond_the_reservation_is_paid_from_what_is_left_then_is_overdraft(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1000)
    agent = await run_agent(kernel, root.id, budget=100)
    first, second = uuid4(), uuid4()
    await kernel.reserve(first, agent.id, 50)
    done = await kernel.settle(first, agent.id, Usage(tokens=70))
    assert (done.available, done.overdraft) == (30, 0)
    await kernel.reserve(second, agent.id, 10)
    done = await kernel.settle(second, agent.id, Usage(tokens=45))
    assert (done.available, done.overdraft) == (-15, 15)
    shown = await kernel.show(agent.id)
    assert (shown.used, shown.overdraft) == (115, 15)
    assert shown.frozen_at is not None
    with pytest.raises(BudgetFrozen, match=r"frozen .overdraft."):
        await kernel.reserve(uuid4(), agent.id, 1)
    await kernel.terminate(agent.id, reason="x")
    assert await account(kernel, root.id) == (115, 0, 885)
    names = [e.name for e in await kernel_events(kernel, agent.id)]
    assert names.count("budget.overdrawn") == 1
    assert names.count("budget.frozen") == 1
    await assert_sound(kernel)


async def test_an_open_call_of_an_agent_that_ends_is_paid_by_the_nearest_that_lives(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1000)
    middle = await run_agent(kernel, root.id, budget=600)
    leaf = await run_agent(kernel, middle.id, budget=300)
    key = uuid4()
    await kernel.reserve(key, leaf.id, 200)
    await kernel.terminate(leaf.id, reason="x")
    assert await account(kernel, middle.id) == (0, 200, 400)
    await kernel.terminate(middle.id, reason="x")
    assert await account(kernel, root.id) == (0, 200, 800)
    await assert_sound(kernel)
    done = await kernel.settle(key, leaf.id, Usage(tokens=150))
    assert (done.payer_id, done.available) == (root.id, 850)
    assert await account(kernel, root.id) == (150, 0, 850)
    await assert_sound(kernel)


async def test_an_open_call_of_a_root_that_ends_is_settled_at_the_root(kernel: Kernel) -> None:
    root = await run_agent(kernel, budget=1000)
    key, never = uuid4(), uuid4()
    await kernel.reserve(key, root.id, 200)
    await kernel.reserve(never, root.id, 50, expires_s=10)
    await kernel.complete(root.id, epoch=1, result={})
    await assert_sound(kernel)
    await kernel.settle(key, root.id, Usage(tokens=199))
    await kernel.set_clock(11)
    assert [(e.payer_id, e.tokens) for e in await kernel.expire()] == [(root.id, 50)]
    assert await account(kernel, root.id) == (249, 0, 751)
    await assert_sound(kernel)


async def test_what_nobody_settles_in_time_is_charged_in_full_and_once(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=1000)
    late, later, open_ = uuid4(), uuid4(), uuid4()
    await kernel.reserve(late, agent.id, 100, expires_s=10)
    await kernel.reserve(later, agent.id, 200, expires_s=10)
    await kernel.reserve(open_, agent.id, 300, expires_s=1000)
    assert await kernel.expire() == []
    await kernel.set_clock(11)
    assert [(e.payer_id, e.calls, e.tokens) for e in await kernel.expire()] == [(agent.id, 2, 300)]
    assert await kernel.expire() == []
    assert await account(kernel, agent.id) == (300, 300, 400)
    with pytest.raises(ReservationEnded, match="expired before, with 100 tokens charged"):
        await kernel.settle(late, agent.id, Usage(tokens=1))
    names = [e.name for e in await kernel_events(kernel, agent.id)]
    assert names.count("reservation.expired") == 2
    await assert_sound(kernel)


async def test_what_is_kept_for_a_last_report_goes_to_calls_but_not_to_children(
    kernel: Kernel,
) -> None:
    small = await run_agent(kernel, budget=19_999)
    await spawn_agent(kernel, small.id, budget=19_999)
    agent = await run_agent(kernel, budget=20_000)
    with pytest.raises(BudgetExceeded, match=r"20000 available from .* .200 of them kept"):
        await spawn_agent(kernel, agent.id, budget=19_801)
    child = await spawn_agent(kernel, agent.id, budget=19_800)
    await kernel.reserve(uuid4(), agent.id, 200)
    assert (await kernel.account(agent.id)).kept == 200
    assert (await kernel.account(child.id)).kept == 0


async def test_nothing_is_left_of_a_refused_call(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=10)
    for tokens in (11, 2**62, 2**63 - 1):
        with pytest.raises(BoughError):
            await kernel.reserve(uuid4(), agent.id, tokens)
    assert await kernel.value("select count(*) from bough.reservations") == 0
    assert await account(kernel, agent.id) == (0, 0, 10)
