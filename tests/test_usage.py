"""What calls used and cost is kept in parts, told by role and model, and stands in a ledger."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from conftest import Kernel, run_agent

from bough.client.budgets import Usage
from bough.client.errors import InvalidInput, RuleBroken
from bough.client.prices import priced

PARTS: dict[str, Any] = {
    "input_tokens": 10,
    "output_tokens": 5,
    "cache_read_tokens": 3,
    "cache_write_tokens": 2,
}


async def test_a_warning_is_written_once_when_most_is_used_and_again_after_a_top_up(
    kernel: Kernel,
) -> None:
    agent = await run_agent(kernel, budget=1000)

    async def warnings() -> int:
        return await kernel.value(
            "select count(*) from bough.events where name = 'budget.warned' and agent_id = %s",
            agent.id,
        )

    for tokens, expected in ((799, 0), (1, 1), (100, 1)):
        await kernel.charge(uuid4(), agent.id, Usage(tokens=tokens))
        assert await warnings() == expected
    await kernel.grant_budget(agent.id, 1000)
    await kernel.charge(uuid4(), agent.id, Usage(tokens=700))
    assert await warnings() == 2
    told = [(m.type, m.payload["used"]) for m in await kernel.inbox(agent.id)]
    assert told == [("budget.warned", 800), ("budget.warned", 1600)]


async def test_a_warning_is_no_obstacle_when_the_account_is_settled_after_its_agents_end(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1000)
    key = uuid4()
    await kernel.reserve(key, root.id, 900)
    await kernel.complete(root.id, epoch=1, result={})
    assert (await kernel.settle(key, root.id, Usage(tokens=900))).tokens_used == 900


async def test_a_call_keeps_its_parts_its_model_and_its_price(kernel: Kernel) -> None:
    agent = await run_agent(kernel, budget=1000, role="coder")
    usage = priced(Usage(tokens=20, model="claude-sonnet-4-5", **PARTS))
    # 10 x 3 + 5 x 15 + 3 x 0.30 + 2 x 3.75 dollars a million
    assert usage.cost_usd == Decimal("0.0001134")
    await kernel.charge(uuid4(), agent.id, usage)
    await kernel.charge(uuid4(), agent.id, Usage(tokens=7, model="home-made"))
    account = await kernel.account(agent.id)
    assert (account.cost_usd, account.unpriced_tokens) == (Decimal("0.0001134"), 7)
    by_model = await kernel.statistics(agent.id, by="model")
    assert [(s.what, s.tokens, s.cache_read_tokens) for s in by_model] == [
        ("claude-sonnet-4-5", 20, 3),
        ("home-made", 7, 0),
    ]
    assert [s.what for s in await kernel.statistics(agent.id, by="role")] == ["coder"]
    prices = await kernel.value(
        "select prices ->> 'source' from bough.reservations where prices is not null"
    )
    assert prices.startswith("genai-prices ")


def test_a_model_without_a_known_price_has_no_cost_rather_than_none() -> None:
    assert priced(Usage(tokens=20, model="home-made", **PARTS)).cost_usd is None
    assert priced(Usage(tokens=20, model=None, **PARTS)).cost_usd is None
    assert priced(Usage(tokens=20, model="claude-sonnet-4-5")).cost_usd is None


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (PARTS | {"input_tokens": 11}, "add up to 21 tokens, not to 20"),
        (PARTS | {"input_tokens": None}, "known together or not at all"),
        (PARTS | {"input_tokens": -10, "output_tokens": 25}, "tokens are not negative"),
        ({"cost_usd": Decimal(-1)}, "cost is not negative"),
        ({"model": " "}, "label is not blank"),
    ],
)
async def test_a_use_whose_parts_do_not_fit_is_refused(
    kernel: Kernel, parts: dict[str, Any], error: str
) -> None:
    agent = await run_agent(kernel)
    with pytest.raises((RuleBroken, InvalidInput), match=error):
        await kernel.charge(uuid4(), agent.id, Usage(tokens=20, **parts))
    assert (await kernel.show(agent.id)).available == 1000


async def test_every_movement_of_an_account_stands_in_its_ledger_with_the_balance(
    kernel: Kernel,
) -> None:
    root = await run_agent(kernel, budget=1000)
    child = await run_agent(kernel, root.id, budget=300)
    one, two = uuid4(), uuid4()
    await kernel.reserve(one, root.id, 100, operation="plan")
    await kernel.settle(one, root.id, Usage(tokens=40))
    await kernel.reserve(two, child.id, 50)
    await kernel.charge(uuid4(), child.id, Usage(tokens=20))
    await kernel.grant_budget(root.id, 500)
    await kernel.complete(child.id, epoch=1, result={})
    await kernel.settle(two, child.id, Usage(tokens=45))
    seen = [(m.kind, m.change, m.balance) for m in await kernel.ledger(root.id)]
    assert seen == [
        ("allocated", 1000, 1000),
        ("to child", -300, 700),
        ("reserved", -100, 600),
        ("settled", 60, 660),
        ("granted", 500, 1160),
        ("returned", 230, 1390),
        ("settled", 5, 1395),
    ]
    assert (await kernel.show(root.id)).available == 1395
    assert [(m.kind, m.change, m.balance) for m in await kernel.ledger(child.id)] == [
        ("allocated", 300, 300),
        ("reserved", -50, 250),
        ("charged", -20, 230),
        ("handed back", -230, 0),
    ]
    assert [m.balance for m in await kernel.ledger(root.id, page=2)] == [1390, 1395]


async def test_a_kind_of_statistics_that_there_is_not_is_refused(kernel: Kernel) -> None:
    with pytest.raises(InvalidInput, match="by role, depth, model, operation, agent or subtree"):
        await kernel.statistics(None, by="colour")
