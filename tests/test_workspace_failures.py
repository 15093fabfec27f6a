"""A workspace is made whole or not at all: whatever goes wrong, nothing is left."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from git_scenes import AGENT, clean_on_its_branch, commit, content, left_behind, rest, sh

from bough.runner.workspaces.git import Repo
from bough.runner.workspaces.workspace import WorkspaceError, changes, create, location

TWIN = "7f1d2c3b-0000-4000-8000-000000000002"
pytest_plugins = ["git_scenes"]


async def test_a_creation_killed_half_way_is_made_anew(
    repository: Repo, home: Path, tmp_path: Path
) -> None:
    # A smudge filter that never ends keeps the creator in the middle of writing files.
    (repository.root / ".gitattributes").write_text("slow filter=slow\n")
    commit(repository.root, "slow")
    mark = tmp_path / "mark"
    sh(repository.root, "config", "filter.slow.smudge", f"echo $$ >'{mark}'; exec sleep 600")
    code = (
        "import asyncio,sys;from pathlib import Path;from bough.runner.workspaces import git\n"
        "from bough.runner.workspaces import workspace as w\n"
        "async def main():\n"
        "  r=await git.open_repository(Path(sys.argv[1]))\n"
        "  await w.create(r,agent_id=sys.argv[2],task='t',home=Path(sys.argv[3]),base='main')\n"
        "asyncio.run(main())"
    )
    args = [sys.executable, "-c", code, str(repository.root), AGENT, str(home)]
    creator = subprocess.Popen(args)
    async with asyncio.timeout(20):
        while not (mark.exists() and mark.read_text().strip()):
            await asyncio.sleep(0.01)
    creator.kill()
    creator.wait()
    sh(repository.root, "config", "filter.slow.smudge", "cat")
    try:
        space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    finally:
        os.kill(int(mark.read_text()), signal.SIGKILL)
    assert (space.path / "slow").read_text() == "x\n"
    assert clean_on_its_branch(space)


async def test_something_in_the_way_is_reported_and_left_alone(
    repository: Repo, home: Path
) -> None:
    path, _ = location(home.resolve(), repository.git_dir, AGENT, "t")
    path.mkdir(parents=True)
    (path / "precious").write_text("mine")
    with pytest.raises(WorkspaceError, match="is in the way"):
        await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    assert (path / "precious").read_text() == "mine"
    assert left_behind(repository, home) == [str(path)]


async def test_a_base_that_does_not_exist_leaves_nothing(repository: Repo, home: Path) -> None:
    for base in ("nope", "--help", "a\0b"):
        with pytest.raises(WorkspaceError):
            await create(repository, agent_id=AGENT, task="t", home=home, base=base)
    assert left_behind(repository, home) == []


async def test_a_home_that_cannot_be_written_leaves_nothing(repository: Repo, home: Path) -> None:
    home.write_text("a file where the directory should be")
    with pytest.raises(WorkspaceError, match="agent 6f1d"):
        await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    assert left_behind(repository, home) == []


async def test_a_file_too_large_to_write_leaves_nothing(repository: Repo, home: Path) -> None:
    commit(repository.root, "big", "x" * 300_000)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(WorkspaceError):
            await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert left_behind(repository, home) == []


async def test_a_full_disk_leaves_nothing_and_is_named(repository: Repo, tmp_path: Path) -> None:
    commit(repository.root, "big", os.urandom(300_000).hex())
    home = tmp_path / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: a full disk; mounting a tmpfs needs privileges")
    try:
        with pytest.raises(WorkspaceError, match=r"disk is full: [0-9]+ bytes free"):
            await create(repository, agent_id=AGENT, task="t", home=home, base="main")
        assert left_behind(repository, home) == []
    finally:
        subprocess.run(["umount", str(home)], check=True)


async def test_a_cancelled_creation_leaves_nothing(repository: Repo, home: Path) -> None:
    (repository.root / ".gitattributes").write_text("slow filter=slow\n")
    commit(repository.root, "slow")
    sh(repository.root, "config", "filter.slow.smudge", "sleep 600")
    making = asyncio.create_task(
        create(repository, agent_id=AGENT, task="t", home=home, base="main")
    )
    async with asyncio.timeout(20):
        while not list(home.glob("worktrees/*/*/a.txt")):
            await asyncio.sleep(0.005)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert left_behind(repository, home) == []


async def test_a_read_only_git_directory_refuses_creation_and_still_shows_changes(
    repository: Repo, home: Path
) -> None:
    space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    (space.path / "new.txt").write_text("n\n")
    git_dir = str(repository.git_dir)
    bind = ["mount", "--bind", git_dir, git_dir]
    if subprocess.run(bind, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: a read-only .git; a bind mount needs privileges")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", git_dir], check=True)
        with pytest.raises(WorkspaceError, match="Read-only file system"):
            await create(repository, agent_id=TWIN, task="t", home=home, base="main")
        with pytest.raises(WorkspaceError, match="Read-only file system"):
            await rest(space)
        assert [change.path for change in await changes(space)] == ["new.txt"]
    finally:
        subprocess.run(["umount", git_dir], check=True)
    assert not list(home.glob(f"worktrees/*/{TWIN[:8]}*"))
    await rest(space)
    assert content(space, "new.txt") == "n"
