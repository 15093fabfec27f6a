"""What calls return: frozen rows, field for field the named columns of the kernel.

Times are aware and in UTC as PostgreSQL gives them; budgets are tokens; ids are UUIDs.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

Json = dict[str, Any]

ENDED = frozenset({"completed", "failed", "terminated"})


@dataclass(frozen=True, slots=True)
class Spawned:
    """The new agent; `is_new` is false when this id had been spawned before."""

    id: UUID
    root_id: UUID
    depth_level: int
    status: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """An agent that a runner now holds, with all it needs to start it. timeout_s in seconds."""

    id: UUID
    root_id: UUID
    parent_id: UUID | None
    lease_epoch: int
    role: str
    task: str
    driver: str
    program: Json
    timeout_s: int | None
    started_at: datetime
    allocated: int
    available: int
    repo_path: str | None
    base_commit: str | None
    worktree_path: str | None
    branch_name: str | None
    isolation_status: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """An agent as its runner's heart-beat finds it."""

    id: UUID
    lease_epoch: int
    status: str


@dataclass(frozen=True, slots=True)
class Changed:
    """An agent whose status a call has changed."""

    id: UUID
    status: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """An agent that was ended, and the runner that must stop its program."""

    id: UUID
    runner_id: UUID | None


@dataclass(frozen=True, slots=True)
class Finish:
    """Whether an end was applied; if not, what the agent is by now."""

    accepted: bool
    current_status: str
    current_epoch: int


@dataclass(frozen=True, slots=True)
class Stray:
    """A process that a dead runner may have left behind."""

    agent_id: UUID
    pid: int
    process_start: str


@dataclass(frozen=True, slots=True)
class Port:
    """A port on loopback that is an agent's until it ends."""

    port: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a function that was recorded: which word, of what, and what it gave."""

    number: int
    word: str
    name: str | None
    result: Json
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class StepRecorded:
    """The result that stands; `is_new` is false when another was recorded before."""

    recorded: Json
    is_new: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of an agent's conversation with its model."""

    number: int
    entry: Json
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Appended:
    """The entry that stands; `is_new` is false when another was appended before."""

    recorded: Json
    is_new: bool


@dataclass(frozen=True, slots=True)
class LogLine:
    """A piece of output; not always a whole line. dropped_bytes went before the first kept."""

    seq: int
    stream: str
    content: str
    created_at: datetime
    dropped_bytes: int


@dataclass(frozen=True, slots=True)
class Version:
    """A text that changes when something happens."""

    version: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    id: int
    root_id: UUID | None
    agent_id: UUID | None
    name: str
    data: Json
    actor: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Runner:
    """A runner that holds agents or may claim some."""

    id: UUID
    host: str
    pid: int
    slots: int
    created_at: datetime
    expires_at: datetime
    alive: bool
    agents: int


@dataclass(frozen=True, slots=True)
class Agent:
    """All there is to know of an agent: place, state, budget, workspace, outcome."""

    id: UUID
    root_id: UUID
    parent_id: UUID | None
    role: str
    task: str
    status: str
    status_reason: str | None
    status_at: datetime
    depth_level: int
    driver: str
    program: Json
    runner_id: UUID | None
    lease_epoch: int
    timeout_s: int | None
    depth_limit: int | None
    children_limit: int | None
    running_limit: int | None
    allocated: int
    used: int
    reserved: int
    available: int
    overdraft: int
    frozen_at: datetime | None
    reclaimed_at: datetime | None
    subtree_used: int
    repo_path: str | None
    worktree_path: str | None
    branch_name: str | None
    base_commit: str | None
    head_commit: str | None
    target_branch: str | None
    isolation_status: str | None
    files_changed: int | None
    lines_added: int | None
    lines_removed: int | None
    disk_bytes: int | None
    merged_into: str | None
    merged_commit: str | None
    conflicts: list[str] | None
    progress: float | None
    progress_note: str | None
    children: list[UUID]
    result: Json | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """True when the agent is completed, failed or terminated."""
        return self.status in ENDED
