"""Real repositories and workspaces for the tests of the runner's git side.

PYTEST_DONT_REWRITE: it is imported as a module as well as loaded as a plugin.
"""

import subprocess
from pathlib import Path

import pytest

from bough.runner.workspaces.git import Repo, open_repository
from bough.runner.workspaces.workspace import Workspace, commit_rest, create

AGENT = "6f1d2c3b-0000-4000-8000-000000000001"
IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@localhost")


def sh(where: Path, *args: str, check: bool = True) -> str:
    """Run git as an agent or a person would: with the repository's own hooks and settings."""
    command = ["git", "-C", str(where), *IDENTITY, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@pytest.fixture
async def repository(tmp_path: Path) -> Repo:
    root = tmp_path / "my repö"
    root.mkdir()
    sh(root, "init", "-q", "-b", "main")
    (root / "a.txt").write_text("one\ntwo\nthree\n")
    (root / ".gitignore").write_text("*.log\n")
    sh(root, "add", "-A")
    sh(root, "commit", "-q", "-m", "start")
    return await open_repository(root)


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    return tmp_path / "home with späce"


@pytest.fixture
async def space(repository: Repo, home: Path) -> Workspace:
    return await create(repository, agent_id=AGENT, task="Fix it", home=home, base="main")


async def rest(space: Workspace) -> str:
    return await commit_rest(space, message="rest", author_name="A", author_email="a@localhost")


def commit(tree: Path, name: str, text: str = "x\n") -> str:
    (tree / name).write_text(text)
    sh(tree, "add", "-A")
    sh(tree, "commit", "-q", "-m", name)
    return sh(tree, "rev-parse", "HEAD")


def content(space: Workspace, name: str, at: str = "") -> str:
    return sh(space.repo, "show", f"{at or space.branch}:{name}")


def reached(space: Workspace, sha: str) -> list[str]:
    return sh(space.repo, "for-each-ref", "--contains", sha, "--format=%(refname)").split()


def left_behind(repository: Repo, home: Path) -> list[str]:
    found = sh(repository.root, "for-each-ref", "refs/heads/bough", "refs/bough").split()
    found += [str(path) for path in repository.git_dir.glob("worktrees/*")]
    return found + [str(path) for path in home.glob("worktrees/*/*")]


def clean_on_its_branch(space: Workspace) -> bool:
    there = sh(space.path, "symbolic-ref", "--short", "HEAD") == space.branch
    return there and not sh(space.path, "status", "--porcelain")
