"""What the calls about mail return: frozen rows, field for field the kernel's columns.

A sender of None is the operator or the kernel; a recipient of all zeros is the operator.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from bough.client.rows import Json


@dataclass(frozen=True, slots=True)
class Sent:
    """A message in its mailbox; `is_new` is false for a repeat."""

    id: UUID
    seq: int
    recipient: UUID
    is_new: bool


@dataclass(frozen=True, slots=True)
class SentMany:
    """The numbers that the first and the last of many got."""

    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """One of the mailboxes that a broadcast went to."""

    recipient_id: UUID
    seq: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message as its receiver gets it."""

    id: UUID
    seq: int
    sender_id: UUID | None
    recipient_id: UUID
    type: str
    priority: str
    thread_id: UUID | None
    reply_to: UUID | None
    reply_by: datetime | None
    payload: Json
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that is not acknowledged; status is queued or delivered."""

    id: UUID
    seq: int
    sender_id: UUID | None
    recipient_id: UUID
    root_id: UUID
    type: str
    priority: str
    status: str
    thread_id: UUID | None
    reply_to: UUID | None
    reply_by: datetime | None
    actor: str | None
    payload: Json
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation."""

    id: UUID
    seq: int
    sender_id: UUID | None
    recipient_id: UUID
    type: str
    payload: Json
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """How many."""

    count: int


@dataclass(frozen=True, slots=True)
class Parked:
    """Whether the agent waits now; if not, what is ready: message, child, budget, approval."""

    parked: bool
    ready: str | None


@dataclass(frozen=True, slots=True)
class Requested:
    """An approval that was asked for, and how it stands."""

    id: UUID
    status: str
    expires_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Approval:
    """What an agent has asked and what became of it; decided_by is a person or expiry."""

    id: UUID
    agent_id: UUID
    root_id: UUID
    role: str
    task: str
    question: str
    status: str
    on_expiry: str
    answer: str | None
    decided_by: str | None
    decided_at: datetime | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """An approval after the decision."""

    id: UUID
    agent_id: UUID
    status: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """The agent that a token belongs to, under which lease; tools None: it may use all."""

    agent_id: UUID
    root_id: UUID
    parent_id: UUID | None
    lease_epoch: int
    status: str
    tools: list[str] | None
