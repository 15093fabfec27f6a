"""What the calls about tokens return: frozen rows, field for field the kernel's columns."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Id:
    """An agent that a call has changed."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Reserved:
    """Tokens set aside for one call; `is_new` is false for a repeat."""

    id: UUID
    tokens_reserved: int
    available: int
    expires_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Spender:
    """The agent that a program spends for, and its account at the time of the question."""

    agent_id: UUID
    allocated: int
    available: int


@dataclass(frozen=True, slots=True)
class Charged:
    """What a call was charged, to whose account, and how that account stands."""

    id: UUID
    payer_id: UUID
    tokens_reserved: int
    tokens_used: int
    available: int
    overdraft: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Released:
    """Tokens that are free again."""

    id: UUID
    tokens_reserved: int
    available: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Expired:
    """An account that paid in full for calls that nobody settled in time."""

    payer_id: UUID
    calls: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Granted:
    """An account after a top-up; payer_id is the parent that paid, None at a root."""

    id: UUID
    allocated: int
    available: int
    payer_id: UUID | None


@dataclass(frozen=True, slots=True)
class Transferred:
    """An account after a transfer."""

    id: UUID
    allocated: int
    available: int


@dataclass(frozen=True, slots=True)
class Account:
    """One account. Subtree figures include the agent; cost_usd leaves out unpriced_tokens."""

    id: UUID
    allocated: int
    used: int
    reserved: int
    available: int
    kept: int
    overdraft: int
    children_reserved: int
    open_calls: int
    open_tokens: int
    subtree_used: int
    subtree_calls: int
    cost_usd: Decimal
    unpriced_tokens: int
    tokens_per_minute: int
    warn_percent: int
    frozen_at: datetime | None
    frozen_reason: str | None
    reclaimed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of what is available, and how much was available after it."""

    at: datetime
    kind: str
    other_id: UUID | None
    operation: str | None
    change: int
    balance: int
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Spending:
    """What one role, depth, model, operation, agent or subtree used and changed.

    cost_usd leaves out unpriced_tokens; files and lines are None where none were saved, and for
    models and operations.
    """

    what: str
    calls: int
    tokens: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: Decimal
    unpriced_tokens: int
    files_changed: int | None
    lines_added: int | None
    lines_removed: int | None
    disk_bytes: int | None
