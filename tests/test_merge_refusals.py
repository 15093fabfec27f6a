"""A merge that is refused says why in one line and changes nothing at all."""

import shutil
from pathlib import Path

import pytest
from git_scenes import sh
from merge_scenes import commit, into, state

from bough.runner.workspaces.git import GitError, NoCommit, Repo
from bough.runner.workspaces.merge import MergeConflict, TargetDirty

pytest_plugins = ["merge_scenes"]


async def test_a_conflict_changes_nothing_and_lists_every_path(forked: Repo, side: Path) -> None:
    commit(forked.root, {"a.txt": "ours\n", "sp ü\n.txt": "ours\n", "old.txt": "edited\n"})
    commit(side, {"a.txt": "theirs\n", "sp ü\n.txt": "theirs\n", "fine.txt": "f", "old.txt": None})
    before = state(forked)
    with pytest.raises(MergeConflict, match=r"3 paths .*nothing was changed") as caught:
        await into(forked, "main")
    assert caught.value.paths == ["a.txt", "old.txt", "sp ü\n.txt"]
    assert state(forked) == before


@pytest.mark.parametrize("staged", [False, True])
async def test_a_dirty_checkout_of_the_target_refuses_the_merge(
    forked: Repo, side: Path, staged: bool
) -> None:
    commit(side, {"b.txt": "b\n"})
    (forked.root / "a.txt").write_text("unsaved\n")
    if staged:
        sh(forked.root, "add", "a.txt")
    before = state(forked)
    with pytest.raises(TargetDirty, match=r"1 uncommitted changes \('a.txt'\)") as caught:
        await into(forked, "main")
    assert "\n" not in str(caught.value)
    assert state(forked) == before


@pytest.mark.parametrize("name", ["b.txt", "build.log"])
async def test_a_file_that_git_does_not_track_is_never_overwritten(
    forked: Repo, side: Path, name: str
) -> None:
    (side / name).write_text("theirs\n")
    sh(side, "add", "-f", name)
    sh(side, "commit", "-q", "-m", "adds it")
    (forked.root / name).write_text("precious\n")
    before = state(forked)
    with pytest.raises(TargetDirty, match="in the way"):
        await into(forked, "main")
    assert state(forked) == before


async def test_a_file_where_the_merge_needs_a_directory_is_never_overwritten(
    forked: Repo, side: Path
) -> None:
    commit(side, {"dir/b.txt": "theirs\n"})
    (forked.root / "dir").write_text("precious\n")
    before = state(forked)
    with pytest.raises(TargetDirty):
        await into(forked, "main")
    assert state(forked) == before


async def test_another_git_at_work_in_the_checkout_refuses_the_merge(
    forked: Repo, side: Path
) -> None:
    commit(side, {"b.txt": "b\n"})
    (forked.git_dir / "index.lock").write_text("")
    before = state(forked)
    with pytest.raises(TargetDirty, match=r"index\.lock"):
        await into(forked, "main")
    assert state(forked) == before


async def test_a_git_that_is_too_old_is_named_with_the_version_needed(
    forked: Repo, side: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(side, {"b.txt": "b\n"})
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$*" in *merge-tree*) echo "usage: git merge-tree" >&2; exit 129;;'
        f' *version) echo "git version 2.30.2"; exit 0;; esac\nexec {shutil.which("git")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(GitError, match=r"git 2\.30\.2 cannot merge.*install git 2\.38"):
        await into(forked, "main")


async def test_a_branch_that_is_checked_out_twice_is_refused(
    forked: Repo, side: Path, tmp_path: Path
) -> None:
    commit(side, {"b.txt": "b\n"})
    sh(forked.root, "worktree", "add", "-q", "-f", str(tmp_path / "twice"), "main")
    with pytest.raises(TargetDirty, match="leave it in one"):
        await into(forked, "main")


async def test_an_unknown_source_or_target_and_unrelated_histories_are_named(
    forked: Repo, side: Path
) -> None:
    with pytest.raises(NoCommit, match="branch 'nope'"):
        await into(forked, "nope")
    with pytest.raises(NoCommit, match="commit or branch '--all'"):
        await into(forked, "main", "--all")
    sh(side, "checkout", "-q", "--orphan", "stranger")
    commit(side, {"s.txt": "s\n"})
    with pytest.raises(GitError, match="unrelated histories"):
        await into(forked, "main", "stranger")
