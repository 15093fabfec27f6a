"""Workspaces on real repositories: named safely, isolated, made again when they were lost."""

import asyncio
import subprocess
import uuid
from pathlib import Path

import pytest
from git_scenes import AGENT, clean_on_its_branch, commit, content, left_behind, rest, sh

from bough.runner.workspaces.git import Repo, locked
from bough.runner.workspaces.workspace import Workspace, changes, create, location, remove

pytest_plugins = ["git_scenes"]


@pytest.mark.parametrize(
    ("task", "slug"),
    [
        ("Fix the Login bug!", "fix-the-login-bug"),
        ("Größe prüfen", "groe-prufen"),
        ("🙂", "task"),
        ("", "task"),
        ("../../etc/passwd", "etc-passwd"),
        ("a..b.lock", "a-b-lock"),
        ("--force", "force"),
        ("x" * 39 + " y" * 40, "x" * 39),
        ("修正", "task"),
    ],
)
def test_a_name_is_safe_for_refs_and_paths_whatever_the_task(task: str, slug: str) -> None:
    path, branch = location(Path("/h"), Path("/src/My Répo/.git"), AGENT, task)
    assert branch == f"bough/6f1d2c3b/{slug}"
    assert path.name == f"6f1d2c3b-{slug}"
    assert path.parent.name.startswith("my-repo-")
    assert path.parent.parent == Path("/h/worktrees")


def test_two_repositories_of_the_same_name_do_not_share_a_directory() -> None:
    one, two = (location(Path("/h"), Path(p), AGENT, "t")[0] for p in ("/a/r/.git", "/b/r/.git"))
    assert one != two


async def test_a_new_workspace_holds_the_base_commit_on_a_branch_of_its_own(
    repository: Repo, space: Workspace
) -> None:
    assert space.base_commit == repository.head
    assert sh(space.path, "rev-parse", "HEAD") == repository.head
    assert clean_on_its_branch(space)
    assert await changes(space) == []


async def test_creating_again_returns_the_same_one_with_its_first_base_and_its_unsaved_work(
    repository: Repo, space: Workspace, home: Path
) -> None:
    (space.path / "a.txt").write_text("unsaved\n")
    commit(repository.root, "later.txt")
    again = await create(repository, agent_id=AGENT, task="Fix it", home=home, base="main")
    assert again == space
    assert (space.path / "a.txt").read_text() == "unsaved\n"


@pytest.mark.parametrize("pruned", [False, True])
async def test_a_directory_removed_by_hand_comes_back_with_every_commit(
    repository: Repo, space: Workspace, home: Path, pruned: bool
) -> None:
    sha = commit(space.path, "work.txt")
    subprocess.run(["rm", "-rf", str(space.path)], check=True)
    if pruned:
        sh(repository.root, "worktree", "prune")
    again = await create(repository, agent_id=AGENT, task="Fix it", home=home, base="main")
    assert again == space
    assert sh(space.path, "rev-parse", "HEAD") == sha
    assert (space.path / "work.txt").exists()
    assert clean_on_its_branch(space)


async def test_commits_on_a_detached_head_survive_the_directory_being_removed_by_hand(
    repository: Repo, space: Workspace, home: Path
) -> None:
    sh(space.path, "checkout", "-q", "--detach")
    commit(space.path, "detached.txt")
    subprocess.run(["rm", "-rf", str(space.path)], check=True)
    await create(repository, agent_id=AGENT, task="Fix it", home=home, base="main")
    await rest(space)
    assert content(space, "detached.txt") == "x"


async def test_two_agents_whose_ids_begin_alike_get_branches_of_their_own(
    repository: Repo, space: Workspace, home: Path
) -> None:
    twin = AGENT[:8] + str(uuid.uuid4())[8:]
    other = await create(repository, agent_id=twin, task="Fix it", home=home, base="main")
    assert (other.path, other.branch) != (space.path, space.branch)
    assert await create(repository, agent_id=twin, task="Fix it", home=home, base="main") == other


async def test_forty_creations_eight_at_a_time_all_succeed(repository: Repo, home: Path) -> None:
    gate = asyncio.Semaphore(8)

    async def one() -> Workspace:
        async with gate:
            agent = str(uuid.uuid4())
            return await create(repository, agent_id=agent, task="t", home=home, base="main")

    made = await asyncio.gather(*(one() for _ in range(40)))
    assert len({space.path for space in made}) == 40
    assert all((space.path / "a.txt").exists() for space in made)


async def test_two_creations_of_one_workspace_at_once_give_the_same_whole_one(
    repository: Repo, home: Path
) -> None:
    same = [create(repository, agent_id=AGENT, task="t", home=home, base="main") for _ in range(6)]
    made = await asyncio.gather(*same)
    assert len(set(made)) == 1
    assert clean_on_its_branch(made[0])


async def test_creation_waits_for_the_lock_of_another_program(repository: Repo, home: Path) -> None:
    async with locked(repository.git_dir / "bough-worktrees.lock"):
        making = asyncio.create_task(
            create(repository, agent_id=AGENT, task="t", home=home, base="main")
        )
        done, _ = await asyncio.wait([making], timeout=0.15)
        assert not done
        assert left_behind(repository, home) == []
    assert (await making).path.exists()


async def test_ten_agents_change_the_same_file_and_never_see_each_other(
    repository: Repo, home: Path
) -> None:
    async def work(number: int) -> Workspace:
        agent = str(uuid.uuid4())
        space = await create(repository, agent_id=agent, task="t", home=home, base="main")
        assert (space.path / "a.txt").read_text() == "one\ntwo\nthree\n"
        (space.path / "a.txt").write_text(f"agent {number}\n")
        await rest(space)
        return space

    spaces = await asyncio.gather(*(work(number) for number in range(10)))
    assert [content(space, "a.txt") for space in spaces] == [f"agent {n}" for n in range(10)]
    assert (repository.root / "a.txt").read_text() == "one\ntwo\nthree\n"


async def test_hooks_and_signing_in_the_repositorys_settings_are_not_used(
    repository: Repo, home: Path, tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    names = ("pre-commit", "commit-msg", "post-checkout", "post-commit", "reference-transaction")
    for name in names:
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran-{name}'\nexit 1\n")
        (hooks / name).chmod(0o755)
    sh(repository.root, "config", "core.hooksPath", str(hooks))
    sh(repository.root, "config", "commit.gpgSign", "true")
    sh(repository.root, "config", "gpg.program", "/bin/false")
    sh(repository.root, "config", "core.editor", "/bin/false")
    space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    (space.path / "new").write_text("n")
    await rest(space)
    assert content(space, "new") == "n"
    await remove(space)
    assert list(tmp_path.glob("ran-*")) == []
