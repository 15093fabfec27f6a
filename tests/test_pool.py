"""Spare worktrees: taken whole, brought to any commit, and never lost or shared when killed."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from git_scenes import AGENT, clean_on_its_branch, commit, home, left_behind, repository, sh

from bough.runner.workspaces import pool
from bough.runner.workspaces.git import GitError, Repo
from bough.runner.workspaces.workspace import Workspace, create, location

__all__ = ["home", "repository"]


def folder(repository: Repo, home: Path) -> Path:
    return location(home, repository.git_dir, AGENT, "t")[0].parent


def spares(repository: Repo, home: Path) -> list[Path]:
    return sorted((folder(repository, home) / ".spare").glob("*"))


async def fill(repository: Repo, home: Path, size: int) -> int:
    commit = sh(repository.root, "rev-parse", "main")
    return await pool.fill(repository, folder(repository, home), commit=commit, size=size)


async def make(repository: Repo, home: Path, agent: str = AGENT) -> Workspace:
    return await create(repository, agent_id=agent, task="t", home=home, base="main")


def inode(path: Path) -> int:
    return path.stat().st_ino


async def test_a_spare_becomes_the_workspace_without_writing_its_files_again(
    repository: Repo, home: Path
) -> None:
    assert await fill(repository, home, 1) == 1
    (spare,) = spares(repository, home)
    before = inode(spare / "a.txt")
    space = await make(repository, home)
    assert inode(space.path / "a.txt") == before
    assert clean_on_its_branch(space)
    assert spares(repository, home) == []
    assert sh(space.path, "rev-parse", "HEAD") == sh(repository.root, "rev-parse", "main")


async def test_only_what_differs_is_written_whatever_kind_of_change_it_is(
    repository: Repo, home: Path
) -> None:
    root = repository.root
    for name in ("same", "gone", "moved", "tool", "was-dir/x"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(f"{name}\n" * 20)
    commit(root, "before")
    await fill(repository, home, 1)
    (spare,) = spares(repository, home)
    before = inode(spare / "same")
    (root / "gone").unlink()
    (root / "moved").rename(root / "moved to ü")
    (root / "tool").chmod(0o755)
    (root / "was-dir" / "x").unlink()
    (root / "was-dir").rmdir()
    (root / "was-dir").symlink_to("same")
    commit(root, "after")
    space = await make(repository, home)
    assert inode(space.path / "same") == before
    names = sorted(path.name for path in space.path.iterdir())
    assert names == sorted([*sh(root, "-c", "core.quotePath=0", "ls-files").split("\n"), ".git"])
    assert str((space.path / "was-dir").readlink()) == "same"
    assert os.access(space.path / "tool", os.X_OK)
    assert clean_on_its_branch(space)


async def test_a_spare_whose_changing_file_was_written_to_is_set_right(
    repository: Repo, home: Path
) -> None:
    await fill(repository, home, 1)
    (spare,) = spares(repository, home)
    (spare / "a.txt").write_text("not what git wrote\n")
    (repository.root / "a.txt").write_text("new\n")
    commit(repository.root, "b")
    space = await make(repository, home)
    assert (space.path / "a.txt").read_text() == "new\n"
    assert clean_on_its_branch(space)


async def test_eight_creations_share_three_spares_and_none_gets_anothers(
    repository: Repo, home: Path
) -> None:
    await fill(repository, home, 3)
    made = await asyncio.gather(*(make(repository, home, str(uuid4())) for _ in range(8)))
    assert len({space.path for space in made}) == 8
    assert all(clean_on_its_branch(space) for space in made)
    assert spares(repository, home) == []


async def test_filling_twice_at_once_and_creating_meanwhile_breaks_nothing(
    repository: Repo, home: Path
) -> None:
    fills = [fill(repository, home, 4) for _ in range(3)]
    makes = [make(repository, home, str(uuid4())) for _ in range(6)]
    _, made = await asyncio.gather(asyncio.gather(*fills), asyncio.gather(*makes))
    assert all(clean_on_its_branch(space) for space in made)
    await fill(repository, home, 2)
    assert len(spares(repository, home)) == 2


async def test_a_spare_from_before_the_sparse_patterns_changed_is_not_taken(
    repository: Repo, home: Path
) -> None:
    for name in ("in/x", "out/x"):
        (repository.root / name).parent.mkdir()
        (repository.root / name).write_text("x\n")
    commit(repository.root, "dirs")
    await fill(repository, home, 1)
    sh(repository.root, "sparse-checkout", "set", "in")
    space = await make(repository, home)
    assert (space.path / "in" / "x").exists()
    assert not (space.path / "out").exists()
    assert len(spares(repository, home)) == 1
    await fill(repository, home, 1)
    again = await make(repository, home, str(uuid4()))
    assert spares(repository, home) == []
    assert not (again.path / "out").exists()
    assert clean_on_its_branch(again)


async def test_draining_removes_spares_and_nothing_else(repository: Repo, home: Path) -> None:
    space = await make(repository, home)
    await fill(repository, home, 2)
    await pool.drain(repository.git_dir, folder(repository, home))
    assert spares(repository, home) == []
    assert clean_on_its_branch(space)
    assert len(list(repository.git_dir.glob("worktrees/*"))) == 1


async def test_a_spare_that_cannot_be_made_leaves_nothing(repository: Repo, home: Path) -> None:
    sh(repository.root, "config", "filter.bad.clean", "cat")
    sh(repository.root, "config", "filter.bad.smudge", "false")
    sh(repository.root, "config", "filter.bad.required", "true")
    (repository.root / ".gitattributes").write_text("bad filter=bad\n")
    commit(repository.root, "bad")
    with pytest.raises(GitError, match="external filter 'false' failed"):
        await fill(repository, home, 2)
    assert left_behind(repository, home) == []


KILLED = """
import asyncio, os, pathlib, signal, sys
from bough.runner.workspaces import git, workspace
steps = int(sys.argv[4])
def counted(method):
    def step(*args, **kwargs):
        global steps
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        return method(*args, **kwargs)
    return step
for name in ("rename", "replace", "unlink", "touch", "write_bytes", "write_text", "rmdir"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
async def main():
    repository = await git.open_repository(pathlib.Path(sys.argv[1]))
    home = pathlib.Path(sys.argv[3])
    await workspace.create(repository, agent_id=sys.argv[2], task="t", home=home, base="main")
asyncio.run(main())
"""


@pytest.mark.parametrize("step", range(12))
async def test_a_creator_killed_at_any_step_of_taking_a_spare_leaves_nothing_in_the_way(
    repository: Repo, home: Path, step: int
) -> None:
    await fill(repository, home, 1)
    commit(repository.root, "later")
    args = [str(repository.root), AGENT, str(home), str(step)]
    done = subprocess.run([sys.executable, "-c", KILLED, *args], check=False)
    space = await make(repository, home)
    assert clean_on_its_branch(space)
    assert (space.path / "later").read_text() == "x\n"
    assert await fill(repository, home, 1) <= 1
    (spare,) = spares(repository, home)
    assert sh(spare, "status", "--porcelain") == ""
    assert len(list(repository.git_dir.glob("worktrees/*"))) == 2
    assert sh(repository.root, "fsck", "--connectivity-only") == ""
    assert done.returncode == (-signal.SIGKILL if step < 10 else 0)
