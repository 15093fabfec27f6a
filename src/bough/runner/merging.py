"""Brings the work of agents into branches, by way of the queue that stands in the database.

Guarantees: a merge that is queued is done once or ends with a reason, whoever dies; whoever holds
a branch's lock takes all that waits for it as one batch, the others wait without asking again and
are told; what a kill left half-way is finished first. No transaction is open while git or a gate
runs. When it breaks: NoWorkspace, IllegalTransition (the agent has not ended), NoCommit (no such
branch), BadConfiguration; then nothing of the caller's stays in line.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from bough.client.errors import IllegalTransition, NoWorkspace
from bough.client.hints import Listen, tree_channel
from bough.client.merges import Merge
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner.lineage import workspace_of
from bough.runner.merge_queue import QueueWorker, recipe_for
from bough.runner.workspaces.batch import GateFailed, Outcome, land
from bough.runner.workspaces.git import (
    GitError,
    NoCommit,
    Repo,
    commit_of,
    is_ancestor,
    open_repository,
)
from bough.runner.workspaces.merge import Merged
from bough.runner.workspaces.queue_lock import QueueLock
from bough.runner.workspaces.settings import Strategy, settings_at
from bough.runner.workspaces.strategies import Work, is_landed
from bough.runner.workspaces.target import lock_of
from bough.runner.workspaces.trees import MergeConflict

_LOOK_ANYWAY_S = 20.0


Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """An agent's work, the branch that is to take it, in which repository, and how."""

    agent: Agent
    target: str
    repository: Repo
    strategy: Strategy


async def wishes_of(
    agents: Sequence[Agent], into: str | None, strategy: Strategy | None
) -> list[Wish]:
    """Everything checked that can be before anything is queued.

    Without `strategy` it is the one that each target's bough.toml names.
    """
    repositories: dict[Path, Repo] = {}
    named: dict[tuple[Path, str], Strategy] = {}
    wishes: list[Wish] = []
    for agent in agents:
        path, target = _ask(agent, into)
        if path not in repositories:
            repositories[path] = await open_repository(path)
        if (path, target) not in named:
            named[path, target] = await _strategy(repositories[path], target)
        chosen = strategy or named[path, target]
        wishes.append(Wish(agent, target, repositories[path], chosen))
    return wishes


def _ask(agent: Agent, into: str | None) -> tuple[Path, str]:
    """The repository and branch that an agent's work goes to. Raises what keeps it from going."""
    short = str(agent.id)[:8]
    workspace = workspace_of(agent)
    if not agent.has_ended:
        raise IllegalTransition(
            f"agent {short} is still {agent.status}; wait for it (bough wait {short}) or end it"
        )
    target = (into or agent.target_branch or "").removeprefix("refs/heads/")
    if not target:
        raise NoWorkspace(f"agent {short} started from no branch; say where to: --into BRANCH")
    if agent.head_commit is None:
        raise NoWorkspace(f"the work of agent {short} is not committed yet; try again in a moment")
    return workspace.repo, target


async def _strategy(repository: Repo, target: str) -> Strategy:
    tip = await commit_of(repository.root, f"refs/heads/{target}")
    if tip is None:
        advice = f"see what it has: git -C {repository.root} branch -a"
        raise NoCommit(f"{repository.root} has no branch {target!r}; {advice}")
    return (await settings_at(repository.root, tip)).merge.strategy


async def merge_agents(
    client: RunnerClient, listen: Listen, wishes: Sequence[Wish], *, tell: Tell = lambda _: None
) -> list[Merge]:
    """Queue all of these and see them done, in order; what became of each."""
    queued: dict[UUID, Wish] = {}
    try:
        for wish in wishes:
            key = uuid4()
            queued[key] = wish
            await client.queue_merge(
                key, wish.agent.id, target_branch=wish.target, strategy=wish.strategy
            )
        while waiting := await _unfinished(client, list(queued)):
            await _see_done(client, listen, queued[waiting[0].id], waiting, tell)
    except BaseException:
        await asyncio.shield(_withdraw(client, list(queued)))
        raise
    return await client.merges(list(queued))


