"""Takes away worktrees that are no longer used, and what killed programs have left: `bough gc`.

Guarantees: only directories of agents that have ended go, by age or over a quota, and only once a
ref reaches all that was in them; what cannot be kept by a ref keeps its directory, and is told.
The directory goes first and the database is told after: killed anywhere, another run finds the
directory gone and records it. One run at a time in a home; runners are kept out by locks.
When it breaks: BoughError or GitError, one line; what was done until then is done.
"""

import socket
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

from bough.client.errors import AgentNotFound
from bough.client.rows import ENDED
from bough.client.runner_calls import RunnerClient
from bough.client.work_rows import KeptWorkspace
from bough.runner.programs.inside import inside
from bough.runner.workspaces import pool
from bough.runner.workspaces.disk import disk_bytes
from bough.runner.workspaces.git import (
    Busy,
    GitError,
    Repo,
    commit_of,
    is_ancestor,
    locked,
    open_repository,
)
from bough.runner.workspaces.leftovers import idle, leftovers, sweep
from bough.runner.workspaces.removal import alone, delete, obstacle, remove
from bough.runner.workspaces.retention import Candidate, Policy, chosen
from bough.runner.workspaces.workspace import location
from bough.runner.workspaces.worktree import Workspace, WorkspaceError, places

_UNTAKEN_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do: the policy, in which repository (None: all), also branches, only to look."""

    home: Path
    policy: Policy
    repository: Repo | None = None
    branches: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One directory and what became of it: removed (in a dry run: would be), or kept and why."""

    what: str
    path: str
    agent_id: UUID | None
    state: str
    age_s: int | None
    size_bytes: int
    removed: bool
    reason: str


@dataclass(slots=True)
class Collected:
    """All that was looked at; `kept` counts what stays by policy and what could not go."""

    items: list[Item] = field(default_factory=list[Item])
    freed_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0


def policy_for(*, older_than_s: int | None, only_merged: bool, quota_bytes: int | None) -> Policy:
    """The policy of this run: what was asked for, else the defaults, which settings may change."""
    default = Policy()
    return Policy(
        merged_s=default.merged_s if older_than_s is None else older_than_s,
        ended_s=default.ended_s if older_than_s is None else older_than_s,
        only_merged=only_merged,
        quota_bytes=default.quota_bytes if quota_bytes is None else quota_bytes,
    )


async def collect(client: RunnerClient, orders: Orders) -> Collected:
    """Do it, or with `dry_run` only say what would be done."""
    if orders.dry_run or not orders.home.is_dir():
        return await _Run(client, orders).all()
    async with locked(orders.home / "gc.lock"):
        return await _Run(client, orders).all()


