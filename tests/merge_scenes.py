"""A repository with a linked worktree on the branch `side`, for the tests of merging.

PYTEST_DONT_REWRITE: it is imported as a module as well as loaded as a plugin.
"""

from pathlib import Path

import pytest
from git_scenes import sh

from bough.runner.workspaces.git import Repo, open_repository
from bough.runner.workspaces.merge import Merged, merge


def commit(tree: Path, files: dict[str, str | None]) -> str:
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (tree / name).unlink()
        else:
            (tree / name).write_text(text)
    sh(tree, "add", "-A")
    sh(tree, "commit", "-q", "-m", "work")
    return sh(tree, "rev-parse", "HEAD")


LINES = "".join(f"{number}\n" for number in range(1, 10))


@pytest.fixture
async def forked(tmp_path: Path) -> Repo:
    root = tmp_path / "repö"
    root.mkdir()
    sh(root, "init", "-q", "-b", "main")
    commit(root, {"a.txt": LINES, ".gitignore": "*.log\n", "old.txt": "old\n"})
    return await open_repository(root)


@pytest.fixture
async def side(forked: Repo, tmp_path: Path) -> Path:
    """Give a linked worktree on the branch `side`."""
    sh(forked.root, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side tree"))
    return tmp_path / "side tree"


async def into(
    repository: Repo, target: str, source: str = "side", *, dry_run: bool = False
) -> Merged:
    return await merge(
        repository,
        source=source,
        target=target,
        message=f"Merge {source}",
        author_name="A",
        author_email="a@localhost",
        dry_run=dry_run,
    )


def state(repository: Repo) -> tuple[str, str, dict[str, bytes]]:
    """Everything a refused merge must not change: refs, status, files."""
    refs = sh(repository.root, "for-each-ref")
    files = {
        str(path): path.read_bytes()
        for path in repository.root.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return refs, sh(repository.root, "status", "--porcelain", "--ignored"), files
