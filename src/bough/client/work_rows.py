"""What the calls about work return and take: frozen rows, field for field the kernel's columns."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that an agent changed; paths as `paths.text_of` writes them, lines None: no text.

    kind is created, modified, deleted or renamed; only a renamed file has an old path.
    """

    path: str
    kind: str
    lines_added: int | None
    lines_removed: int | None
    old_path: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """Which agent changed which file, and what became of it; paths as in FileChange."""

    id: UUID
    root_id: UUID
    role: str
    status: str
    path: str
    kind: str
    old_path: str | None
    lines_added: int | None
    lines_removed: int | None
    saved_at: datetime
    repository: str
    isolation_status: str
    merged_into: str | None
    merged_commit: str | None


@dataclass(frozen=True, slots=True)
class Work:
    """What an agent and all below it have changed; disk_bytes is what their worktrees take now."""

    agents: int
    files_changed: int
    lines_added: int
    lines_removed: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class KeptWorkspace:
    """A worktree that was not removed yet; age_s are the seconds since its agent ended or it was
    last saved or merged. is_target: other work is to be merged into its branch still. host ran it.
    """

    id: UUID
    root_id: UUID
    task: str
    status: str
    age_s: int
    repository: str
    worktree_path: str
    branch_name: str
    base_commit: str
    head_commit: str | None
    isolation_status: str
    merged_into: str | None
    merged_commit: str | None
    is_target: bool
    host: str | None
