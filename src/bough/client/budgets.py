"""Calls about tokens: set aside, settled, charged, granted, moved, frozen, and told.

Token counts are whole numbers, costs US dollars. Keys are made by the caller: a repeat of a call
with the same key gives the first answer. Refusals are BudgetExceeded (it will never fit),
BudgetBusy (others hold it now), BudgetFrozen and AgentEnded; then nothing has changed.
"""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from psycopg.types.json import Jsonb

from bough.client import budget_rows as rows
from bough.client.caller import Caller
from bough.client.rows import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call used. The four parts are known together or not at all; tokens is their sum.

    cost_usd is None when the price of the model is not known; `prices.priced` fills it in.
    """

    tokens: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    model: str | None = None
    cost_usd: Decimal | None = None
    prices: Json | None = None

    def values(self) -> dict[str, object]:
        """As parameters of a call."""
        return {
            "tokens": self.tokens,
            "input": self.input_tokens,
            "output": self.output_tokens,
            "read": self.cache_read_tokens,
            "write": self.cache_write_tokens,
            "model": self.model,
            "cost": self.cost_usd,
            "prices": None if self.prices is None else Jsonb(self.prices),
        }


class BudgetCalls(Caller):
    """The part of a client that is about tokens."""

    async def reserve(
        self,
        key: UUID,
        agent_id: UUID,
        tokens: int,
        *,
        operation: str = "call",
        model: str | None = None,
        expires_s: int = 600,
        at_least: int | None = None,
    ) -> rows.Reserved:
        """Set tokens aside for one call, or refuse; unsettled after expires_s: charged in full.

        With at_least, what there is from that number on will do: look at `tokens_reserved`.
        Raises BudgetExceeded, BudgetBusy, BudgetFrozen, AgentEnded, AgentNotFound, InvalidInput.
        """
        return await self._one(
            rows.Reserved,
            "select * from bough_api.reserve(%(key)s, %(id)s, %(tokens)s::bigint,"
            " %(operation)s, %(model)s, %(expires)s::integer, %(least)s::bigint)",
            {
                "key": key,
                "id": agent_id,
                "tokens": tokens,
                "operation": operation,
                "model": model,
                "expires": expires_s,
                "least": at_least,
            },
        )

    async def spender(self, token_hash: bytes) -> rows.Spender:
        """Whose tokens the program with this token spends.

        Raises TokenInvalid for a stranger, AgentEnded, StaleLease.
        """
        return await self._one(
            rows.Spender, "select * from bough_api.spender(%(hash)s)", {"hash": token_hash}
        )

    async def settle(self, key: UUID, agent_id: UUID, usage: Usage) -> rows.Charged:
        """End a reservation with what was used; the rest is free again.

        Use beyond the reservation comes from what is available, then is overdraft and freezes
        the account. Raises ReservationEnded, ReservationNotFound, InvalidInput.
        """
        return await self._one(
            rows.Charged,
            "select * from bough_api.settle(%(key)s, %(id)s, %(tokens)s::bigint,"
            " %(input)s::bigint, %(output)s::bigint, %(read)s::bigint, %(write)s::bigint,"
            " %(model)s, %(cost)s::numeric, %(prices)s)",
            {"key": key, "id": agent_id} | usage.values(),
        )

    async def release(self, key: UUID, agent_id: UUID) -> rows.Released:
        """End a reservation whose call was never made. Raises as `settle` does."""
        return await self._one(
            rows.Released,
            "select * from bough_api.release(%(key)s, %(id)s)",
            {"key": key, "id": agent_id},
        )

    async def charge(
        self, key: UUID, agent_id: UUID, usage: Usage, *, operation: str = "charge"
    ) -> rows.Charged:
        """Record use that has happened without a reservation.

        Beyond what is available it is overdraft and freezes the account. Raises AgentEnded,
        AgentNotFound, InvalidInput.
        """
        return await self._one(
            rows.Charged,
            "select * from bough_api.charge(%(key)s, %(id)s, %(tokens)s::bigint,"
            " %(input)s::bigint, %(output)s::bigint, %(read)s::bigint, %(write)s::bigint,"
            " %(operation)s, %(model)s, %(cost)s::numeric, %(prices)s)",
            {"key": key, "id": agent_id, "operation": operation} | usage.values(),
        )

    async def expire(self) -> list[rows.Expired]:
        """Charge in full what was not settled in time; the accounts that paid."""
        expired: list[rows.Expired] = []
        while found := await self._all(rows.Expired, "select * from bough_api.expire()"):
            expired += found
        return expired

    async def grant_budget(self, agent_id: UUID, tokens: int) -> rows.Granted:
        """Top an account up: a child's from its parent, a root's from nothing.

        Raises BudgetExceeded, BudgetFrozen (the parent), AgentEnded, AgentNotFound, InvalidInput.
        """
        return await self._one(
            rows.Granted,
            "select * from bough_api.grant_budget(%(id)s, %(tokens)s::bigint)",
            {"id": agent_id, "tokens": tokens},
        )

    async def transfer_budget(
        self, from_id: UUID, to_id: UUID, tokens: int
    ) -> list[rows.Transferred]:
        """Move available tokens between an agent and its parent or a sibling; the giver first.

        Raises BudgetExceeded, BudgetFrozen, AgentEnded, AgentNotFound, InvalidInput.
        """
        return await self._all(
            rows.Transferred,
            "select * from bough_api.transfer_budget(%(from)s, %(to)s, %(tokens)s::bigint)",
            {"from": from_id, "to": to_id, "tokens": tokens},
        )

    async def freeze_budget(self, agent_id: UUID, *, reason: str) -> list[rows.Id]:
        """Let an agent and all below it spend nothing new; the accounts newly frozen.

        Calls in flight are settled as usual. Raises AgentEnded, AgentNotFound.
        """
        return await self._all(
            rows.Id,
            "select * from bough_api.freeze_budget(%(id)s, %(reason)s)",
            {"id": agent_id, "reason": reason},
        )

    async def unfreeze_budget(self, agent_id: UUID) -> list[rows.Id]:
        """Let an agent and all below it spend again. Raises AgentNotFound."""
        return await self._all(
            rows.Id, "select * from bough_api.unfreeze_budget(%(id)s)", {"id": agent_id}
        )

    async def account(self, agent_id: UUID) -> rows.Account:
        """One account with its subtree's use and cost. Raises AgentNotFound."""
        return await self._one(
            rows.Account, "select * from bough_api.account(%(id)s)", {"id": agent_id}
        )

    async def ledger(self, agent_id: UUID, *, page: int = 1000) -> list[rows.Movement]:
        """The last `page` movements of an account, oldest first, with the balance after each."""
        return await self._all(
            rows.Movement,
            "select * from bough_api.ledger(%(id)s, %(page)s::integer)",
            {"id": agent_id, "page": page},
        )

    async def statistics(self, agent_id: UUID | None, *, by: str) -> list[rows.Spending]:
        """Tokens, cost and work below an agent (None: everywhere), the most first.

        `by` is role, depth, model, operation, agent or subtree; InvalidInput otherwise.
        """
        return await self._all(
            rows.Spending,
            "select * from bough_api.statistics(%(id)s, %(by)s)",
            {"id": agent_id, "by": by},
        )