class _Run:
    """One run of the collection."""

    def __init__(self, client: RunnerClient, orders: Orders) -> None:
        self._client = client
        self._orders = orders
        self._done = Collected()
        self._scratch: dict[UUID, tuple[UUID, Path]] = {}

    async def all(self) -> Collected:
        """Worktrees by policy, then scratch directories with them, then leftovers."""
        orders = self._orders
        every = await self._client.kept_workspaces()
        root = str(orders.repository.root) if orders.repository else None
        rows = {row.id: row for row in every if root in (None, row.repository)}
        here = {k: r for k, r in rows.items() if Path(r.worktree_path).is_dir()}
        for row in rows.values():
            lost = row.id not in here and row.status in ENDED
            if lost and row.host in (None, socket.gethostname()):
                self._tell(await self._remove(row, "its directory was removed by hand", 0))
        candidates = [await self._candidate(row) for row in here.values()]
        if root is None:
            candidates += await self._scratch_candidates()
        await self._by_policy(here, candidates)
        await self._sweep(every)
        return self._done

    async def _candidate(self, row: KeptWorkspace) -> Candidate:
        size = await disk_bytes(Path(row.worktree_path))
        ended, merged = row.status in ENDED, row.isolation_status == "merged"
        return Candidate(row.id, ended, merged, row.age_s, size)

    async def _scratch_candidates(self) -> list[Candidate]:
        """Scratch directories and the homes of programs: no git keeps what is in them."""
        found: list[Candidate] = []
        home = self._orders.home
        for place in sorted([*home.glob("scratch/*"), *home.glob("agents/*")]):
            try:
                agent = await self._client.show(UUID(place.name))
            except (ValueError, AgentNotFound):
                why = "no agent in this database has it"
                self._tell(Item(_what(place), str(place), None, "", None, 0, False, why))
                continue
            key = uuid5(agent.id, place.parent.name)
            self._scratch[key] = agent.id, place
            since = datetime.now(UTC) - (agent.completed_at or agent.created_at)
            size, age_s = await disk_bytes(place), int(since.total_seconds())
            found.append(Candidate(key, agent.has_ended, False, age_s, size))
        return found

    async def _by_policy(
        self, rows: dict[UUID, KeptWorkspace], candidates: list[Candidate]
    ) -> None:
        """Remove what must go; who cannot makes room for the next in line over the quota."""
        stay = {c.key: c for c in candidates}
        while going := chosen(list(stay.values()), self._orders.policy):
            for key, why in going.items():
                row, one = rows.get(key), stay[key]
                if row:
                    item = await self._remove(row, why, one.size_bytes)
                else:
                    item = await self._remove_scratch(one, why)
                self._tell(item)
                if item.removed:
                    del stay[key]
                else:
                    stay[key] = replace(one, ended=False)
        self._done.kept += len(stay)
        self._done.kept_bytes += sum(c.size_bytes for c in stay.values())

    def _tell(self, item: Item) -> None:
        self._done.items.append(item)
        self._done.freed_bytes += item.size_bytes if item.removed else 0

    async def _remove(self, row: KeptWorkspace, why: str, size: int) -> Item:
        """Remove one worktree and record that, unless something forbids it."""
        space = Workspace(
            Path(row.worktree_path), row.branch_name, row.base_commit, Path(row.repository)
        )
        state = "merged" if row.isolation_status == "merged" else row.status
        item = Item("worktree", row.worktree_path, row.id, state, row.age_s, size, True, why)
        try:
            if not space.repo.is_dir():
                if space.path.is_dir():
                    raise WorkspaceError(f"its repository {space.repo} is gone; nothing is saved")
                why = f"{why}, and its repository"
            else:
                await self._forbidden(space)
                drops_branch = self._orders.branches and await _is_merged_whole(row, space)
                why += ", with its branch" if drops_branch else ""
                if not self._orders.dry_run:
                    await remove(space, keep_branch=not drops_branch)
        except (GitError, OSError) as error:
            return replace(item, removed=False, reason=_short(str(error), space.path))
        if not self._orders.dry_run:
            await self._client.remove_workspace(row.id)
        return replace(item, reason=why)

    async def _forbidden(self, space: Workspace) -> None:
        """Raise WorkspaceError with what keeps a worktree from being removed."""
        _refuse_if_used(space.path)
        git_dir, admin = await places(space)
        async with alone(git_dir, space.path, admin) as admin:
            why = await obstacle(space, admin) if admin else None
        if why:
            raise WorkspaceError(why)

    async def _remove_scratch(self, one: Candidate, why: str) -> Item:
        agent_id, place = self._scratch[one.key]
        item = Item(
            _what(place), str(place), agent_id, "ended", one.age_s, one.size_bytes, True, why
        )
        try:
            _refuse_if_used(place)
            async with locked(place, patience_s=0):
                if not self._orders.dry_run:
                    await delete(place)
        except Busy:
            return replace(item, removed=False, reason="in use by its runner")
        except GitError as error:
            return replace(item, removed=False, reason=str(error))
        return item

    async def _sweep(self, every: list[KeptWorkspace]) -> None:
        """Delete what killed programs left; tell what belongs to nobody."""
        only = self._orders.repository
        roots = {Path(row.repository) for row in every}
        git_dirs = (
            [only.git_dir] if only else [d for r in sorted(roots) if (d := await _git_dir(r))]
        )
        home = self._orders.home.resolve()
        if only:
            folders = [location(home, only.git_dir, "", "")[0].parent]
        else:
            folders = sorted(home.glob("worktrees/*"))
        for folder in folders:
            await self._drain(folder / pool.FOLDER, git_dirs)
        known = {Path(row.worktree_path) for row in every}
        for found in leftovers(folders, git_dirs, known):
            size = await disk_bytes(found.path)
            goes = found.swept and (
                await idle(found) if self._orders.dry_run else await sweep(found)
            )
            reason = found.reason if goes or not found.swept else "somebody is at it"
            item = Item("leftover", str(found.path), None, "", None, size, goes, reason)
            self._tell(item)

    async def _drain(self, place: Path, git_dirs: list[Path]) -> None:
        """Spare worktrees go when nobody took one for a week, or where a quota is passed."""
        if not place.is_dir():
            return
        age_s, size = int(time.time() - place.stat().st_mtime), await disk_bytes(place)
        quota = self._orders.policy.quota_bytes
        full = quota is not None and self._done.kept_bytes + size > quota
        goes = full or age_s > _UNTAKEN_S
        why = "spares over the quota" if full else "spares for new agents"
        for git_dir in git_dirs if goes and not self._orders.dry_run else ():
            await pool.drain(git_dir, place.parent)
        self._tell(Item("spares", str(place), None, "", age_s, size, goes, why))


def _refuse_if_used(place: Path) -> None:
    pids = inside(place)
    if pids:
        who = ", ".join(map(str, pids[:3]))
        raise WorkspaceError(f"in use: process {who} works there")


def _what(place: Path) -> str:
    return "home" if place.parent.name == "agents" else "scratch"


def _short(message: str, path: Path) -> str:
    return message.removeprefix(f"{path} is not removed: ").removeprefix(f"{path} ")


async def _git_dir(root: Path) -> Path | None:
    try:
        return (await open_repository(root)).git_dir
    except GitError:
        return None


async def _is_merged_whole(row: KeptWorkspace, space: Workspace) -> bool:
    """Whether a branch may go: all it has was merged, and nobody stands on it or needs it."""
    if row.isolation_status != "merged" or not row.merged_into or row.is_target:
        return False
    ref, repo = f"refs/heads/{space.branch}", space.repo
    tip, target = await commit_of(repo, ref), await commit_of(repo, f"refs/heads/{row.merged_into}")
    git_dir, own = await places(space)
    heads = [git_dir / "HEAD", *git_dir.glob("worktrees/*/HEAD")]
    standing = [h for h in heads if h.parent != own and h.read_text().strip() == f"ref: {ref}"]
    if tip is None or target is None or standing:
        return False
    if await is_ancestor(repo, tip, target):
        return True
    # A squashed or replayed merge: the work is in the target, the branch's own commits are not.
    merged = row.merged_commit and await commit_of(repo, row.merged_commit)
    return bool(merged and tip == row.head_commit and await is_ancestor(repo, merged, target))
