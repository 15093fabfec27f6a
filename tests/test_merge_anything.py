"""Whatever agents write, merged in whatever way: no line of theirs that lands is ever lost."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from git_scenes import sh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bough.runner.workspaces.batch import Outcome, land
from bough.runner.workspaces.commits import Recipe
from bough.runner.workspaces.git import Repo, open_repository
from bough.runner.workspaces.settings import STRATEGIES, MergeSettings, Strategy
from bough.runner.workspaces.strategies import Work

FILES = ("a", "b", "ü c")
LINES = 12


@dataclass(frozen=True, slots=True)
class Edit:
    """One commit of an agent: a line written over, put in, or taken out, in one file."""

    file: str
    line: int
    how: str


edits = st.builds(
    Edit, st.sampled_from(FILES), st.integers(0, LINES - 1), st.sampled_from(["over", "in", "out"])
)
agents = st.lists(
    st.tuples(st.sampled_from(STRATEGIES), st.lists(edits, min_size=1, max_size=3)),
    min_size=1,
    max_size=4,
)


def apply(text: str, edit: Edit, marker: str) -> str:
    lines = text.splitlines()
    place = min(edit.line, len(lines) - 1)
    new = {"over": [marker], "in": [marker, lines[place]], "out": []}[edit.how]
    return "".join(f"{line}\n" for line in [*lines[:place], *new, *lines[place + 1 :]])


Lines = dict[str, set[str]]
FIRST: Lines = {file: {f"{file} {n}" for n in range(LINES)} for file in FILES}


def write(root: Path, number: int, changes: list[Edit]) -> tuple[str, Lines]:
    """A branch with these commits; its tip, and the lines of each file."""
    tree = root.parent / f"w{number}"
    sh(root, "worktree", "add", "-q", "-b", f"w{number}", str(tree), "start")
    for place, edit in enumerate(changes):
        path = tree / edit.file
        path.write_text(apply(path.read_text(), edit, f"agent {number} edit {place}"))
        sh(tree, "commit", "-q", "--allow-empty", "-am", f"w{number} {place}")
    lines = {file: set((tree / file).read_text().splitlines()) for file in FILES}
    return sh(tree, "rev-parse", "HEAD"), lines


async def start(place: Path) -> Repo:
    root = place / "repo"
    root.mkdir()
    sh(root, "init", "-q", "-b", "main")
    for file in FILES:
        (root / file).write_text("".join(f"{file} {n}\n" for n in range(LINES)))
    sh(root, "add", "-A")
    sh(root, "commit", "-q", "-m", "start")
    sh(root, "branch", "start")
    return await open_repository(root)


async def agree(_: object) -> bool:
    return True


async def bring(repository: Repo, works: dict[str, Work]) -> dict[str, Outcome]:
    bare = MergeSettings(sign=False, hooks=False)
    return await land(repository, "main", works, plan=agree, record=agree, settings=bare) or {}


def whole(root: Path) -> list[str]:
    status = sh(root, "status", "--porcelain")
    return [sh(root, "rev-parse", "main"), status, *((root / f).read_text() for f in FILES)]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=agents, at_once=st.booleans())
async def test_no_line_is_lost_and_a_conflict_changes_nothing(
    plan: list[tuple[Strategy, list[Edit]]], at_once: bool
) -> None:
    place = Path(tempfile.mkdtemp(prefix="bough-anything-"))
    try:
        repository = await start(place)
        root = repository.root
        works: dict[str, Work] = {}
        wrote: dict[str, Lines] = {}
        for number, (strategy, changes) in enumerate(plan):
            tip, wrote[f"w{number}"] = write(root, number, changes)
            recipe = Recipe("m", "A", "a@localhost")
            works[f"w{number}"] = Work(f"w{number}", tip, strategy, recipe)
        done: dict[str, Outcome] = {}
        if at_once:
            done = await bring(repository, works)
        else:
            for name, work in works.items():
                before = whole(root)
                done |= await bring(repository, {name: work})
                if done[name].error:
                    assert whole(root) == before
        landed = [name for name, outcome in done.items() if outcome.error is None]
        assert {done[name].status for name in works.keys() - set(landed)} <= {"conflicted"}
        assert landed  # the first always fits
        assert sh(root, "status", "--porcelain") == ""
        for file in FILES:
            text = sh(root, "show", f"main:{file}")
            assert text == (root / file).read_text().rstrip("\n")
            lines = set(text.splitlines())
            taken_out: set[str] = set()
            for name in landed:
                assert wrote[name][file] - FIRST[file] <= lines, (name, file)
                taken_out |= FIRST[file] - wrote[name][file]
            assert FIRST[file] & lines == FIRST[file] - taken_out, file
            for name in works.keys() - set(landed):
                assert not (wrote[name][file] - FIRST[file]) & lines, (name, file)
        subprocess.run(["git", "-C", str(root), "fsck", "--strict"], check=True)
    finally:
        shutil.rmtree(place)
