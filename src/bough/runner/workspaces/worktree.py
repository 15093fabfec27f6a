"""One git worktree and git's own directory for it: find, make, read whole, repair, delete.

Guarantees: git runs on the worktree with its git directory named outright, so a `.git` that an
agent planted there is never believed; a snapshot touches neither the worktree nor its index.
When it breaks: WorkspaceError or GitError, one line.
"""

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

from bough.runner.workspaces.git import (
    GitError,
    commit_of,
    commit_tree,
    git,
    is_ancestor,
    locked,
    run,
)

SNAPSHOT = "bough-"  # how the directory of a snapshot begins
WORKTREES_LOCK = "bough-worktrees.lock"  # in the common git directory
READY = "bough-ready"  # in git's directory for the worktree, once all its files were written
_ATTEMPTS = 3
_WRITING = "read-tree"
_UNDER_WAY = (
    *("MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "MERGE_AUTOSTASH", "AUTO_MERGE", "SQUASH_MSG"),
    *("CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "rebase-merge", "rebase-apply"),
    "sequencer",
)


class WorkspaceError(GitError):
    """A workspace cannot be made, read or removed."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """An agent's worktree: its directory, its branch, the commit it started from, and the root of
    the repository that it belongs to."""

    path: Path
    branch: str
    base_commit: str
    repo: Path


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A work tree as a tree object; `index` matches it, `env` runs git on it. `nested` names the
    repositories inside that it leaves out, `unmerged` says that a conflict was open."""

    tree: str
    index: Path
    env: dict[str, str]
    nested: list[str]
    unmerged: bool


@contextlib.contextmanager
def named(what: str) -> Generator[None]:
    """Turn whatever git or the file system refuses into one WorkspaceError that begins so."""
    try:
        yield
    except WorkspaceError:
        raise
    except (GitError, OSError) as error:
        raise WorkspaceError(f"{what}: {error}") from error


def admin_of(git_dir: Path, path: Path) -> Path | None:
    """Find git's own directory for the worktree at `path`, also when the worktree is gone."""
    # git replaces in the name of its directory what a ref may not contain.
    likely = re.sub("[^A-Za-z0-9_-]", "?", path.name)
    for admin in git_dir.glob(f"worktrees/{likely}*"):
        if place_of(admin) == path:
            return admin
    return None


def place_of(admin: Path) -> Path | None:
    """The worktree that a git directory of a worktree is for, whether or not it is there."""
    with contextlib.suppress(OSError):
        return Path(os.fsdecode((admin / "gitdir").read_bytes().rstrip(b"\n"))).parent
    return None


def tree_env(admin: Path, path: Path) -> dict[str, str]:
    """Name the worktree and its git directory outright, for the environment of git."""
    return {"GIT_DIR": str(admin), "GIT_WORK_TREE": str(path)}


async def places(workspace: Workspace) -> tuple[Path, Path | None]:
    """Return the repository's git directory and the worktree's own (None: not registered)."""
    if workspace.path.is_symlink() or (workspace.path.exists() and not workspace.path.is_dir()):
        raise WorkspaceError(f"{workspace.path} is no directory; move that and put it back")
    args = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    git_dir = Path((await git(workspace.repo, *args)).removesuffix("\n"))
    admin = admin_of(git_dir, workspace.path)
    if admin is None and os.path.lexists(workspace.path):
        message = f"{workspace.path} is not a worktree of {workspace.repo}"
        raise WorkspaceError(f"{message} (was it pruned?); save what you need and delete it")
    return git_dir, admin


async def register(root: Path, git_dir: Path, path: Path, *what: str) -> Path:
    """Add an empty worktree on `what`, a branch or `--detach` and a commit; its git directory."""
    args = ("worktree", "add", "-q", "--no-checkout", *what[:-1], str(path), what[-1])
    for attempt in range(_ATTEMPTS):
        try:
            await git(root, *args)
            break
        except GitError:  # our lock does not keep out a git that somebody runs by hand
            if attempt == _ATTEMPTS - 1:
                raise
            await discard(path, admin_of(git_dir, path))
    admin = admin_of(git_dir, path)
    if admin is None:
        raise WorkspaceError(f"git made {path} but does not list it; see git worktree")
    return admin


async def read_files(path: Path, admin: Path, commit: str) -> None:
    """Write the files of `commit` into a worktree that nobody works in yet, new or a spare.

    A spare's unchanged files are not even looked at: what it holds, its index knows.
    """
    env = tree_env(admin, path)
    if (admin / "index").exists():
        if commit_in(admin) == commit:
            return
        read = await run(path, _WRITING, "-m", "-u", commit, env=env)
        if read.code == 0:
            return
    await git(path, _WRITING, "--reset", "-u", commit, env=env)


async def discard(path: Path, admin: Path | None) -> None:
    """Delete a worktree and git's record of it; whatever matters in it is in refs already."""
    if admin:
        (admin / READY).unlink(missing_ok=True)
    if os.path.lexists(path):
        await asyncio.to_thread(shutil.rmtree, path)
    if admin:
        await asyncio.to_thread(shutil.rmtree, admin)


def commit_in(admin: Path) -> str | None:
    """The commit that a worktree is detached at; None when it is on a branch."""
    head = (admin / "HEAD").read_text().strip()
    return head if re.fullmatch("[0-9a-f]{40,64}", head) else None


def point_head(admin: Path, branch: str) -> None:
    """Put a worktree on its branch; its files are not touched."""
    write_line(admin / "HEAD", f"ref: refs/heads/{branch}".encode())


def write_line(file: Path, line: bytes) -> None:
    """Replace a file of one line as a whole."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(line + b"\n")
    part.replace(file)


async def repair(path: Path, admin: Path) -> None:
    """Give a worktree that was removed by hand its files back, as far as git knows them.

    They are written beside it and renamed: a worktree half restored would look like one whose
    agent had deleted files.
    """
    if not path.is_dir():
        part = path.with_name(f"{path.name}.part")
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
        part.mkdir(parents=True)
        async with locked(part):
            if (admin / "index").exists():
                await run(part, "checkout-index", "-a", "-f", "-q", env=tree_env(admin, part))
            else:
                await git(part, "reset", "--hard", "-q", env=tree_env(admin, part))
            part.rename(path)
    if not os.path.lexists(path / ".git"):
        (path / ".git").write_bytes(b"gitdir: " + os.fsencode(admin) + b"\n")


def end_what_is_under_way(admin: Path) -> None:
    """Forget a merge, rebase, pick or revert that was left half-way; its commits are in refs."""
    for place in (admin / name for name in _UNDER_WAY):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def snapshot(path: Path, admin: Path, *, keep: bool) -> AsyncGenerator[Snapshot]:
    """Write the work tree as a tree object, through an index of its own.

    With `keep` the objects go into the repository, else they vanish with the context.
    """
    place = Path(tempfile.mkdtemp(prefix=SNAPSHOT, dir=admin if keep else None))
    try:
        # The lock tells a snapshot under way from what a killed one has left.
        async with locked(place):
            yield await _taken(path, admin, place, keep=keep)
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _taken(path: Path, admin: Path, place: Path, *, keep: bool) -> Snapshot:
    index = place / "index"
    env = tree_env(admin, path) | {"GIT_INDEX_FILE": str(index)}
    if not keep:
        store = ("rev-parse", "--path-format=absolute", "--git-path", "objects")
        objects = await git(path, *store, env=env)
        (place / "objects" / "info").mkdir(parents=True)
        (place / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects))
        env["GIT_OBJECT_DIRECTORY"] = str(place / "objects")
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(admin / "index", index)  # its time too: git's clean check relies on it
    args = ("ls-files", "-z", "--others", "--exclude-standard")
    others = await run(path, *args, env=env)
    if others.code != 0 or not index.exists():
        index.unlink(missing_ok=True)
        head = await commit_of(path, "HEAD", env=env)
        await git(path, "read-tree", head or "--empty", env=env)
        others = await run(path, *args, env=env)
    nested = [name[:-1] for name in others.out.split("\0") if name.endswith("/")]
    unmerged = await git(path, "ls-files", "-z", "--unmerged", env=env)
    excluded = [f":(top,exclude,literal){name}" for name in nested]
    await git(path, "add", "-A", "--sparse", "--", ".", *excluded, env=env)
    tree = (await git(path, "write-tree", env=env)).strip()
    nested += [".git"] * (path / ".git").is_dir()
    return Snapshot(tree, index, env, nested, bool(unmerged))


def mentioned(*roots: Path) -> list[str]:
    """List every object id written in git's small files: heads, logs, rebases under way."""
    found: dict[str, None] = {}
    for root in roots:
        for file in (root, *root.rglob("*")):
            inside = file.relative_to(root).parts
            if file.is_file() and not file.name.startswith("index") and "modules" not in inside:
                words = re.findall(rb"\b[0-9a-f]{40,64}\b", file.read_bytes())
                found |= dict.fromkeys(word.decode() for word in words)
    return list(found)


async def tree_of(where: Path, commit: str) -> str:
    """Return the id of a commit's tree."""
    return (await git(where, "rev-parse", f"{commit}^{{tree}}")).strip()


async def commit_snapshot(
    workspace: Workspace, admin: Path, shot: Snapshot, *, work: str, tip: str | None, **who: str
) -> str:
    """Commit the snapshot on top of `work`, unless that or the branch's tip holds it already."""
    repo = workspace.repo
    if shot.tree == await tree_of(repo, work):
        return work
    if tip and shot.tree == await tree_of(repo, tip) and await is_ancestor(repo, work, tip):
        return tip
    # A half-resolved merge is no merge: a second parent would declare the other side contained.
    merging = admin / "MERGE_HEAD"
    others = merging.read_text().split() if merging.exists() and not shot.unmerged else []
    return await commit_tree(repo, shot.tree, parents=[work, *others], **who)
