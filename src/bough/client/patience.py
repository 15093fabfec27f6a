"""Waiting, within a bound, for tokens that others hold now and will give back.

A hint tells when something came back to the account; who waits then asks again. A lost hint costs
at most some seconds, and nobody is ever given more than there is: the kernel decides each time.
"""

import time
from uuid import UUID

from bough.client.budget_rows import Reserved
from bough.client.budgets import BudgetCalls
from bough.client.errors import BudgetBusy
from bough.client.hints import budget_channel, listening

_LOOK_ANYWAY_S = 5.0


async def reserve_within(
    client: BudgetCalls,
    dsn: str,
    key: UUID,
    agent_id: UUID,
    tokens: int,
    *,
    wait_s: float,
    operation: str = "call",
    model: str | None = None,
    expires_s: int = 600,
    at_least: int | None = None,
) -> Reserved:
    """As `reserve`, but waits up to wait_s seconds while others hold what is needed.

    Raises as `reserve` does; BudgetBusy only when the time is up.
    """

    async def ask() -> Reserved:
        return await client.reserve(
            key,
            agent_id,
            tokens,
            operation=operation,
            model=model,
            expires_s=expires_s,
            at_least=at_least,
        )

    try:
        return await ask()
    except BudgetBusy:
        if wait_s <= 0:
            raise
    end = time.monotonic() + wait_s
    async with listening(dsn, budget_channel(agent_id)) as hints:
        while True:
            try:
                return await ask()
            except BudgetBusy:
                left = end - time.monotonic()
                if left <= 0:
                    raise
            await hints.wait(min(left, _LOOK_ANYWAY_S))
