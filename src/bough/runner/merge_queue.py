"""Takes all that waits for one branch, in order, as one batch.

Guarantees: what a killed predecessor planned is looked at first: what has landed is recorded and
never merged again, what was about to land is landed as it was, for its gates had passed. Then the
rest is tried on the branch's tip; each ends in the database with what became of it. The caller
holds the branch's lock. When it breaks: BadConfiguration, GitError; who was not done stays in line.
"""

from collections.abc import Callable
from uuid import UUID

from bough.client.merges import InLine
from bough.client.runner_calls import RunnerClient
from bough.runner.lineage import email_of
from bough.runner.workspaces.batch import GateFailed, Outcome, Step, land
from bough.runner.workspaces.commits import Recipe
from bough.runner.workspaces.git import GitError, NoCommit, Repo, commit_of, git
from bough.runner.workspaces.settings import Strategy, strategy_of
from bough.runner.workspaces.strategies import Work, is_landed
from bough.runner.workspaces.target import TargetDirty, checkout_of, mend, move, ready
from bough.runner.workspaces.trees import MergeConflict


def recipe_for(agent_id: UUID, role: str, branch: str, task: str, strategy: Strategy) -> Recipe:
    """Message, author and committer of the commit that brings an agent's work."""
    email = email_of(agent_id)
    trailer = f"Agent: {agent_id}\n"
    text = task.strip()
    if strategy == "squash":
        subject, _, body = text.partition("\n")
        body = f"{subject[72:]}{body}".strip() if len(subject) > 72 else body.strip()
        message = f"{subject[:72]}\n\n{body}\n\n{trailer}" if body else f"{subject}\n\n{trailer}"
        return Recipe(message, f"bough {role}", email, committer=("bough", email))
    message = f"Merge {branch}\n\n{text}\n\n{trailer}"
    return Recipe(message, "bough", email, committer=("bough", email))


def _storable(text: str) -> str:
    # The database keeps Unicode; a path may be any bytes.
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\ufffd")


class QueueWorker:
    """Does what waits for one branch of one repository."""

    def __init__(
        self,
        client: RunnerClient,
        repository: Repo,
        repo_path: str,
        target: str,
        tell: Callable[[str], None],
    ) -> None:
        self._client = client
        self._repository = repository
        self._root = repository.root
        self._repo_path = repo_path
        self._target = target
        self._tell = tell
        self._recorded: set[UUID] = set()

    async def take_all(self) -> bool:
        """Do what waits now; False when nothing did."""
        lines = await self._client.merge_queue(self._repo_path, target_branch=self._target)
        if not lines:
            return False
        planned = [line for line in lines if line.planned_commit]
        if planned and await self._finish_plan(planned):
            return True
        tips = await self._tips(lines)
        works = {line.id: work for line in lines if (work := await self._work(line, tips))}
        if len(works) > 1:
            self._tell(f"{self._target}: merges {len(works)} in one go")
        try:
            landed = await land(
                self._repository,
                self._target,
                works,
                plan=self._plan,
                record=self._record_all,
                tell=self._tell,
            )
        except NoCommit as gone:
            landed = {
                key: Outcome("refused", work.strategy, work.commit, error=gone)
                for key, work in works.items()
            }
        await self._record_all(landed or {})
        for line in lines:
            if line.settled and line.id in self._recorded:
                # Its work is in the branch, or its own branch keeps what it started from.
                ref = f"refs/bough/resolve/{line.agent_id}"
                await git(self._root, "update-ref", "-d", ref, check=False)
        return True

    async def _record_all(self, outcomes: dict[UUID, Outcome]) -> None:
        for key, outcome in outcomes.items():
            if key not in self._recorded:
                await self._record(key, outcome)

    async def _finish_plan(self, planned: list[InLine]) -> bool:
        """Record or finish what a predecessor was landing when it was killed; False: neither."""
        ref = f"refs/heads/{self._target}"
        landed = [p for p in planned if await is_landed(self._root, ref, str(p.planned_commit))]
        if not landed and await self._moved_as_planned(planned):
            landed = planned
        for line in landed:
            took = (str(line.planned_source), str(line.planned_on), str(line.planned_commit))
            await self._record(line.id, Outcome("merged", strategy_of(line.strategy), *took))
        return bool(landed)

    async def _moved_as_planned(self, planned: list[InLine]) -> bool:
        """Move the branch as it was planned, if it still is where the plan begins."""
        commits = [str(line.planned_commit) for line in planned]
        tip = await commit_of(self._root, f"refs/heads/{self._target}")
        # Who may see a part of the queue only, or plans beside another, does not hold all of it.
        whole = [line.planned_on for line in planned] == [tip, *commits[:-1]]
        if tip is None or not whole or await commit_of(self._root, commits[-1]) is None:
            return False
        ends = {"old": tip, "new": commits[-1]}
        try:
            checkout = await checkout_of(self._repository, self._target)
            if checkout:
                await mend(checkout, **ends)
            checkout = await ready(self._repository, self._target, **ends)
            return await move(self._repository, self._target, checkout, **ends)
        except TargetDirty:
            return False

    async def _tips(self, lines: list[InLine]) -> dict[str, str]:
        """The commit of each branch that is to be merged and still there."""
        refs = [f"refs/heads/{line.source_branch}" for line in lines]
        form = "--format=%(refname:lstrip=2) %(objectname)"
        listed = await git(self._root, "for-each-ref", form, *refs)
        pairs = [line.rpartition(" ") for line in listed.splitlines()]
        return {name: commit for name, _, commit in pairs}

    async def _work(self, line: InLine, tips: dict[str, str]) -> Work | None:
        """What to bring; None when it was decided by a look at what is there."""
        tip, strategy = tips.get(line.source_branch), strategy_of(line.strategy)
        # Without its branch, the commit that was saved at the agent's end is its work.
        commit = tip or line.head_commit
        recipe = recipe_for(line.agent_id, line.role, line.source_branch, line.task, strategy)
        work = Work(line.source_branch, commit, strategy, recipe, tuple(line.settled))
        if tip is None and await commit_of(self._root, commit) is None:
            error = NoCommit(f"{self._root} has neither {line.source_branch} nor {commit[:10]}")
            await self._record(line.id, Outcome("refused", strategy, commit, error=error))
            return None
        for source, landed in zip(line.landed_sources, line.landed_commits, strict=True):
            target = f"refs/heads/{self._target}"
            if source == commit and await is_landed(self._root, target, landed):
                there = Outcome("merged", strategy, commit, landed, landed)
                await self._record(line.id, there)
                return None
        return work

    async def _plan(self, steps: list[Step[UUID]]) -> bool:
        """Write down what the branch is about to become; False when somebody withdrew."""
        stand = await self._client.plan_merges(
            [step.key for step in steps],
            sources=[step.work.commit for step in steps],
            previous=[step.old for step in steps],
            commits=[step.new for step in steps],
        )
        return len(stand) == len(steps)

    async def _record(self, key: UUID, outcome: Outcome) -> None:
        error: GitError | None = outcome.error
        landed = error is None
        await self._client.record_merge(
            key,
            status=outcome.status,
            source=outcome.source,
            previous=outcome.previous if landed else None,
            commit=outcome.commit if landed else None,
            conflicts=[_storable(path) for path in error.paths]
            if isinstance(error, MergeConflict)
            else [],
            reason=None if error is None else _storable(str(error)),
            gate_output=error.output if isinstance(error, GateFailed) else None,
        )
        self._recorded.add(key)
