"""Changes against the base, and removal that loses nothing."""

import subprocess
from pathlib import Path

import pytest
from git_scenes import AGENT, commit, content, left_behind, reached, sh

from bough.runner.workspaces.git import Repo, commit_of
from bough.runner.workspaces.workspace import (
    Workspace,
    WorkspaceError,
    changes,
    create,
    diff,
    remove,
)

pytest_plugins = ["git_scenes"]


async def test_changes_name_kinds_and_lines_without_touching_worktree_index_or_objects(
    repository: Repo, home: Path
) -> None:
    (repository.root / "old name").write_text("".join(f"line {n}\n" for n in range(20)))
    (repository.root / "bin").write_bytes(b"\0\1\2")
    commit(repository.root, "gone.txt")
    space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    commit(space.path, "committed.txt", "1\n2\n")
    (space.path / "old name").rename(space.path / "näw\tname\n")
    (space.path / "bin").write_bytes(b"\0\1\2\3")
    (space.path / "gone.txt").unlink()
    (space.path / "a.txt").write_text("one\n2\nthree\n")
    (space.path / "new.txt").write_text("untracked\n")
    admin = Path(sh(space.path, "rev-parse", "--absolute-git-dir"))

    def state() -> tuple[bytes, str, list[Path]]:
        files = sorted(path for path in repository.git_dir.rglob("*") if path.is_file())
        return (admin / "index").read_bytes(), sh(space.path, "status", "--porcelain"), files

    before = state()
    found = {
        c.path: (c.kind, c.lines_added, c.lines_removed, c.old_path) for c in await changes(space)
    }
    assert found == {
        "a.txt": ("modified", 1, 1, None),
        "bin": ("modified", None, None, None),
        "committed.txt": ("created", 2, 0, None),
        "gone.txt": ("deleted", 0, 1, None),
        "new.txt": ("created", 1, 0, None),
        "näw\tname\n": ("renamed", 0, 0, "old name"),
    }
    assert "6 files changed" in await diff(space, stat=True)
    assert "\x1b[" in await diff(space, colour=True)
    assert state() == before


async def test_the_patch_applies_byte_for_byte_to_the_base(
    repository: Repo, space: Workspace
) -> None:
    data = {"bin": bytes(range(256)), "latin": b"caf\xe9\r\nx\r", "a.txt": b"one\r\n"}
    for name, text in data.items():
        (space.path / name).write_bytes(text)
    patch = (await diff(space)).encode("utf-8", "surrogateescape")
    subprocess.run(["git", "-C", str(repository.root), "apply"], input=patch, check=True)
    assert {name: (repository.root / name).read_bytes() for name in data} == data


async def test_changes_of_a_removed_workspace_are_those_of_its_branch(space: Workspace) -> None:
    commit(space.path, "b.txt")
    await remove(space)
    assert [change.path for change in await changes(space)] == ["b.txt"]


async def test_removal_keeps_uncommitted_detached_and_reset_work_under_rescue_refs(
    repository: Repo, space: Workspace, home: Path
) -> None:
    reset = commit(space.path, "reset.txt")
    sh(space.path, "reset", "-q", "--hard", space.base_commit)
    sh(space.path, "checkout", "-q", "--detach")
    detached = commit(space.path, "detached.txt")
    (space.path / "loose.txt").write_text("loose\n")
    await remove(space, keep_branch=False)
    assert not space.path.exists()
    assert reached(space, reset)
    (ref,) = reached(space, detached)
    assert content(space, "loose.txt", ref) == "loose"
    assert await commit_of(space.repo, space.branch) is None
    assert not list(repository.git_dir.glob("worktrees/*"))
    assert "bough/base" not in sh(space.repo, "for-each-ref")
    assert not [left for left in left_behind(repository, home) if "rescue" not in left][4:]


async def test_an_unmerged_branch_is_rescued_before_it_is_deleted(space: Workspace) -> None:
    sh(space.repo, "config", "core.logAllRefUpdates", "false")
    subprocess.run(["rm", "-rf", str(space.repo / ".git" / "logs")], check=True)
    for logs in space.repo.glob(".git/worktrees/*/logs"):
        subprocess.run(["rm", "-rf", str(logs)], check=True)
    sha = commit(space.path, "b.txt")
    sh(space.path, "checkout", "-q", space.base_commit)
    (space.repo / ".git/worktrees" / space.path.name / "ORIG_HEAD").unlink(missing_ok=True)
    await remove(space, keep_branch=False)
    assert reached(space, sha) == ["refs/bough/rescue/6f1d2c3b/1"]


async def test_a_removed_workspace_is_created_again_from_its_branch(
    repository: Repo, space: Workspace, home: Path
) -> None:
    sha = commit(space.path, "b.txt")
    await remove(space)
    await remove(space)
    assert reached(space, sha) == [f"refs/heads/{space.branch}"]
    again = await create(repository, agent_id=AGENT, task="Fix it", home=home, base="main")
    assert again == space
    assert sh(again.path, "rev-parse", "HEAD") == sha


async def test_a_locked_or_unregistered_directory_is_never_removed(
    repository: Repo, space: Workspace
) -> None:
    sh(repository.root, "worktree", "lock", str(space.path))
    with pytest.raises(WorkspaceError, match="is locked"):
        await remove(space)
    foreign = Workspace(repository.root, space.branch, space.base_commit, space.repo)
    with pytest.raises(WorkspaceError, match="is not a worktree"):
        await remove(foreign)
    assert (space.path / "a.txt").exists()
    assert (repository.root / "a.txt").exists()
