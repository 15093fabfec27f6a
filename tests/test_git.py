"""Opening repositories and running git: safe whatever the caller's environment."""

import asyncio
from pathlib import Path

import pytest
from git_scenes import AGENT, commit, content, rest, sh

from bough.runner.workspaces.git import (
    GitError,
    NoCommit,
    NoRepositoryHere,
    Repo,
    git,
    open_repository,
)
from bough.runner.workspaces.workspace import create

pytest_plugins = ["git_scenes"]


async def test_each_place_that_is_no_usable_repository_gets_one_line_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(NoRepositoryHere, match="does not exist"):
        await open_repository(tmp_path / "nowhere")
    (tmp_path / "plain").mkdir()
    with pytest.raises(NoRepositoryHere, match="git init"):
        await open_repository(tmp_path / "plain")
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRepositoryHere, match="is not a directory"):
        await open_repository(tmp_path / "file")
    sh(tmp_path, "init", "-q", "empty")
    with pytest.raises(NoCommit, match="commit --allow-empty -m start") as caught:
        await open_repository(tmp_path / "empty")
    assert "\n" not in str(caught.value)


async def test_a_sub_directory_a_linked_worktree_and_a_bare_clone_open_as_their_repository(
    repository: Repo, tmp_path: Path
) -> None:
    root = repository.root
    (root / "deep" / "er").mkdir(parents=True)
    assert await open_repository(root / "deep" / "er") == repository
    sh(root, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    side = commit(tmp_path / "linked", "side.txt")
    linked = await open_repository(tmp_path / "linked")
    assert linked == Repo(root, repository.git_dir, side, "side")
    sh(tmp_path, "clone", "-q", "--bare", str(root), str(tmp_path / "b.git"))
    bare = await open_repository(tmp_path / "b.git")
    assert bare.root == bare.git_dir == tmp_path / "b.git"
    made = await create(bare, agent_id=AGENT, task="t", home=tmp_path / "h", base="HEAD")
    assert (made.path / "a.txt").exists()


async def test_git_variables_in_the_callers_environment_have_no_effect(
    repository: Repo, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sh(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert await open_repository(repository.root) == repository
    space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    (space.path / "new").write_text("n")
    await rest(space)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name)
    assert content(space, "new") == "n"
    assert not (tmp_path / "index").exists()


async def test_a_cancelled_call_leaves_no_git_and_no_child_of_git_running(
    repository: Repo, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    script = f"!echo $$ >'{pid_file}.new' && mv '{pid_file}.new' '{pid_file}'; sleep 600; true"
    call = asyncio.create_task(git(repository.root, "-c", f"alias.nap={script}", "nap"))
    async with asyncio.timeout(10):
        while not pid_file.exists():
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


async def test_a_call_cancelled_while_git_starts_ends_at_once(repository: Repo) -> None:
    for turns in range(12):
        call = asyncio.create_task(git(repository.root, "-c", "alias.nap=!sleep 600; true", "nap"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await call


async def test_an_error_carries_the_command_and_all_that_git_said(repository: Repo) -> None:
    with pytest.raises(GitError, match=r"fatal: .*nope") as caught:
        await git(repository.root, "show", "nope")
    assert caught.value.command == ("show", "nope")
    assert len(caught.value.stderr.splitlines()) > 1
