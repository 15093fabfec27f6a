"""SIGKILL at every git command of create, commit, remove and gc: no work is lost, and doing it
again ends the same as if nobody had been killed."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import enroll_runner, spawn_agent
from git_scenes import AGENT, clean_on_its_branch, commit, left_behind, rest, sh
from killing import WHEN, killed

from bough.client.database import open_client
from bough.runner.collection import Orders, collect
from bough.runner.workspaces.git import Repo, open_repository
from bough.runner.workspaces.retention import Policy
from bough.runner.workspaces.workspace import Workspace, create, remove


def repository(root: Path) -> Repo:
    root.mkdir(parents=True)
    sh(root, "init", "-q", "--template=", "-b", "main")
    (root / "a.txt").write_text("one\n")
    sh(root, "add", "-A")
    sh(root, "commit", "-q", "-m", "start")
    return asyncio.run(open_repository(root))


def worked(repo: Repo, home: Path, *, agent: str = AGENT) -> tuple[Workspace, set[str]]:
    """A workspace in which work lies everywhere, and all of that work."""
    making = create(repo, agent_id=agent, task="t", home=home, base="main")
    space = asyncio.run(making)
    tree = space.path
    kept = {commit(tree, "ahead")}
    kept.add(commit(tree, "reset"))
    sh(tree, "reset", "-q", "--hard", "HEAD~1")
    sh(tree, "checkout", "-q", "--detach", space.base_commit)
    kept.add(commit(tree, "detached"))
    for name in ("a.txt", "staged", "untracked"):
        (tree / name).write_text(f"{name} not committed\n")
        if name == "staged":
            sh(tree, "add", name)
        kept.add(sh(tree, "hash-object", name))
    return space, kept


def lost(repo: Repo, work: set[str]) -> set[str]:
    reached = {line[:40] for line in sh(repo.root, "rev-list", "--objects", "--all").splitlines()}
    return work - reached


def trees(repo: Repo) -> list[tuple[str, str]]:
    """Each ref with what it holds, whatever the dates of commits."""
    listing = sh(repo.root, "for-each-ref", "--format=%(refname) %(tree)")
    return sorted((name, tree) for name, tree in (line.split() for line in listing.splitlines()))


def every_point(
    place: Path,
    prepare: Callable[[Path], tuple[Repo, Workspace, set[str]]],
    operation: Callable[[Repo, Workspace], Coroutine[Any, Any, object]],
    after: Callable[[Repo, Workspace], object],
    *,
    fewest: int,
    afresh: Callable[[], object] = lambda: None,
) -> None:
    """Kill at each point in turn, do it again, and compare with a run that nobody killed.

    Before every command, and after every second: what Python does in between is in both.
    """
    here, pristine = place / "here", place / "pristine"
    repo, space, work = prepare(here)
    shutil.copytree(here, pristine, symlinks=True)
    asyncio.run(operation(repo, space))
    expected, seen = (trees(repo), after(repo, space)), 0
    assert lost(repo, work) == set()
    for number, when in ((n, when) for n in range(1, 60) for when in WHEN[: 1 + n % 2]):
        shutil.rmtree(here)
        shutil.copytree(pristine, here, symlinks=True)
        afresh()
        if not killed(lambda: operation(repo, space), place, number, when):
            break
        seen += 1
        asyncio.run(operation(repo, space))
        assert lost(repo, work) == set(), (number, when)
        assert (trees(repo), after(repo, space)) == expected, (number, when)
    assert seen >= fewest


def prepared(place: Path) -> tuple[Repo, Workspace, set[str]]:
    repo = repository(place / "repo")
    space, work = worked(repo, place / "home")
    return repo, space, work


def test_a_commit_of_what_was_left_survives_a_kill_at_every_git_command(tmp_path: Path) -> None:
    def after(repo: Repo, space: Workspace) -> object:
        del repo
        return clean_on_its_branch(space)

    every_point(tmp_path, prepared, lambda _, space: rest(space), after, fewest=15)


@pytest.mark.parametrize("keep_branch", [True, False])
def test_a_removal_survives_a_kill_at_every_git_command(tmp_path: Path, keep_branch: bool) -> None:
    def after(repo: Repo, space: Workspace) -> object:
        return [space.path.exists(), list(repo.git_dir.glob("worktrees/*"))]

    def operation(repo: Repo, space: Workspace) -> Coroutine[Any, Any, object]:
        del repo
        return remove(space, keep_branch=keep_branch)

    every_point(tmp_path, prepared, operation, after, fewest=12)


@pytest.mark.parametrize("directory", [True, False])
def test_work_that_a_killed_removal_has_rescued_long_ago_is_not_rescued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bool
) -> None:
    repo = repository(tmp_path / "repo")
    home = tmp_path / "home"
    space = asyncio.run(create(repo, agent_id=AGENT, task="t", home=home, base="main"))
    (space.path / "new").write_text("not committed\n")
    sh(space.path, "add", "-A")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
    tree = sh(space.path, "write-tree")
    before = sh(space.path, "commit-tree", tree, "-p", space.base_commit, "-m", "Left")
    sh(repo.root, "update-ref", f"refs/bough/rescue/{AGENT[:8]}/1", before)
    if not directory:
        shutil.rmtree(space.path)
    asyncio.run(remove(space))
    rescued = sh(repo.root, "for-each-ref", "--format=%(objectname)", "refs/bough/rescue")
    assert rescued == before


def test_a_creation_survives_a_kill_at_every_git_command(tmp_path: Path) -> None:
    def prepare(place: Path) -> tuple[Repo, Workspace, set[str]]:
        repo = repository(place / "repo")
        return repo, Workspace(place / "home", "", repo.head, repo.root), set()

    def operation(repo: Repo, space: Workspace) -> Coroutine[Any, Any, object]:
        return create(repo, agent_id=AGENT, task="t", home=space.path, base="main")

    def after(repo: Repo, space: Workspace) -> object:
        (tree,) = space.path.glob("worktrees/*/*")
        return [sh(tree, "status", "--porcelain"), len(left_behind(repo, space.path))]

    every_point(tmp_path, prepare, operation, after, fewest=6)


def test_a_worktree_that_comes_back_after_a_removal_by_hand_survives_a_kill_too(
    tmp_path: Path,
) -> None:
    def prepare(place: Path) -> tuple[Repo, Workspace, set[str]]:
        repo, space, work = prepared(place)
        gone = {sh(space.path, "hash-object", name) for name in ("a.txt", "untracked")}
        shutil.rmtree(space.path)
        return repo, space, work - gone

    async def operation(repo: Repo, space: Workspace) -> object:
        home = space.path.parents[2]
        again = await create(repo, agent_id=AGENT, task="t", home=home, base="main")
        return await rest(again)

    def after(repo: Repo, space: Workspace) -> object:
        del repo
        return clean_on_its_branch(space)

    every_point(tmp_path, prepare, operation, after, fewest=18)


async def ended(dsn: str, repo: Repo, space: Workspace, agent_id: UUID) -> None:
    """Record an agent that has ended in this workspace."""
    async with open_client(dsn, actor="test") as client:
        runner = await enroll_runner(client)
        spawned = await spawn_agent(
            client,
            key=agent_id,
            runner_id=runner,
            repo_path=str(repo.root),
            base_commit=space.base_commit,
        )
        await client.claim(runner, slots=1, root_id=spawned.root_id)
        await client.open_workspace(
            agent_id,
            epoch=1,
            path=str(space.path),
            branch=space.branch,
            base_commit=space.base_commit,
        )
        await client.complete(agent_id, epoch=1, result={})


async def collected(dsn: str, home: Path) -> object:
    async with open_client(dsn, actor="test") as client:
        orders = Orders(home=home, policy=Policy(quota_bytes=0))
        return await collect(client, orders)


async def state_of(dsn: str, agent_id: UUID) -> str | None:
    async with open_client(dsn, actor="test") as client:
        return (await client.show(agent_id)).isolation_status


@pytest.mark.usefixtures("sessions")
def test_a_collection_survives_a_kill_at_every_git_command(tmp_path: Path, database: str) -> None:
    agent = UUID(AGENT)

    def prepare(place: Path) -> tuple[Repo, Workspace, set[str]]:
        repo = repository(place / "repo")
        space, work = worked(repo, place / "home")
        asyncio.run(ended(database, repo, space, agent))
        return repo, space, work

    def operation(repo: Repo, space: Workspace) -> Coroutine[Any, Any, object]:
        del repo
        return collected(database, space.path.parents[2])

    def after(repo: Repo, space: Workspace) -> object:
        there = space.path.exists() or list(repo.git_dir.glob("worktrees/*"))
        found = list(space.path.parent.iterdir()) + list(repo.git_dir.glob("bough-gone*"))
        return [there, found, asyncio.run(state_of(database, agent))]

    def afresh() -> None:
        with psycopg.connect(database, autocommit=True) as conn:
            conn.execute("update bough.workspaces set isolation_status = 'active'")

    every_point(tmp_path, prepare, operation, after, fewest=12, afresh=afresh)
