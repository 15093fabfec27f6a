"""Finds roles: in a commit of a repository, in files of the user, and those that come with Bough.

A repository's roles are read through git from a commit, never from a worktree: an agent's edit of a
role file changes nothing until a person has merged it. Of roles with one name the first wins:
.bough, .claude, .agents, .opencode in the repository, then the same of the user, then built in.
A file that cannot be read is a warning. Raises GitError for a repository that git cannot read.
"""

import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath

from bough.runner.roles.role import MOST_BYTES, Role, role_of
from bough.runner.workspaces.git import git

_PLACES = (
    (".bough/roles", "bough"),
    (".claude/agents", "claude"),
    (".agents/agents", "agents"),
    (".opencode/agent", "opencode"),
    (".opencode/agents", "opencode"),
)
_AT_HOME = (
    (".config/bough/roles", "bough"),
    (".claude/agents", "claude"),
    (".agents/agents", "agents"),
    (".config/opencode/agent", "opencode"),
    (".config/opencode/agents", "opencode"),
)
_MOST_FILES = 500
_BUILT_IN = resources.files("bough.runner.roles") / "builtin"


@dataclass(slots=True)
class Library:
    """Roles by name; those that others hide; what was wrong with files."""

    roles: dict[str, Role] = field(default_factory=dict[str, Role])
    hidden: list[Role] = field(default_factory=list[Role])
    warnings: list[str] = field(default_factory=list[str])

    def add(self, text: str, *, stem: str, source: str, origin: str) -> None:
        """Take in a file; the first role of a name stays."""
        try:
            role = role_of(text, stem=stem, source=source, origin=origin)
        except ValueError as error:
            self.warnings.append(f"{source} is left out: {error}")
            return
        self.warnings += role.warnings
        if role.name in self.roles:
            self.hidden.append(role)
        else:
            self.roles[role.name] = role


def user_home() -> Path:
    """The home of the person, also inside an agent whose program has a home of its own."""
    return Path(os.environ.get("BOUGH_USER_HOME") or Path.home())


async def library(root: Path | None, commit: str | None, *, home: Path | None = None) -> Library:
    """All roles, as seen from a commit of the repository at root; None: without a repository."""
    found = Library()
    if root and commit:
        await _of_commit(found, root, commit)
    _of_user(found, home or user_home())
    for file in sorted(_BUILT_IN.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".md"):
            stem = file.name.removesuffix(".md")
            found.add(file.read_text("utf-8"), stem=stem, source="built in", origin="built-in")
    return found


async def _of_commit(found: Library, root: Path, commit: str) -> None:
    places = [place for place, _ in _PLACES]
    listing = await git(root, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", *places)
    files: dict[str, tuple[str, int]] = {}
    for line in filter(None, listing.split("\0")):
        facts, _, path = line.partition("\t")
        mode, _, blob, size = facts.split()
        if path.endswith(".md") and not mode.startswith("100"):
            found.warnings.append(f"{path} is left out: it is no plain file")
        elif path.endswith(".md"):
            files[path] = blob, int(size)
    for place, origin in _PLACES:
        for path in sorted(p for p in files if p.startswith(f"{place}/"))[:_MOST_FILES]:
            blob, size = files[path]
            if size > MOST_BYTES:
                found.warnings.append(f"{path} is left out: it has more than {MOST_BYTES} bytes")
                continue
            text = await git(root, "cat-file", "blob", blob)
            found.add(text, stem=PurePosixPath(path).stem, source=path, origin=origin)


def _of_user(found: Library, home: Path) -> None:
    for place, origin in _AT_HOME:
        try:
            files = sorted((home / place).rglob("*.md"))[:_MOST_FILES]
        except OSError:
            continue
        for file in files:
            source = f"~/{place}/{file.relative_to(home / place)}"
            try:
                if file.stat().st_size > MOST_BYTES:
                    raise ValueError(f"it has more than {MOST_BYTES} bytes")
                text = file.read_text("utf-8", "surrogateescape")
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                found.warnings.append(f"{source} is left out: {why}")
                continue
            found.add(text, stem=file.stem, source=source, origin=origin)