async def work_queue(
    client: RunnerClient, repository: Repo, repo_path: str, *, tell: Tell = lambda _: None
) -> list[Merge]:
    """Do all that waits in a repository, for whichever branch; what became of each."""
    lines = await client.merge_queue(repo_path, target_branch=None)
    for target in dict.fromkeys(line.branch for line in lines):
        worker = QueueWorker(client, repository, repo_path, target, tell)
        lock = QueueLock(lock_of(repository, target))
        try:
            await asyncio.shield(lock.take())
            while await worker.take_all():
                pass
        finally:
            lock.release()
    return await client.merges([line.id for line in lines])


async def _unfinished(client: RunnerClient, keys: list[UUID]) -> list[Merge]:
    return [merge for merge in await client.merges(keys) if merge.status == "queued"]


async def _withdraw(client: RunnerClient, keys: list[UUID]) -> None:
    for merge in await _unfinished(client, keys):
        await client.withdraw_merge(merge.id)


async def _see_done(
    client: RunnerClient, listen: Listen, wish: Wish, waiting: list[Merge], tell: Tell
) -> None:
    """Return when those of `waiting` that go into the branch of `wish` have been done."""
    own = [merge.id for merge in waiting if merge.branch == wish.target]
    worker = QueueWorker(client, wish.repository, str(wish.agent.repo_path), wish.target, tell)
    lock = QueueLock(lock_of(wish.repository, wish.target))
    try:
        taken = lock.take()
        if not taken.done():
            tell(f"{wish.target}: waits for the merge that is under way")
            await _until_taken_or_done(client, listen, wish, own, taken)
        if taken.done():
            taken.result()
        while taken.done() and await _unfinished(client, own) and await worker.take_all():
            pass
    finally:
        lock.release()


async def _until_taken_or_done(
    client: RunnerClient, listen: Listen, wish: Wish, own: list[UUID], taken: asyncio.Future[None]
) -> None:
    async with AsyncExitStack() as stack:
        hints = await stack.enter_async_context(listen(tree_channel(wish.agent.root_id)))
        while not taken.done() and await _unfinished(client, own):
            news = asyncio.create_task(hints.wait(_LOOK_ANYWAY_S))
            try:
                await asyncio.wait({taken, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
                await asyncio.gather(news, return_exceptions=True)


def error_of(merge: Merge) -> GitError | None:
    """What kept a merge from landing, as an error; None when it has landed."""
    reason = merge.reason or f"the merge was {merge.status}"
    match merge.status:
        case "merged":
            return None
        case "conflicted":
            return MergeConflict(reason, merge.conflicts)
        case "gate_failed":
            return GateFailed(reason, merge.gate_output or "")
        case _:
            return GitError(reason)


async def merged_of(wish: Wish, merge: Merge) -> Merged:
    """A merge that has landed. Raises what kept it from landing."""
    error = error_of(merge)
    if error:
        raise error
    old, new, source = map(str, (merge.previous_commit, merge.merged_commit, merge.source_commit))
    forward = old != new and await is_ancestor(wish.repository.root, old, source)
    return Merged(merge.branch, new, old, forward)


async def forecast(wishes: Sequence[Wish]) -> list[Outcome]:
    """What would become of these, merged in this order; nothing is queued and nothing moves."""
    found: dict[int, Outcome] = {}
    for target in dict.fromkeys(wish.target for wish in wishes):
        numbered = {n: wish for n, wish in enumerate(wishes) if wish.target == target}
        repository = next(iter(numbered.values())).repository
        works: dict[int, Work] = {}
        for number, wish in numbered.items():
            work, there = await _work_of(wish)
            if there:
                found[number] = Outcome("merged", work.strategy, work.commit, there, there)
            else:
                works[number] = work
        found |= (
            await land(repository, target, works, plan=_nothing, record=_nothing, dry_run=True)
            or {}
        )
    return [found[number] for number in range(len(wishes))]


async def _nothing(_: object) -> bool:
    return False


async def _work_of(wish: Wish) -> tuple[Work, str | None]:
    """The work of a wish, and the commit by which the target has it already."""
    agent, root = wish.agent, wish.repository.root
    branch = str(agent.branch_name)
    commit = await commit_of(root, f"refs/heads/{branch}") or str(agent.head_commit)
    recipe = recipe_for(agent.id, agent.role, branch, agent.task, wish.strategy)
    work = Work(branch, commit, wish.strategy, recipe)
    took = agent.merged_commit
    tip = await commit_of(root, f"refs/heads/{wish.target}")
    same = took and agent.merged_into == wish.target and commit == agent.head_commit
    landed = took if took and same and tip and await is_landed(root, tip, took) else None
    return work, landed
