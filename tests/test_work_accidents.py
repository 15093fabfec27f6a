"""What has gone wrong with work elsewhere, in the order of the list; each has a test here or there.

| accident | test |
|---|---|
| dirty, untracked | `test_commit_rest`: tracked new and deleted …; `test_gc`: uncommitted work … |
| ahead | `test_commit_rest`: with nothing left no commit is made; `test_work_killed` |
| detached, on another branch | `test_commit_rest`: work on a detached head or another branch … |
| locked, in use | `test_gc_reconciles`: locked used nested and unpushed ones …; `test_changes` |
| has a submodule | here; `test_gc_reconciles`: a submodule with work that was not pushed … |
| sparse, huge | here |
| spaces, long names, Unicode | here; every scene of `git_scenes` has both in its paths |
| HEAD moved back | `test_commit_rest`: commits that the agent reset away …, looked back … |
| ran in the main checkout | here |
| target not checked out, dirty | `test_merge`, `test_merge_refusals`, `test_cli_work` |
| signing and hooks | `test_workspace`, `test_merge`: hooks … of the repository are not used |
| no editor ever opens | here |
| disk full half-way | here; `test_workspace_failures`: a full disk leaves nothing and is named |
| .git read-only | here; `test_workspace_failures`: a read-only git directory refuses creation … |
| the directory was removed by hand | `test_workspace`, `test_gc_reconciles` |
| two merges at once | `test_merge`: merges at once all land; `test_cli_work` |
| a merge drops no side silently | `test_merge`: a merge keeps both sides and both parents … |
| nothing unreachable is deleted | `test_changes`: removal keeps …; `test_work_killed` |
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from cli import Shell
from gc_scenes import blob, everything_reached, status, work, worktree
from git_scenes import AGENT, clean_on_its_branch, commit, content, rest, sh

from bough.runner.workspaces.git import Repo, open_repository
from bough.runner.workspaces.workspace import (
    Workspace,
    WorkspaceError,
    changes,
    create,
    remove,
)

pytest_plugins = ["cli", "git_scenes"]


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Generator[None]:
    """A mount that needs privileges; loudly skipped without them."""
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: {' '.join(options)} needs privileges: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def test_a_submodule_is_saved_as_the_commit_that_the_agent_left_it_at(
    repository: Repo, home: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    sh(library, "init", "-q", "-b", "main")
    commit(library, "one")
    allowed = ("-c", "protocol.file.allow=always")
    sh(repository.root, *allowed, "submodule", "--quiet", "add", str(library), "lib")
    sh(repository.root, "commit", "-qm", "with a submodule")
    space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    assert await changes(space) == []
    await rest(space)
    sh(space.path, *allowed, "submodule", "--quiet", "update", "--init")
    inner = commit(space.path / "lib", "two")
    (space.path / "new").write_text("n\n")
    await rest(space)
    assert sh(space.repo, "rev-parse", f"{space.branch}:lib") == inner
    assert content(space, "new") == "n"
    assert clean_on_its_branch(space)


async def test_files_outside_a_sparse_checkout_are_not_taken_for_deleted(
    repository: Repo, home: Path
) -> None:
    for folder in ("in", "out"):
        (repository.root / folder).mkdir()
        commit(repository.root, f"{folder}/file")
    space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
    sh(space.path, "sparse-checkout", "set", "in")
    assert not (space.path / "out" / "file").exists()
    (space.path / "in" / "new").write_text("n\n")
    (space.path / "out").mkdir()
    (space.path / "out" / "beside").write_text("b\n")
    assert [c.path for c in await changes(space)] == ["in/new", "out/beside"]
    await rest(space)
    assert content(space, "in/new") == "n"
    assert content(space, "out/beside") == "b"
    assert content(space, "out/file") == "x"
    await remove(space)
    assert content(space, "out/file") == "x"


def test_a_huge_change_is_saved_whole_and_listed_in_part(shell: Shell) -> None:
    script = (
        "i=0; while [ $i -lt 125 ]; do mkdir d$i; (cd d$i; seq 100 | xargs touch); i=$((i+1)); done"
    )
    agent = work(shell, script)
    document = shell.json("show", agent)
    assert document["workspace"]["files_changed"] == 12_500
    assert document["subtree"]["files_changed"] == 12_500
    assert shell.value("select count(*) from bough.file_changes") == 10_000
    tree = shell.git("ls-tree", "-r", "--name-only", shell.column("branch_name", agent))
    assert len(tree.splitlines()) == 12_501
    assert len(shell.json("files", agent, "-n", "20000")) == 10_000


async def test_the_longest_names_and_paths_with_spaces_and_unicode_survive(
    space: Workspace,
) -> None:
    name = " ü\t" + "n" * 251
    place = space.path
    depth = 0
    while len(os.fsencode(place)) < 3800:
        place, depth = place / ("d" * 120), depth + 1
        place.mkdir()
    (place / "deep").write_text("deep\n")
    (space.path / name).write_text("long\n")
    await rest(space)
    assert content(space, name) == "long"
    assert content(space, "/".join(["d" * 120] * depth + ["deep"])) == "deep"
    assert len(await changes(space)) == 2
    await remove(space)
    assert not space.path.exists()


HOW = {
    "cwd": 'cd "$MAIN"; echo oops > oops; git add -A; git commit -qm oops',
    "git -C": 'echo oops > "$MAIN/oops"; git -C "$MAIN" add -A; git -C "$MAIN" commit -qm oops',
    "GIT_DIR": 'export GIT_DIR="$MAIN/.git" GIT_WORK_TREE="$MAIN"; echo oops > "$MAIN/oops";'
    " git add -A; git commit -qm oops",
    "a symlink": 'ln -s "$MAIN" ../link; cd ../link; echo oops > oops; git add -A;'
    " git commit -qm oops",
}


@pytest.mark.parametrize("how", HOW)
def test_an_agent_that_worked_in_the_main_checkout_finds_it_as_it_left_it(
    shell: Shell, how: str
) -> None:
    """What it did there stays there, and neither saving nor collecting touches that checkout."""
    (shell.repo / "mine").write_text("not committed\n")
    who = (
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"
    )
    script = f'{who}; MAIN="{shell.repo}"; echo own > own; {HOW[how]}; echo loose > "$MAIN/loose"'
    agent = work(shell, script)
    before = [shell.git("rev-parse", "main"), shell.git("status", "--porcelain")]
    assert shell.git("show", "main:oops") == "oops"
    assert before[1] == "?? loose"
    own = shell.git("ls-tree", "--name-only", shell.column("branch_name", agent)).split()
    assert own == ["a.txt", "own"]
    assert shell.json("gc", "--max-disk", "0")["removed"]
    assert [shell.git("rev-parse", "main"), shell.git("status", "--porcelain")] == before
    assert (shell.repo / "loose").read_text() == "loose\n"


@pytest.mark.parametrize("what", ["link", "file"])
async def test_a_worktree_that_the_agent_made_a_link_to_the_main_checkout_is_not_believed(
    repository: Repo, space: Workspace, what: str
) -> None:
    sha = commit(space.path, "work")
    space.path.rename(space.path.with_name("aside"))
    if what == "link":
        space.path.symlink_to(repository.root)
    else:
        space.path.write_text("a file")
    (repository.root / "mine").write_text("not committed\n")
    before = sh(repository.root, "status", "--porcelain")
    for operation in (rest(space), remove(space)):
        with pytest.raises(WorkspaceError, match="is no directory"):
            await operation
    assert sh(repository.root, "status", "--porcelain") == before
    assert sh(space.repo, "rev-parse", space.branch) == sha
    space.path.unlink()
    space.path.with_name("aside").rename(space.path)
    assert await rest(space) == sha


def test_no_editor_ever_opens_and_nobody_is_asked(shell: Shell) -> None:
    mark = shell.place / "opened"
    editor = shell.place / "editor"
    editor.write_text(f"#!/bin/sh\necho $0 \"$@\" >> '{mark}'\nexit 1\n")
    editor.chmod(0o755)
    for name in ("GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "EDITOR", "VISUAL", "GIT_ASKPASS", "PAGER"):
        shell.env[name] = str(editor)
    for setting in ("core.editor", "sequence.editor", "core.pager", "core.askPass"):
        shell.git("config", setting, str(editor))
    shell.git("config", "merge.log", "true")
    agent = work(shell, "echo new > new")
    shell("diff", agent)
    shell("merge", agent)
    shell("gc", "--max-disk", "0", "--branches")
    assert shell.git("show", "main:new") == "new"
    assert not mark.exists()


def test_a_full_disk_fails_the_spawn_and_gives_the_budget_back(shell: Shell) -> None:
    (shell.repo / "big").write_bytes(os.urandom(600_000))
    shell.commit("big")
    refs = shell.git("for-each-ref")
    small = shell.home / "worktrees"
    small.mkdir(parents=True)
    with mounted(small, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        parent = shell.plant(budget=1000)
        done = shell(
            "run", "t", "--budget", "500", "--json", "--", "touch", str(shell.gate), code=1
        )
        failed = json.loads(done.out)
        assert failed["error"]["code"] == "workspace_failed"
        assert "disk is full" in failed["error"]["message"]
        assert failed["error"]["message"].count("\n") == 0
        assert failed["workspace"]["isolation_status"] == "failed"
        assert failed["budget"]["used"] == 0
        assert list(small.glob("*/*")) == []
    assert not shell.gate.exists()
    assert shell.git("for-each-ref") == refs
    assert len(shell.git("worktree", "list").splitlines()) == 1
    assert "sound" in shell("db", "verify").out
    assert shell.column("status", parent) == "created"


async def test_a_disk_that_is_full_at_the_end_keeps_the_files_and_saves_them_when_there_is_room(
    tmp_path: Path, home: Path
) -> None:
    root = tmp_path / "small"
    root.mkdir()
    with mounted(root, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        sh(root, "init", "-q", "--template=", "-b", "main")
        commit(root, "a.txt")
        repository = await open_repository(root)
        space = await create(repository, agent_id=AGENT, task="t", home=home, base="main")
        (space.path / "big").write_bytes(os.urandom(2_000_000))
        for operation in (rest(space), remove(space)):
            with pytest.raises(WorkspaceError, match="No space left"):
                await operation
        assert (space.path / "big").stat().st_size == 2_000_000
        subprocess.run(["mount", "-o", "remount,size=20m", str(root)], check=True)
        await rest(space)
        assert clean_on_its_branch(space)
        await remove(space)


def test_a_read_only_git_directory_keeps_every_worktree_until_it_can_be_written(
    shell: Shell,
) -> None:
    agent = work(shell)
    tree = worktree(shell, agent)
    (tree / "late").write_text("late\n")
    git_dir = shell.repo / ".git"
    with mounted(git_dir, "--bind", str(git_dir)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(git_dir)], check=True)
        (item,) = shell.json("gc", "--max-disk", "0")["kept"]
        assert "Read-only file system" in item["reason"]
        assert (tree / "late").exists()
        assert status(shell, agent) == ["saved"]
    assert shell.json("gc", "--max-disk", "0")["removed"]
    assert blob(shell, "late\n") in everything_reached(shell)
