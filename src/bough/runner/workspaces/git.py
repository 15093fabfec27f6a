"""Runs git as a child process, always in the same safe way.

Guarantees: nothing of the caller's `GIT_*` environment reaches git; no hook, editor, pager, prompt,
signature, file watcher or automatic gc starts; paths survive byte for byte (surrogateescape); a
cancelled call ends its git and that git's children before it returns. `locked` keeps two programs
apart, `rescue` gives a ref to commits that no ref reaches.
When it breaks: GitError, one line, with the command and all of git's stderr as attributes.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# Settings of the repository or the user that would start a program, ask a question or change what
# our commands mean. Passed on the command line, which wins over every file an agent could write.
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.safecrlf=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "i18n.commitEncoding=UTF-8",
    "submodule.recurse=false",
    "add.ignoreErrors=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_FLAGS = tuple(word for setting in _SETTINGS for word in ("-c", setting))
_STOP_SECONDS = 2.0  # git removes its lock files on SIGTERM; after this it is killed
_LOCK_SECONDS = 120.0


class GitError(Exception):
    """git could not do what was asked; `command` is what ran, `stderr` all that git said."""

    def __init__(self, message: str, *, command: tuple[str, ...] = (), stderr: str = "") -> None:
        super().__init__(message)
        self.command = command
        self.stderr = stderr


class NoRepositoryHere(GitError):
    """The path is missing, no directory, or not inside a git repository."""


class NoCommit(GitError):
    """The repository, or a name in it, has no commit to start from."""


class Busy(GitError):
    """Somebody else holds the lock."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One git command that has ended: exit code (negative: signal) and both outputs, decoded."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository: main work tree (or bare directory), common git directory, and the HEAD of the
    checkout that was named, which is a linked worktree's own when one was given."""

    root: Path
    git_dir: Path
    head: str
    branch: str | None


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    fixed = {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_SEQUENCE_EDITOR": "true",
        "GIT_MERGE_AUTOEDIT": "no",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    return {**kept, **fixed, **(extra or {})}


def quoted(paths: list[str]) -> str:
    """Name a few paths on one line, whatever bytes are in them."""
    return ", ".join(map(repr, paths[:3])) + ", …" * (len(paths) > 3)


async def run(
    where: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002
) -> Finished:
    """Run git in `where` and return however it ended; GitError only when it cannot be started."""
    data = None if input is None else input.encode("utf-8", "surrogateescape")
    # Cancelled while it starts a process, asyncio kills that one only and then waits for its
    # children to close the pipes, perhaps for ever: so starting is never cancelled.
    starting = asyncio.ensure_future(_start(where, args, env, data is not None))
    try:
        process = await asyncio.shield(starting)
        out, err = await process.communicate(data)
    except BaseException:
        await _stop(await asyncio.shield(starting))
        raise
    out_text, err_text = (text.decode("utf-8", "surrogateescape") for text in (out, err))
    return Finished(process.returncode or 0, out_text, err_text)


async def _start(
    where: Path, args: tuple[str, ...], env: Mapping[str, str] | None, piped: bool
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *("git", "-C", str(where.absolute()), *_FLAGS, *args),
            cwd="/",
            env=_environment(env),
            stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        message = "git is not on PATH; install git 2.38 or newer"
        raise GitError(message, command=args) from error
    except (OSError, ValueError) as error:
        raise GitError(f"git {args[0]} cannot be started: {error}", command=args) from error


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End git and its children: they share a session of their own, so the group is theirs."""
    try:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            os.killpg(process.pid, signal.SIGTERM)
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()


def failure(finished: Finished, args: tuple[str, ...]) -> GitError:
    """Make the GitError of a command that failed: the line of stderr that tells most."""
    lines = [line.strip() for line in finished.err.splitlines() if line.strip()]
    full = [line for line in lines if "No space left" in line]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))]
    if finished.code < 0:
        said = f"killed by {signal.Signals(-finished.code).name}"
    else:
        said = (full or told or lines or [f"exit code {finished.code}"])[0]
    return GitError(f"git {args[0]}: {said}", command=args, stderr=finished.err)


async def git(
    repo_or_tree: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002
    check: bool = True,
) -> str:
    """Run git and return its stdout; a non-zero exit raises GitError unless `check` is False."""
    finished = await run(repo_or_tree, *args, env=env, input=input)
    if check and finished.code != 0:
        raise failure(finished, args)
    return finished.out


async def commit_of(where: Path, name: str, *, env: Mapping[str, str] | None = None) -> str | None:
    """Return the id of the commit that `name` means, or None when there is no such commit."""
    if name.startswith("-"):
        return None
    found = await run(where, "rev-parse", "-q", "--verify", f"{name}^{{commit}}", env=env)
    return found.out.strip() if found.code == 0 else None


async def is_ancestor(where: Path, old: str, new: str) -> bool:
    """Say whether commit `new` contains commit `old`."""
    args = ("merge-base", "--is-ancestor", old, new)
    finished = await run(where, *args)
    if finished.code not in (0, 1):
        raise failure(finished, args)
    return finished.code == 0


async def open_repository(path: Path) -> Repo:
    """Find the repository that holds `path`: its root, a sub-directory, a linked worktree or bare.

    Raises NoRepositoryHere, NoCommit or GitError, each one line with what to do.
    """
    if not path.is_dir():
        wrong = "is not a directory" if path.exists() else "does not exist"
        raise NoRepositoryHere(f"{path} {wrong}; name the directory of a git repository")
    args = ("rev-parse", "--path-format=absolute", "--git-common-dir", "--absolute-git-dir")
    found = await run(path, *args, "--is-bare-repository")
    if "not a git repository" in found.err:
        raise NoRepositoryHere(f"{path} is not inside a git repository; run: git init {path}")
    if "dubious ownership" in found.err:
        advice = f"run: git config --global --add safe.directory {path}"
        raise GitError(f"{path} belongs to another user, so git refuses to read it; {advice}")
    if found.code != 0:
        raise failure(found, args)
    common_dir, own_dir, bare = found.out.splitlines()
    git_dir = Path(common_dir)
    root = git_dir.parent if git_dir.name == ".git" and bare == "false" else git_dir
    if common_dir == own_dir and bare == "false":
        top = await git(path, "rev-parse", "--show-toplevel", check=False)
        root = Path(top.removesuffix("\n")) if top else root
    head = await commit_of(path, "HEAD")
    if head is None:
        advice = f"make a first commit: git -C {path} commit --allow-empty -m start"
        raise NoCommit(f"{path} is a repository without a commit; {advice}")
    branch = (await git(path, "symbolic-ref", "-q", "--short", "HEAD", check=False)).strip()
    return Repo(root, git_dir, head, branch or None)


@contextlib.asynccontextmanager
async def locked(
    path: Path, *, patience_s: float = _LOCK_SECONDS, shared: bool = False
) -> AsyncGenerator[None]:
    """Hold the flock of a file (made when missing) or directory; Busy after `patience_s` seconds.

    The lock ends with this process, however it ends; git's children never inherit it.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    try:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise GitError(f"cannot open the lock {path}: {error.strerror}") from error
    try:
        until = asyncio.get_running_loop().time() + patience_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
                break
            except BlockingIOError as error:
                if asyncio.get_running_loop().time() >= until:
                    message = f"{path} is still locked by another program after {patience_s:g} s"
                    raise Busy(f"{message}; see who with: fuser {path}") from error
            await asyncio.sleep(0.005)
        yield
    finally:
        os.close(handle)


async def commit_tree(
    where: Path, tree: str, *, parents: Iterable[str], message: str, name: str, email: str
) -> str:
    """Write a commit object and return its id; no ref moves, no hook, signature or editor."""
    who = {f"GIT_{role}_NAME": name for role in ("AUTHOR", "COMMITTER")}
    who |= {f"GIT_{role}_EMAIL": email for role in ("AUTHOR", "COMMITTER")}
    parent_words = [word for parent in parents for word in ("-p", parent)]
    made = await git(where, "commit-tree", tree, *parent_words, "-F", "-", env=who, input=message)
    return made.strip()


async def rescue(
    where: Path, *, agent: str, commits: Iterable[str], reached_by: str = "", leaving: str = ""
) -> list[str]:
    """Give a ref to each of `commits` that no ref reaches: `refs/bough/rescue/<agent>/<n>`.

    What the commit `reached_by` contains counts as reached, what only the ref `leaving` reaches
    does not. Ids that no longer exist are passed over. Returns the refs that were made.
    """
    wanted = [commit for commit in dict.fromkeys(commits) if commit.strip("0")]
    if not wanted:
        return []
    walk = ["rev-list", "--ignore-missing", "--parents", "--stdin", "--not"]
    walk += [f"--exclude={leaving}"] * bool(leaving) + ["--glob=refs/*"]
    walk += [reached_by] * bool(reached_by)
    lost = [
        line.split() for line in (await git(where, *walk, input="\n".join(wanted))).splitlines()
    ]
    parents = {parent for _, *above in lost for parent in above}
    tips = [commit for commit, *_ in lost if commit not in parents]
    if not tips:
        return []
    prefix = f"refs/bough/rescue/{agent}/"
    names = (await git(where, "for-each-ref", "--format=%(refname)", prefix)).split()
    first = 1 + max((int(name.removeprefix(prefix)) for name in names), default=0)
    made = {f"{prefix}{first + place}": commit for place, commit in enumerate(tips)}
    orders = "".join(f"create {ref} {commit}\n" for ref, commit in made.items())
    await git(where, "update-ref", "--stdin", input=orders)
    log.warning("kept %s", made, extra={"event": "workspace.rescued", "refs": made})
    return list(made)
