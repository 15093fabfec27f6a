"""Which worktrees go, by age and by a quota: a decision about numbers, nothing is touched here.

Guarantees: only an ended agent's worktree is ever chosen; over the quota the one that has been
unused longest goes first, and no more than needed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Policy:
    """How long worktrees are kept after their last use, in seconds, and how much disk they get."""

    merged_s: int = DAY_S
    ended_s: int = 14 * DAY_S
    only_merged: bool = False
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A directory that may have to go, of the agent `key`; age_s since it was last used."""

    key: UUID
    ended: bool
    merged: bool
    age_s: int
    size_bytes: int


def chosen(candidates: Sequence[Candidate], policy: Policy) -> dict[UUID, str]:
    """Which ones go, and why."""
    eligible = [c for c in candidates if c.ended and (c.merged or not policy.only_merged)]
    going = {c.key: _reason(c) for c in eligible if c.age_s >= _limit_s(c, policy)}
    if policy.quota_bytes is not None:
        left = _size(c for c in candidates if c.key not in going)
        for candidate in sorted(eligible, key=lambda c: -c.age_s):
            if left <= policy.quota_bytes:
                break
            if candidate.key not in going and candidate.size_bytes:
                going[candidate.key] = "over the quota"
                left -= candidate.size_bytes
    return going


def _limit_s(candidate: Candidate, policy: Policy) -> int:
    return policy.merged_s if candidate.merged else policy.ended_s


def _reason(candidate: Candidate) -> str:
    return "merged" if candidate.merged else "ended"


def _size(candidates: Iterable[Candidate]) -> int:
    return sum(c.size_bytes for c in candidates)
