"""The file and shell tools of the built-in agent: bounded, and inside the worktree."""

import os
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from live import until

from bough.runner.llm.entry import clean
from bough.runner.llm.files import Edit, Files, List, Read, Search, Write
from bough.runner.llm.shell import Shell, Shells, bounded_run
from bough.runner.llm.tool import Gave, Refusal

KEY = UUID(int=0)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one file, and a secret beside it."""
    root = tmp_path / "tree"
    root.mkdir()
    subprocess.run(["git", "-C", root, "init", "-q"], check=True)
    (root / "a.txt").write_text("one\ntwo\nthree\n")
    (root / ".gitignore").write_text("built/\n")
    (root / "built").mkdir()
    (root / "built" / "x.o").write_text("two")
    (tmp_path / "secret").write_text("two secrets")
    (root / "out").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "secret")
    return root


async def text(given: Awaitable[Gave]) -> str:
    return (await given).text


async def refused(given: Awaitable[Gave]) -> str:
    with pytest.raises(Refusal) as error:
        await given
    return str(error.value)


async def test_no_path_leads_out_of_the_worktree(tree: Path) -> None:
    files = Files(tree)
    for path in ("../secret", "/nowhere/x", "out/secret", "file", str(tree.parent / "secret")):
        for given in (
            files.read(Read(path=path), KEY),
            files.write(Write(path=path, text="x"), KEY),
            files.edit(Edit(path=path, old="two", new="x"), KEY),
            files.search(Search(pattern="secrets", path=path), KEY),
            files.list_(List(path=path), KEY),
        ):
            assert "is outside the worktree" in await refused(given), path
    assert (tree.parent / "secret").read_text() == "two secrets"
    assert "secrets" not in await text(files.search(Search(pattern="secrets"), KEY))
    for path in (".git/config", ".git", ".", "a.txt/../.git/hooks/x"):
        assert "is not changed by hand" in await refused(
            files.write(Write(path=path, text=""), KEY)
        )
    assert "no NUL" in await refused(files.read(Read(path="a\0"), KEY))


async def test_a_file_is_read_in_parts_and_changed_in_one_place(tree: Path) -> None:
    files = Files(tree)
    assert await text(files.read(Read(path=str(tree / "a.txt")), KEY)) == "one\ntwo\nthree\n"
    part = await text(files.read(Read(path="a.txt", start=2, lines=1), KEY))
    assert part == "two\n\n[1 more lines; go on with start 3]"
    assert "has 3 lines" in await text(files.read(Read(path="a.txt", start=9), KEY))
    assert "is not there" in await refused(files.read(Read(path="b.txt"), KEY))
    assert "is a directory" in await refused(files.read(Read(path="built"), KEY))
    await files.write(Write(path="new/deep.txt", text="a a\r\nb\r\n"), KEY)
    assert "old is 2 times" in await refused(
        files.edit(Edit(path="new/deep.txt", old="a", new="c"), KEY)
    )
    everywhere = Edit(path="new/deep.txt", old="a", new="c", everywhere=True)
    assert await text(files.edit(everywhere, KEY)) == "new/deep.txt edited in 2 places"
    assert (tree / "new" / "deep.txt").read_bytes() == b"c c\r\nb\r\n"
    (tree / "raw").write_bytes(b"\xff\xfe")
    assert "no UTF-8 text" in await refused(files.edit(Edit(path="raw", old="x", new="y"), KEY))
    (tree / "nul").write_bytes(b"a\0b")
    assert "is no text: 3 bytes" in await refused(files.read(Read(path="nul"), KEY))
    (tree / "long").write_text("x" * 100_000)
    assert "60000 characters are left out" in await text(files.read(Read(path="long"), KEY))


async def test_lists_and_searches_leave_out_what_git_ignores(tree: Path, tmp_path: Path) -> None:
    files = Files(tree)
    assert await text(files.list_(List(), KEY)) == ".gitignore\na.txt\nfile\nout"
    assert await text(files.list_(List(pattern="*.txt"), KEY)) == "a.txt"
    assert (
        await text(files.search(Search(pattern="t(wo|hree)"), KEY)) == "a.txt:2:two\na.txt:3:three"
    )
    assert await text(files.search(Search(pattern="nothing"), KEY)) == "(no line fits)"
    assert "Unmatched" in await refused(files.search(Search(pattern="("), KEY))
    bare = tmp_path / "bare"
    (bare / "sub").mkdir(parents=True)
    (bare / "sub" / "x").write_text("two\n")
    assert await text(Files(bare).list_(List(), KEY)) == "sub/x"
    assert await text(Files(bare).search(Search(pattern="two"), KEY)) == "sub/x:1:two"


async def test_a_command_that_takes_too_long_is_stopped_with_all_that_it_started(
    tree: Path,
) -> None:
    shells = Shells(tree, os.environ)
    command = "trap '' TERM; echo begun; (sleep 1000 & echo $! > child; wait) & wait; sleep 1000"
    shown = await text(shells.shell(Shell(command=command, seconds=1), KEY))
    assert shown == "[stopped after 1 s, its time was up]\nbegun"
    child = int((tree / "child").read_text())
    until(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")


async def test_what_a_command_leaves_in_the_background_ends_with_it(tree: Path) -> None:
    shells = Shells(tree, os.environ)
    shown = await text(shells.shell(Shell(command="sleep 1000 & echo $!; exit 3"), KEY))
    how, child = shown.splitlines()
    assert how == "[exit code 3]"
    until(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")
    assert await text(shells.shell(Shell(command="kill -9 $$"), KEY)) == "[ended by signal 9]"
    assert await text(shells.shell(Shell(command="cat; echo end"), KEY)) == "[exit code 0]\nend"


async def test_of_a_long_output_the_beginning_and_the_end_are_kept(tree: Path) -> None:
    ran = await bounded_run(
        ["sh", "-c", "echo first; head -c 200000000 /dev/zero; echo; echo last"],
        tree,
        time_s=60,
        most_chars=1_000,
    )
    assert ran.text.startswith("first\n")
    assert ran.text.endswith("\nlast\n")
    assert "bytes are left out" in ran.text
    assert len(ran.text) < 1_100


def test_texts_are_made_such_that_the_database_can_hold_them() -> None:
    given: Any = {"a\0": ["\ud800", ("x\0y", 1)]}
    assert clean(given) == {"a\ufffd": ["?", ["x\ufffdy", 1]]}
