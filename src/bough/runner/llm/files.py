"""Tools for files: read, write, edit, list, search; none leaves the worktree.

A path is checked after its links are resolved. `.git` is not changed. This keeps an agent in its
place, it is no wall: another program of the agent could swap a link in between.
"""

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import Field

from bough.runner.llm.entry import cut
from bough.runner.llm.shell import bounded_run
from bough.runner.llm.tool import Arguments, Gave, Refusal, Tool
from bough.runner.workspaces.git import run

_MOST_CHARS = 40_000
_MOST_BYTES = 2_000_000
_MOST_PATHS = 1_000
_SEARCH_S = 60.0
PathName = Annotated[str, Field(description="Relative to the worktree.")]


class Read(Arguments):
    """Arguments of read."""

    path: PathName
    start: Annotated[int, Field(description="The first line, from 1.", ge=1)] = 1
    lines: Annotated[int, Field(description="How many lines at most.", ge=1)] = 2_000


class Write(Arguments):
    """Arguments of write."""

    path: PathName
    text: Annotated[str, Field(description="The whole new content.")]


class Edit(Arguments):
    """Arguments of edit."""

    path: PathName
    old: Annotated[str, Field(description="Text as it stands there, exactly.", min_length=1)]
    new: str
    everywhere: Annotated[bool, Field(description="Replace each occurrence.")] = False


class List(Arguments):
    """Arguments of list."""

    path: PathName = "."
    pattern: Annotated[str, Field(description="Like *.py or src/*/test_*; empty: all.")] = ""


class Search(Arguments):
    """Arguments of search."""

    pattern: Annotated[str, Field(description="An extended regular expression.", min_length=1)]
    path: PathName = "."


class Files:
    """The files of one worktree."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def inside(self, path: str, *, changed: bool = False) -> Path:
        """Where a path leads, links resolved. Raises Refusal when that is outside."""
        if "\0" in path:
            raise Refusal("a path has no NUL in it")
        try:
            found = (self._root / path).resolve()
        except (OSError, RuntimeError) as error:
            raise Refusal(f"{path}: {error}") from error
        if not found.is_relative_to(self._root):
            raise Refusal(f"{path} is outside the worktree; give a path inside it")
        if changed and found.relative_to(self._root).parts[:1] in ((), (".git",)):
            raise Refusal(f"{path} is not changed by hand; give the path of a file")
        return found

    def _text(self, path: str, *, changed: bool) -> str:
        """The text of a file. Raises Refusal."""
        file = self.inside(path, changed=changed)
        if not file.is_file():
            raise Refusal(f"{path} is {'a directory' if file.is_dir() else 'not there'}; see list")
        if file.stat().st_size > _MOST_BYTES:
            raise Refusal(f"{path} has {file.stat().st_size} bytes; use the shell for a part of it")
        raw = file.read_bytes()
        if b"\0" in raw:
            raise Refusal(f"{path} is no text: {len(raw)} bytes")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            if changed:
                raise Refusal(f"{path} is no UTF-8 text, and is not edited") from None
            return raw.decode("utf-8", "replace")

    def _put(self, file: Path, path: str, text: str) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(
                os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666), "wb"
            ) as stream:
                stream.write(text.encode("utf-8", "replace"))
        except OSError as error:
            raise Refusal(f"{path}: {error.strerror}") from error

    async def read(self, told: Read, key: UUID) -> Gave:
        """Lines of a file."""
        del key
        lines = self._text(told.path, changed=False).splitlines(keepends=True)
        part = lines[told.start - 1 : told.start - 1 + told.lines]
        if not part:
            return Gave(f"({told.path} has {len(lines)} lines)")
        rest = len(lines) - (told.start - 1) - len(part)
        more = f"\n[{rest} more lines; go on with start {told.start + len(part)}]" if rest else ""
        return Gave(cut("".join(part), _MOST_CHARS) + more)

    async def write(self, told: Write, key: UUID) -> Gave:
        """A file with this content."""
        del key
        file = self.inside(told.path, changed=True)
        if file.is_dir():
            raise Refusal(f"{told.path} is a directory")
        new = not file.exists()
        self._put(file, told.path, told.text)
        return Gave(f"{told.path} {'made' if new else 'written'}: {len(told.text)} characters")

    async def edit(self, told: Edit, key: UUID) -> Gave:
        """A file with another text in one place, or everywhere."""
        del key
        text = self._text(told.path, changed=True)
        count = text.count(told.old)
        if count == 0:
            raise Refusal(f"old is not in {told.path}; read it and give the text exactly")
        if count > 1 and not told.everywhere:
            raise Refusal(f"old is {count} times in {told.path}; give more of what is around it")
        file = self.inside(told.path, changed=True)
        self._put(file, told.path, text.replace(told.old, told.new))
        return Gave(f"{told.path} edited in {count} place{'s' if count > 1 else ''}")

    async def list_(self, told: List, key: UUID) -> Gave:
        """Files below a path, those that git ignores left out."""
        del key
        below = self.inside(told.path)
        if not below.exists():
            raise Refusal(f"{told.path} is not there")
        found = await self._known(below)
        paths = sorted(p for p in found if not told.pattern or fnmatch(p, f"*{told.pattern}"))
        shown = "\n".join(paths[:_MOST_PATHS]) or "(no file)"
        more = len(paths) - _MOST_PATHS
        return Gave(shown + (f"\n[{more} more; give a path or a pattern]" if more > 0 else ""))

    async def _known(self, below: Path) -> list[str]:
        args = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(below))
        listed = await run(self._root, *args)
        if listed.code == 0:
            names = dict.fromkeys(filter(None, listed.out.split("\0")))
            return [n for n in names if (self._root / n).exists() or (self._root / n).is_symlink()]
        found: list[str] = []
        for place, folders, files in os.walk(below):
            folders[:] = [f for f in folders if f != ".git"]
            found += [str((Path(place) / f).relative_to(self._root)) for f in files]
            if len(found) > 50 * _MOST_PATHS:
                break
        return found

    async def search(self, told: Search, key: UUID) -> Gave:
        """Lines that fit, with the names of their files."""
        del key
        where = self.inside(told.path)
        in_git = (await run(self._root, "rev-parse", "--is-inside-work-tree")).code == 0
        how = "--untracked" if in_git else "--no-index"
        argv = ["git", "-c", "core.fsmonitor=false", "grep", "-nIE", how]
        argv += ["-e", told.pattern, "--", str(where.relative_to(self._root))]
        ran = await bounded_run(argv, self._root, time_s=_SEARCH_S, most_chars=_MOST_CHARS)
        if ran.code not in (0, 1):
            raise Refusal(" ".join(ran.text.split())[:500] or "the search failed")
        lines = [line[:400] for line in ran.text.splitlines()]
        return Gave("\n".join(lines) or "(no line fits)")

    def tools(self) -> "list[Tool]":
        """The tools, in the order in which they are shown."""
        return [
            Tool(name="read", text="Read a text file, or a part.", arguments=Read, act=self.read,
                 needs="read"),
            Tool(name="list", text="List files below a path.", arguments=List, act=self.list_,
                 needs="read"),
            Tool(name="search", text="Find lines in files, as file:line:text.", arguments=Search,
                 act=self.search, needs="read"),
            Tool(name="write", text="Make a file, or write it anew.", arguments=Write,
                 act=self.write, needs="edit", changes=True),
            Tool(name="edit", text="Replace a text in a file by another.", arguments=Edit,
                 act=self.edit, needs="edit", changes=True),
        ]  # fmt: skip
