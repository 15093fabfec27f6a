"""Merges on real repositories: both sides arrive, with ref, index and files together."""

import asyncio
import shutil
from pathlib import Path

import pytest
from git_scenes import sh
from merge_scenes import LINES, commit, into, state

from bough.runner.workspaces.git import Repo, open_repository
from bough.runner.workspaces.merge import Merged, TargetDirty

pytest_plugins = ["merge_scenes"]


async def test_a_merge_keeps_both_sides_and_both_parents_in_a_branch_not_checked_out(
    forked: Repo, side: Path
) -> None:
    root = forked.root
    sh(root, "checkout", "-q", "-b", "target")
    ours = commit(root, {"a.txt": LINES.replace("1\n", "one\n"), "ours ü.txt": "o\n"})
    sh(root, "checkout", "-q", "main")
    theirs = commit(side, {"a.txt": LINES.replace("9\n", "nine\n"), "old.txt": None})
    before = state(forked)[1:]
    merged = await into(forked, "target")
    assert merged == Merged("target", sh(root, "rev-parse", "target"), ours, False)
    assert sh(root, "rev-parse", "target^@").split() == [ours, theirs]
    assert sh(root, "show", "target:a.txt").split() == ["one", *"2345678", "nine"]
    names = sh(root, "-c", "core.quotePath=false", "ls-tree", "--name-only", "target").split("\n")
    assert names == [".gitignore", "a.txt", "ours ü.txt"]
    assert sh(root, "log", "-1", "--format=%an %s", "target") == "A Merge side"
    assert state(forked)[1:] == before


async def test_a_merge_into_the_branch_that_is_checked_out_moves_ref_index_and_files_together(
    forked: Repo, side: Path
) -> None:
    root = forked.root
    commit(side, {"a.txt": "new\n", "dir/ü x.txt": "x\n", "old.txt": None})
    (root / "untracked").write_text("stays")
    merged = await into(forked, "main")
    assert merged.fast_forward
    assert not merged.already_contained
    assert sh(root, "rev-parse", "HEAD") == merged.commit
    assert sh(root, "status", "--porcelain") == "?? untracked"
    assert (root / "dir" / "ü x.txt").read_text() == "x\n"
    assert not (root / "old.txt").exists()
    assert len(sh(root, "rev-parse", "HEAD^@").split()) == 2


async def test_a_merge_into_a_branch_checked_out_in_a_linked_worktree_updates_that_one(
    forked: Repo, side: Path
) -> None:
    commit(forked.root, {"main.txt": "m\n"})
    merged = await into(forked, "side", "main")
    assert (side / "main.txt").read_text() == "m\n"
    assert sh(side, "rev-parse", "HEAD") == merged.commit
    assert sh(side, "status", "--porcelain") == ""


async def test_what_is_contained_already_is_not_merged_again(forked: Repo, side: Path) -> None:
    commit(side, {"b.txt": "b\n"})
    first = await into(forked, "main")
    again = await into(forked, "main")
    assert again == Merged("main", first.commit, first.commit, False)
    assert again.already_contained


async def test_a_dry_run_makes_every_check_and_moves_nothing(forked: Repo, side: Path) -> None:
    commit(side, {"a.txt": "theirs\n"})
    before = state(forked)
    merged = await into(forked, "main", dry_run=True)
    assert sh(forked.root, "show", f"{merged.commit}:a.txt") == "theirs"
    assert state(forked) == before
    (forked.root / "old.txt").write_text("dirty\n")
    with pytest.raises(TargetDirty):
        await into(forked, "main", dry_run=True)


async def test_a_merge_killed_before_it_moved_the_ref_is_finished_by_the_next(
    forked: Repo, side: Path
) -> None:
    root = forked.root
    commit(side, {"b.txt": "b\n", "a.txt": "theirs\n"})
    would_be = await into(forked, "main", dry_run=True)
    sh(root, "read-tree", "-m", "-u", "HEAD", would_be.commit)
    assert sh(root, "status", "--porcelain") != ""
    merged = await into(forked, "main")
    assert sh(root, "rev-parse", "HEAD") == merged.commit
    assert sh(root, "status", "--porcelain") == ""


@pytest.mark.parametrize("checked_out", [True, False])
async def test_merges_at_once_all_land(forked: Repo, tmp_path: Path, checked_out: bool) -> None:
    root = forked.root
    for number in range(4):
        path = tmp_path / f"w{number}"
        sh(root, "worktree", "add", "-q", "-b", f"w{number}", str(path))
        commit(path, {f"f{number}": "x\n"})
    if not checked_out:
        sh(root, "checkout", "-q", "--detach")
    await asyncio.gather(*(into(forked, "main", f"w{number}") for number in range(4)))
    names = sh(root, "ls-tree", "--name-only", "main").split()
    assert [name for name in names if name.startswith("f")] == ["f0", "f1", "f2", "f3"]
    assert sh(root, "status", "--porcelain") == ""


async def test_a_target_that_moves_under_the_merge_keeps_its_new_commit(
    forked: Repo, side: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = forked.root
    commit(side, {"b.txt": "b\n"})
    sh(root, "checkout", "-q", "-b", "target")
    moved = commit(root, {"moved.txt": "m\n"})
    sh(root, "checkout", "-q", "main")
    sh(root, "update-ref", "refs/heads/target", "main")
    real = shutil.which("git")
    script = (
        f'#!/bin/sh\ncase "$*" in *"update-ref -m"*) [ -e "{tmp_path}/once" ] || '
        f'{{ touch "{tmp_path}/once"; {real} -C "{root}" update-ref refs/heads/target {moved}; }};;'
        f'esac\nexec {real} "$@"\n'
    )
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    merged = await into(forked, "target")
    assert (tmp_path / "once").exists()
    assert merged.previous == moved
    names = sh(root, "ls-tree", "--name-only", "target").split()
    assert {"moved.txt", "b.txt"} <= set(names)


async def test_hooks_signing_and_editors_of_the_repository_are_not_used(
    forked: Repo, side: Path, tmp_path: Path
) -> None:
    commit(side, {"b.txt": "b\n"})
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-merge-commit", "post-merge", "reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran-{name}'\nexit 1\n")
        (hooks / name).chmod(0o755)
    settings = {
        "core.hooksPath": str(hooks),
        "commit.gpgSign": "true",
        "gpg.program": "/bin/false",
        "core.editor": "/bin/false",
        "merge.verifySignatures": "true",
        "merge.ff": "false",
    }
    for name, value in settings.items():
        sh(forked.root, "config", name, value)
    merged = await into(forked, "main")
    assert sh(forked.root, "rev-parse", "main") == merged.commit
    assert list(tmp_path.glob("ran-*")) == []


async def test_a_bare_repository_merges_without_any_checkout(
    forked: Repo, side: Path, tmp_path: Path
) -> None:
    commit(side, {"b.txt": "b\n"})
    sh(tmp_path, "clone", "-q", "--bare", str(forked.root), "bare.git")
    bare = await open_repository(tmp_path / "bare.git")
    merged = await into(bare, "main")
    assert sh(bare.root, "rev-parse", "main") == merged.commit
