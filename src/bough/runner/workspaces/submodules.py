"""Submodules in a worktree: there without a fetch, saved with it, their commits brought home.

Laid out as git itself does in a linked worktree, a repository of its own below git's directory for
the worktree, so that `git submodule` works in it; its objects are those of the main checkout's
submodule, shared. Guarantees: what was committed or left in one is in the main checkout's
submodule, on the agent's branch or under `refs/bough/rescue/<agent>/`, before it goes; a merge of
the agent's work finds it there. Submodules that the main checkout does not have stay empty.
When it breaks: GitError or OSError, one line; nothing was deleted.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bough.runner.workspaces.git import GitError, commit_of, git, rescue, run
from bough.runner.workspaces.worktree import (
    Workspace,
    commit_snapshot,
    mentioned,
    point_head,
    read_files,
    repair,
    snapshot,
    tree_env,
)

_NOTE = "bough-store"  # in the submodule's git directory, last: whose objects it has, its base
_LOOSE = (
    *("HEAD", "ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", "logs"),
    *("rebase-merge", "rebase-apply", "sequencer"),
)


@dataclass(frozen=True, slots=True)
class Submodule:
    """One submodule's worktree, its own git directory, and the main checkout's for it."""

    space: Workspace
    own: Path
    store: Path

    @property
    def agent(self) -> str:
        """Whose it is, as its branch says."""
        return self.space.branch.split("/")[1]

    def mentions(self) -> list[str]:
        """Every commit that its heads, logs and rebases under way speak of."""
        return mentioned(*(self.own / name for name in _LOOSE))


def submodules_of(workspace: Workspace, admin: Path) -> list[Submodule]:
    """Those that `populate` made in a worktree, innermost first."""
    found: list[Submodule] = []
    for note in (admin / "modules").glob(f"**/{_NOTE}"):
        place, store, base = note.read_text().splitlines()
        space = Workspace(workspace.path / place, workspace.branch, base, note.parent)
        found.append(Submodule(space, note.parent, Path(store)))
    return sorted(found, key=lambda sub: len(sub.own.parts), reverse=True)


async def populate(workspace: Workspace, admin: Path, modules: Path) -> None:
    """Make each submodule that the worktree lists and `modules`, the main checkout's, holds."""
    await _populate(workspace.path, workspace, admin, modules)


async def _populate(top: Path, workspace: Workspace, admin: Path, modules: Path) -> None:
    async for name, place, commit in _listed(workspace, admin, modules):
        own, store = admin / "modules" / name, modules / name
        if await commit_of(store, commit, env=tree_env(store, top)) is None:
            advice = "fetch it: git submodule update --init, in the main checkout"
            raise GitError(f"submodule {place} lacks its commit {commit[:10]}; {advice}")
        space = Workspace(workspace.path / place, workspace.branch, commit, own)
        await _clone(space, own, store, top)
        await _populate(top, space, own, store / "modules")
        inside = space.path.relative_to(top)
        (own / _NOTE).write_text(f"{inside}\n{store}\n{commit}\n")


async def _listed(
    workspace: Workspace, admin: Path, modules: Path
) -> AsyncGenerator[tuple[str, str, str]]:
    """Name, place and commit of each submodule of the worktree's HEAD that `modules` holds."""
    path, env = workspace.path, tree_env(admin, workspace.path)
    if not modules.is_dir() or not (path / ".gitmodules").is_file():
        return
    wanted = ("config", "-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    for entry in (await run(path, *wanted, env=env)).out.split("\0"):
        key, _, place = entry.partition("\n")
        name = key.removeprefix("submodule.").removesuffix(".path")
        if not _is_inside(name) or not _is_inside(place) or not (modules / name / "HEAD").exists():
            continue
        listed = (await git(path, "ls-tree", "HEAD", "--", place, env=env)).split()
        if listed[:2] == ["160000", "commit"]:
            yield name, place, listed[2]


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not name.startswith("/")


async def _clone(space: Workspace, own: Path, store: Path, top: Path) -> None:
    own.parent.mkdir(parents=True, exist_ok=True)
    options = ("--shared", "--no-checkout", "--no-tags", "--template=", f"--separate-git-dir={own}")
    await git(top, "clone", "-q", *options, str(store), str(space.path))
    url = await run(top, "config", "remote.origin.url", env=tree_env(store, top))
    if url.code == 0:  # its own remote, not where its objects came from
        env = tree_env(own, space.path)
        await git(space.path, "config", "remote.origin.url", url.out.removesuffix("\n"), env=env)
    branch = f"refs/heads/{space.branch}"
    env = tree_env(own, space.path)
    await git(space.path, "update-ref", branch, space.base_commit, env=env)
    point_head(own, space.branch)
    await read_files(space.path, own, space.base_commit)


async def restore(workspace: Workspace, admin: Path) -> None:
    """Give back what was removed by hand: the worktree, then its submodules from outside in."""
    await repair(workspace.path, admin)
    for sub in reversed(submodules_of(workspace, admin)):
        path = sub.space.path
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        await repair(path, sub.own)


async def set_aside(sub: Submodule) -> None:
    """Give a ref to all that a submodule holds; what is not committed goes on no branch."""
    space, own = sub.space, sub.own
    if not space.path.is_dir():
        return
    who = {"name": "Bough", "email": "bough@localhost", "message": f"Left in {space.path}"}
    async with snapshot(space.path, own, keep=True) as shot:
        env = tree_env(own, space.path)
        head = await commit_of(space.path, "HEAD", env=env) or space.base_commit
        left = await commit_snapshot(space, own, shot, work=head, tip=None, **who)
    await rescue(own, agent=sub.agent, commits=[left, *sub.mentions()])


async def bring_home(sub: Submodule) -> None:
    """Let the main checkout's submodule have all that has a ref here: its branch, the rest rescued.

    Done again after a kill, it ends the same.
    """
    agent = sub.agent
    incoming, env = f"refs/bough/incoming/{agent}", tree_env(sub.store, sub.store)
    kinds = ("heads/*", "tags/*", "bough/*", "stas*")
    specs = [f"+refs/{kind}:{incoming}/{kind}" for kind in kinds]
    where = sub.store.parent
    await git(
        where, "fetch", "-q", "--no-tags", "--no-write-fetch-head", str(sub.own), *specs, env=env
    )
    listing = await git(
        where, "for-each-ref", "--format=%(refname) %(objectname)", incoming, env=env
    )
    refs = dict(line.split(" ") for line in listing.splitlines())
    branch = f"refs/heads/{sub.space.branch}"
    tip = refs.get(f"{incoming}/heads/{sub.space.branch}")
    known = await commit_of(where, branch, env=env)
    if tip:
        await git(where, "update-ref", branch, tip, env=env)
    await rescue(
        sub.store, agent=agent, commits=[*refs.values(), known or ""], leaving=f"{incoming}/*"
    )
    orders = "".join(f"delete {ref}\n" for ref in refs)
    await git(where, "update-ref", "--stdin", env=env, input=orders)
