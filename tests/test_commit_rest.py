"""Whatever state an agent leaves, its work ends up in its branch or under a rescue ref."""

from pathlib import Path

import pytest
from git_scenes import clean_on_its_branch, commit, content, reached, rest, sh

from bough.runner.workspaces.workspace import Workspace, WorkspaceError, changes, remove

pytest_plugins = ["git_scenes"]


async def test_tracked_new_and_deleted_files_are_committed_and_ignored_ones_are_not(
    space: Workspace,
) -> None:
    (space.path / "a.txt").write_text("changed\n")
    (space.path / "dir").mkdir()
    long = "ü" * 100 + " \t x"
    (space.path / "dir" / long).write_text("new\n")
    (space.path / "debug.log").write_text("ignored")
    head = await rest(space)
    assert head == sh(space.path, "rev-parse", "HEAD") == sh(space.repo, "rev-parse", space.branch)
    assert content(space, "a.txt") == "changed"
    assert content(space, f"dir/{long}") == "new"
    assert "debug.log" not in sh(space.repo, "ls-tree", "-r", "--name-only", head)
    assert (space.path / "debug.log").exists()
    assert clean_on_its_branch(space)
    assert sh(space.repo, "log", "-1", "--format=%an <%ae> %s", head) == "A <a@localhost> rest"


async def test_with_nothing_left_no_commit_is_made(space: Workspace) -> None:
    sha = commit(space.path, "b.txt")
    assert await rest(space) == sha
    assert await rest(space) == sha


@pytest.mark.parametrize("where", [("--detach",), ("-b", "elsewhere")])
async def test_work_on_a_detached_head_or_another_branch_ends_up_in_the_agents_branch(
    space: Workspace, where: tuple[str, ...]
) -> None:
    sh(space.path, "checkout", "-q", *where)
    sha = commit(space.path, "b.txt")
    (space.path / "c.txt").write_text("loose\n")
    await rest(space)
    assert f"refs/heads/{space.branch}" in reached(space, sha)
    assert content(space, "c.txt") == "loose"
    assert clean_on_its_branch(space)


async def test_the_branch_keeps_its_commits_when_the_agent_looked_back_and_edited_there(
    space: Workspace,
) -> None:
    sha = commit(space.path, "later.txt")
    sh(space.path, "checkout", "-q", space.base_commit)
    (space.path / "older.txt").write_text("edited in the past\n")
    await rest(space)
    assert f"refs/heads/{space.branch}" in reached(space, sha)
    assert content(space, "older.txt") == "edited in the past"
    assert (space.path / "later.txt").exists()
    assert clean_on_its_branch(space)


async def test_commits_that_the_agent_reset_away_get_a_rescue_ref(space: Workspace) -> None:
    sha = commit(space.path, "gone.txt")
    sh(space.path, "reset", "-q", "--hard", space.base_commit)
    assert await rest(space) == space.base_commit
    assert reached(space, sha) == ["refs/bough/rescue/6f1d2c3b/1"]
    await rest(space)
    assert len(reached(space, sha)) == 1


async def test_a_side_that_conflicts_with_what_the_agent_left_gets_a_rescue_ref(
    space: Workspace,
) -> None:
    first = commit(space.path, "a.txt", "first try\n")
    sh(space.path, "checkout", "-q", "-b", "second", space.base_commit)
    second = commit(space.path, "a.txt", "second try\n")
    assert await rest(space) == second
    assert reached(space, first) == ["refs/bough/rescue/6f1d2c3b/1"]


async def test_the_branch_that_the_agent_deleted_is_made_again(space: Workspace) -> None:
    sh(space.path, "checkout", "-q", "-b", "mine")
    sha = commit(space.path, "b.txt")
    sh(space.path, "branch", "-D", space.branch)
    assert await rest(space) == sha
    assert sh(space.repo, "rev-parse", space.branch) == sha


async def test_a_merge_left_in_conflict_is_committed_without_claiming_the_other_side(
    space: Workspace,
) -> None:
    sh(space.path, "checkout", "-q", "-b", "other")
    other = commit(space.path, "a.txt", "other\n")
    sh(space.path, "checkout", "-q", space.branch)
    mine = commit(space.path, "a.txt", "mine\n")
    sh(space.path, "merge", "other", check=False)
    sh(space.path, "branch", "-D", "other")
    head = await rest(space)
    assert sh(space.repo, "rev-parse", f"{head}^@") == mine
    assert "<<<<<<<" in content(space, "a.txt")
    assert reached(space, other) == ["refs/bough/rescue/6f1d2c3b/1"]
    assert clean_on_its_branch(space)
    assert "merg" not in sh(space.path, "status")


async def test_a_merge_that_was_resolved_but_not_committed_becomes_a_merge(
    space: Workspace,
) -> None:
    sh(space.path, "checkout", "-q", "-b", "other")
    other = commit(space.path, "b.txt")
    sh(space.path, "checkout", "-q", space.branch)
    mine = commit(space.path, "c.txt")
    sh(space.path, "merge", "-q", "--no-commit", "other")
    head = await rest(space)
    assert sh(space.repo, "rev-parse", f"{head}^@").split() == [mine, other]


async def test_half_a_rebase_leaves_the_branch_as_it_was_and_the_half_under_a_rescue_ref(
    space: Workspace,
) -> None:
    sh(space.path, "checkout", "-q", "-b", "onto")
    commit(space.path, "a.txt", "onto\n")
    sh(space.path, "checkout", "-q", space.branch)
    tip = commit(space.path, "a.txt", "mine\n")
    sh(space.path, "rebase", "onto", check=False)
    (space.path / "a.txt").write_text("half resolved\n")
    assert await rest(space) == tip
    assert content(space, "a.txt", "refs/bough/rescue/6f1d2c3b/1") == "half resolved"
    assert (space.path / "a.txt").read_text() == "mine\n"
    assert clean_on_its_branch(space)


async def test_locks_left_by_a_killed_git_and_a_broken_index_do_not_stop_the_commit(
    space: Workspace,
) -> None:
    admin = Path(sh(space.path, "rev-parse", "--absolute-git-dir"))
    (space.path / "new.txt").write_text("n\n")
    (admin / "index.lock").write_text("")
    (admin / "HEAD.lock").write_text("")
    (admin / "index").write_bytes(b"torn")
    await rest(space)
    assert content(space, "new.txt") == "n"
    assert content(space, "a.txt") == "one\ntwo\nthree"
    assert clean_on_its_branch(space)


async def test_a_repository_inside_the_worktree_stays_out_of_the_commit_and_stops_removal(
    space: Workspace,
) -> None:
    sh(space.path, "init", "-q", "inner")
    (space.path / "inner" / "f").write_text("x")
    (space.path / "new.txt").write_text("n\n")
    await rest(space)
    assert content(space, "new.txt") == "n"
    with pytest.raises(WorkspaceError, match="other repositories"):
        await remove(space)
    assert (space.path / "inner" / "f").exists()


async def test_a_git_directory_planted_by_the_agent_is_not_believed(space: Workspace) -> None:
    (space.path / ".git").unlink()
    sh(space.path, "init", "-q")
    (space.path / "new.txt").write_text("n\n")
    head = await rest(space)
    assert sh(space.repo, "rev-parse", space.branch) == head
    assert content(space, "new.txt") == "n"
    assert [change.path for change in await changes(space)] == ["new.txt"]
