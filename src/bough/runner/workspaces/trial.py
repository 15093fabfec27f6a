"""Runs programs that judge a merge: the repository's hooks, and the gates of its settings.

Guarantees: whatever they start is gone when they have ended; they end in time; they find nothing of
Bough's or git's variables, no terminal and no input; at most the last 8 KiB of output are kept.
When it breaks: a program that cannot be started counts as one that failed.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bough.runner.environment import inherited_environment
from bough.runner.programs import program
from bough.runner.workspaces.checkout import checked_out
from bough.runner.workspaces.git import GitError, Repo, git
from bough.runner.workspaces.settings import MergeSettings, Strategy

_KEPT_BYTES = 8192
_NOBODY_TYPES = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "GIT_SEQUENCE_EDITOR": "true"}
_HOOKS: dict[Strategy, tuple[str, ...]] = {
    "merge": ("pre-merge-commit", "commit-msg"),
    "squash": ("pre-commit", "commit-msg"),
    "rebase": (),
}
"""What git itself would run for a merge and for a commit; a rebase runs none."""


class HookFailed(GitError):
    """A hook of the repository refused the merge."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a program ended: what was run, its exit code (None: killed, out of time), its output."""

    what: str
    code: int | None
    output: str
    why: str

    @property
    def ok(self) -> bool:
        """True when it exited with 0."""
        return self.code == 0

    @property
    def last_line(self) -> str:
        """The last line that it printed."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it printed nothing"


async def _judged(what: str, argv: Sequence[str], where: Path, seconds: float) -> Verdict:
    kept = bytearray()

    async def keep(stream: str, chunk: bytes) -> None:
        del stream
        kept.extend(chunk)
        del kept[:-_KEPT_BYTES]

    env = inherited_environment(os.environ) | _NOBODY_TYPES | {"PWD": str(where)}
    try:
        running = await program.start(argv, cwd=where, env=env, output=keep, deadline_s=seconds)
    except program.CannotStartError as error:
        return Verdict(what, None, "", str(error))
    try:
        ended = await running.wait()
    except BaseException:
        await running.stop(grace_s=1.0)
        raise
    output = kept.decode("utf-8", "replace").replace("\0", "\ufffd")
    if ended.reason == "deadline":
        return Verdict(what, None, output, f"was stopped after {seconds:g} s")
    if ended.code is None:
        return Verdict(what, None, output, f"was ended by signal {ended.signal}")
    return Verdict(what, ended.code, output, f"exited with {ended.code}")


async def gates_failed(repository: Repo, commit: str, settings: MergeSettings) -> Verdict | None:
    """Run the gates on a commit, in order; the first that failed, None when all exited with 0."""
    async with checked_out(repository, commit, files=commit) as tree:
        for gate in settings.gates:
            verdict = await _judged(gate, ["sh", "-c", gate], tree, settings.gate_timeout_s)
            if not verdict.ok:
                return verdict
    return None


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a repository that can be run, and for how many seconds each at most."""

    repository: Repo
    place: Path
    names: frozenset[str]
    seconds: float

    async def run(self, tip: str, tree: str, message: str, strategy: Strategy) -> str:
        """Run the hooks for one commit; its message, which commit-msg may change.

        Raises HookFailed.
        """
        names = [name for name in _HOOKS[strategy] if name in self.names]
        if not names:
            return message
        async with checked_out(self.repository, tip, files=tree) as where:
            file = where.parent / "message"
            file.write_text(message, "utf-8", "surrogateescape")
            for name in names:
                args = [str(file)] if name == "commit-msg" else []
                argv = ["git", "-c", f"core.hooksPath={self.place}", "hook", "run", name, "--"]
                verdict = await _judged(name, [*argv, *args], where, self.seconds)
                if not verdict.ok:
                    raise HookFailed(
                        f"hook {name} {verdict.why}: {verdict.last_line}; nothing was changed "
                        f"(try it: {shlex.quote(str(self.place / name))})"
                    )
            return file.read_text("utf-8", "surrogateescape")


async def hooks_of(repository: Repo, settings: MergeSettings) -> Hooks:
    """Find the hooks where the repository's own settings say that they are."""
    args = ("config", "--show-scope", "--type=path", "-z", "--get-all", "core.hooksPath")
    words = (await git(repository.root, *args, check=False)).split("\0")[:-1]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    # Ours on the command line, which turns hooks off, is not asked here.
    own = [path for scope, path in pairs if scope != "command"]
    place = repository.root / own[-1] if own else repository.git_dir / "hooks"
    every = {name for names in _HOOKS.values() for name in names}
    there = frozenset(name for name in every if os.access(place / name, os.X_OK))
    return Hooks(repository, place, there, settings.gate_timeout_s)
