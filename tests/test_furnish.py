"""What git leaves out of a worktree is there all the same: wanted ignored files, submodules."""

import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from git_scenes import (
    clean_on_its_branch,
    commit,
    home,
    reached,
    repository,
    rest,
    sh,
    space,
)

from bough.runner.workspaces.changes import changes
from bough.runner.workspaces.git import Repo
from bough.runner.workspaces.workspace import Workspace, WorkspaceError, create, remove

__all__ = ["home", "repository", "space"]
FROM_FILES = ("-c", "protocol.file.allow=always")


async def make(repository: Repo, home: Path, base: str = "main") -> Workspace:
    return await create(repository, agent_id=str(uuid4()), task="t", home=home, base=base)


async def test_ignored_files_that_the_repository_names_are_copied_and_no_others(
    repository: Repo, home: Path
) -> None:
    root = repository.root
    (root / ".gitignore").write_text(".env\ncache/\n*.log\n")
    (root / ".worktreeinclude").write_text("# wanted\n.env\ncache/*\n!cache/big\nloose\n")
    commit(root, "settings")
    (root / ".env").write_text("KEY=1\n")
    (root / ".env").chmod(0o600)
    (root / "cache").mkdir()
    (root / "cache" / "small ü").write_text("s\n")
    (root / "cache" / "big").write_text("b\n")
    (root / "other.log").write_text("no\n")
    (root / "loose").write_text("untracked, not ignored\n")
    space = await make(repository, home)
    assert (space.path / ".env").read_text() == "KEY=1\n"
    assert (space.path / ".env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (space.path / "cache").iterdir()] == ["small ü"]
    assert not (space.path / "other.log").exists()
    assert not (space.path / "loose").exists()
    assert clean_on_its_branch(space)
    assert await changes(space) == []


async def test_a_copy_never_follows_a_link_out_of_the_worktree_nor_replaces_a_committed_file(
    repository: Repo, home: Path, tmp_path: Path
) -> None:
    root, outside = repository.root, tmp_path / "outside"
    outside.mkdir()
    (root / "conf").symlink_to(outside)
    (root / "kept").write_text("committed\n")
    commit(root, "link")
    (root / "conf").unlink()
    (root / "conf").mkdir()
    (root / "conf" / "secret").write_text("s\n")
    sh(root, "rm", "-q", "--cached", "kept")
    (root / "kept").write_text("mine\n")
    (root / "to").symlink_to("/etc/passwd")
    (root / ".git" / "info" / "exclude").write_text("conf/secret\nkept\nto\n")
    (root / ".worktreeinclude").write_text("conf/secret\nkept\nto\n")
    space = await make(repository, home)
    assert list(outside.iterdir()) == []
    assert (space.path / "kept").read_text() == "committed\n"
    assert (space.path / "to").is_symlink()


async def test_a_bare_repository_has_nothing_to_include(repository: Repo, home: Path) -> None:
    bare = home.parent / "bare.git"
    sh(home.parent, "clone", "-q", "--bare", str(repository.root), str(bare))
    space = await make(Repo(bare, bare, repository.head, "main"), home)
    assert clean_on_its_branch(space)


@pytest.fixture
async def with_submodules(repository: Repo, tmp_path: Path) -> Repo:
    """The repository with a submodule that has a submodule."""
    for name in ("inner", "outer lib"):
        sh(tmp_path, "init", "-q", "-b", "main", name)
        commit(tmp_path / name, "f.txt", f"{name}\n")
    inner, outer = tmp_path / "inner", tmp_path / "outer lib"
    sh(outer, *FROM_FILES, "submodule", "--quiet", "add", str(inner), "deep")
    commit(outer, "bump")
    root = repository.root
    sh(root, *FROM_FILES, "submodule", "--quiet", "add", str(outer), "libs/outer lib")
    sh(root, *FROM_FILES, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(root, "with submodules")
    # Nothing may be fetched from where they came from.
    shutil.rmtree(inner)
    shutil.rmtree(outer)
    return repository


async def test_submodules_are_there_without_being_fetched_each_on_the_agents_branch(
    with_submodules: Repo, home: Path
) -> None:
    space = await make(with_submodules, home)
    outer = space.path / "libs" / "outer lib"
    assert (outer / "f.txt").read_text() == "outer lib\n"
    assert (outer / "deep" / "f.txt").read_text() == "inner\n"
    assert sh(outer / "deep", "symbolic-ref", "--short", "HEAD") == space.branch
    config = with_submodules.git_dir / "modules" / "libs" / "outer lib" / "config"
    before = config.read_text()
    # What an agent may well do: it must neither fetch nor touch the main checkout's submodule.
    sh(space.path, "submodule", "--quiet", "update", "--init", "--recursive")
    assert config.read_text() == before
    assert sh(with_submodules.root / "libs" / "outer lib", "status", "--porcelain") == ""
    assert clean_on_its_branch(space)
    assert sh(space.path, "submodule", "status", "--recursive").count("\n") == 1


async def test_what_an_agent_leaves_in_a_submodule_is_committed_and_outlives_its_worktree(
    with_submodules: Repo, home: Path
) -> None:
    space = await make(with_submodules, home)
    outer = space.path / "libs" / "outer lib"
    (outer / "deep" / "new.txt").write_text("deep\n")
    mine = commit(outer, "mine.txt", "mine\n")
    (outer / "f.txt").write_text("changed\n")
    await rest(space)
    assert clean_on_its_branch(space)
    top = sh(space.path, "rev-parse", "HEAD:libs/outer lib")
    assert top == sh(outer, "rev-parse", "HEAD")
    assert sh(outer, "merge-base", "--is-ancestor", mine, top) == ""
    assert sh(outer, "rev-parse", "HEAD:deep") == sh(outer / "deep", "rev-parse", "HEAD")
    await remove(space)
    root = with_submodules.root
    sh(root, "merge", "-q", space.branch)
    sh(root, "submodule", "--quiet", "update", "--recursive")
    assert (root / "libs" / "outer lib" / "f.txt").read_text() == "changed\n"
    assert (root / "libs" / "outer lib" / "deep" / "new.txt").read_text() == "deep\n"


async def test_removal_without_saving_keeps_what_was_in_a_submodule_under_a_rescue_ref(
    with_submodules: Repo, home: Path
) -> None:
    space = await make(with_submodules, home)
    outer = space.path / "libs" / "outer lib"
    (outer / "f.txt").write_text("unsaved\n")
    lost = commit(outer, "gone.txt")
    sh(outer, "reset", "-q", "--hard", "HEAD~1")
    sh(outer, "checkout", "-q", "-b", "aside")
    aside = commit(outer, "aside.txt")
    sh(outer, "checkout", "-q", space.branch)
    (outer / "f.txt").write_text("unsaved\n")
    await remove(space, keep_branch=False)
    store = with_submodules.git_dir / "modules" / "libs" / "outer lib"
    assert not space.path.exists()
    for sha in (lost, aside):
        assert any("rescue" in ref for ref in reached(Workspace(store, "", "", store), sha))
    assert not sh(store, "for-each-ref", "refs/bough/incoming")
    kept = sh(store, "for-each-ref", "--format=%(refname)", "refs/bough/rescue").split()
    assert "unsaved" in {sh(store, "show", f"{ref}:f.txt") for ref in kept}


async def test_a_worktree_removed_by_hand_comes_back_with_its_submodules(
    with_submodules: Repo, home: Path
) -> None:
    agent = str(uuid4())
    first = await create(with_submodules, agent_id=agent, task="t", home=home, base="main")
    mine = commit(first.path / "libs" / "outer lib", "mine.txt", "mine\n")
    shutil.rmtree(first.path)
    again = await create(with_submodules, agent_id=agent, task="t", home=home, base="main")
    assert sh(again.path / "libs" / "outer lib", "rev-parse", "HEAD") == mine
    assert (again.path / "libs" / "outer lib" / "mine.txt").read_text() == "mine\n"
    assert (again.path / "libs" / "outer lib" / "deep" / "f.txt").read_text() == "inner\n"


async def test_a_submodule_without_its_commit_leaves_no_workspace_and_says_what_to_do(
    with_submodules: Repo, home: Path
) -> None:
    root = with_submodules.root
    sh(root, "update-index", "--cacheinfo", f"160000,{'1' * 40},libs/outer lib")
    sh(root, "commit", "-q", "-m", "away")
    with pytest.raises(
        WorkspaceError, match="lacks its commit 1111111111; fetch it: git submodule"
    ):
        await make(with_submodules, home)
    assert list(home.glob("worktrees/*/*")) == []
    assert list(with_submodules.git_dir.glob("worktrees/*")) == []


async def test_a_submodule_that_the_checkout_never_fetched_stays_an_empty_directory(
    with_submodules: Repo, home: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    sh(tmp_path, "clone", "-q", str(with_submodules.root), str(clone))
    space = await make(Repo(clone, clone / ".git", "", "main"), home)
    assert list((space.path / "libs" / "outer lib").iterdir()) == []
    assert await rest(space) == sh(clone, "rev-parse", "main")


async def test_sparse_patterns_of_the_checkout_hold_in_the_worktree(
    repository: Repo, home: Path
) -> None:
    for name in ("in", "out"):
        (repository.root / name).mkdir()
        commit(repository.root, f"{name}/x")
    sh(repository.root, "sparse-checkout", "set", "in")
    space = await make(repository, home)
    assert sorted(path.name for path in space.path.iterdir()) == [
        ".git",
        ".gitignore",
        "a.txt",
        "in",
    ]
    (space.path / "in" / "y").write_text("y\n")
    head = await rest(space)
    assert sh(space.path, "ls-tree", "-r", "--name-only", head).split()[-2:] == ["in/y", "out/x"]
