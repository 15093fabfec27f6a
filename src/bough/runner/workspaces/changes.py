"""What an agent changed against the commit it started from, while it works or after.

Guarantees: commits, uncommitted edits and new files are all covered (ignored files are not), and
neither the worktree, its index nor the repository's objects are touched. Once the worktree is
removed, the branch is compared instead.
When it breaks: WorkspaceError or GitError, one line.
"""

from dataclasses import dataclass
from typing import Literal

from bough.runner.workspaces.git import GitError, commit_of, git
from bough.runner.workspaces.worktree import Workspace, named, places, snapshot

_KINDS: dict[str, Literal["created", "deleted", "renamed"]] = {
    "A": "created",
    "D": "deleted",
    "R": "renamed",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One changed file against the base; line counts are None for a binary file."""

    path: str
    kind: Literal["created", "modified", "deleted", "renamed"]
    lines_added: int | None
    lines_removed: int | None
    old_path: str | None = None


async def _compare(workspace: Workspace, *options: str, tip: str | None) -> str:
    """Run diff-tree from the base to the work tree as it is now, or to the branch when gone."""
    with named(f"{workspace.path} cannot be compared with its base"):
        return await _compared(workspace, *options, tip=tip)


async def _compared(workspace: Workspace, *options: str, tip: str | None) -> str:
    args = ("diff-tree", "-r", "-M", "--no-ext-diff", "--no-textconv", *options)
    _, admin = await places(workspace)
    if admin is None or not workspace.path.is_dir():
        ref = f"refs/heads/{workspace.branch}"
        end = await commit_of(workspace.repo, ref) or tip or ref
        return await git(workspace.repo, *args, workspace.base_commit, end, "--")
    for attempt in (1, 2, 3):
        try:
            async with snapshot(workspace.path, admin, keep=False) as shot:
                both = (workspace.base_commit, shot.tree)
                return await git(workspace.path, *args, *both, env=shot.env)
        except GitError:  # the agent is at work: a file can vanish between listing and reading
            if attempt == 3:
                raise
    raise AssertionError


async def changes(workspace: Workspace, *, tip: str | None = None) -> list[Change]:
    """List what differs from the base, committed or not; worktree and index stay untouched.

    `tip` is the commit to compare with when neither the worktree nor the branch is there.
    """
    listing = await _compare(workspace, "-z", "--raw", "--numstat", tip=tip)
    fields = iter(listing.split("\0"))
    names: dict[str, tuple[str, str | None]] = {}
    found: list[Change] = []
    for field in fields:
        if field.startswith(":"):
            letter, first = field.split(" ")[4][0], next(fields)
            path, old = (next(fields), first) if letter == "R" else (first, None)
            names[path] = (letter, old)
        elif field:
            added, removed, path = field.split("\t", 2)
            if not path:  # a rename: old and new name follow
                next(fields)
                path = next(fields)
            letter, old = names[path]
            lines = [None if count == "-" else int(count) for count in (added, removed)]
            found.append(Change(path, _KINDS.get(letter, "modified"), *lines, old_path=old))
    return found


async def diff(
    workspace: Workspace, *, stat: bool = False, colour: bool = False, tip: str | None = None
) -> str:
    """Return the patch from the base, or its summary; covers what `changes` covers.

    `git apply` takes the patch, binary files included. Bytes that are no UTF-8 are surrogates:
    encode with "surrogateescape".
    """
    shape = ("--stat",) if stat else ("--patch", "--binary", "--full-index")
    plain = ("--src-prefix=a/", "--dst-prefix=b/")
    painted = f"--color={'always' if colour else 'never'}"
    return await _compare(workspace, *shape, *plain, painted, tip=tip)
