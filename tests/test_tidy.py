"""The numbers of our style, and the shape of the house, hold for every file."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = sorted(p for d in ("src", "tests", "bench", "demo") for p in (ROOT / d).rglob("*.py"))
SQL = sorted((ROOT / "src").rglob("*.sql"))
ENDINGS = (
    *("Manager", "Service", "Repository", "Helper", "Util"),
    *("Utils", "Handler", "Factory", "Impl"),
)
MODULES = {"utils", "common", "core", "helpers", "base", "misc"}

every_file = pytest.mark.parametrize("path", PYTHON + SQL, ids=lambda p: p.name)
every_python = pytest.mark.parametrize("path", PYTHON, ids=lambda p: p.name)
every_sql = pytest.mark.parametrize("path", SQL, ids=lambda p: p.name)


def definitions(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text()))


def sql_functions(path: Path) -> list[str]:
    found = re.findall(r"^create function.*?^(?:end )?\$\$;", path.read_text(), re.S | re.M)
    assert len(found) == path.read_text().count("create function "), path
    return found


@every_file
def test_a_file_has_at_most_300_lines_of_at_most_100_characters(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    assert [n for n, line in enumerate(lines, 1) if len(line) > 100] == []


@every_python
def test_a_function_has_at_most_70_lines(path: Path) -> None:
    for node in definitions(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, node.name


@every_sql
def test_a_sql_function_has_at_most_70_lines_and_a_comment(path: Path) -> None:
    for text in sql_functions(path):
        name = re.findall(r"create function (\S+?)\(", text)[0]
        assert text.count("\n") < 70, name
        assert f"comment on function {name}" in path.read_text(), name


@every_python
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())) or path.stat().st_size == 0


@every_sql
def test_a_sql_file_says_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("-- ")


@every_sql
def test_the_kernel_builds_no_statement_from_strings(path: Path) -> None:
    assert not re.search(r"\bexecute\s+(?!function|on\b)", path.read_text(), re.I)


@every_python
def test_names_say_what_a_thing_is_and_not_which_layer(path: Path) -> None:
    assert path.stem not in MODULES
    for node in definitions(path):
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(ENDINGS), node.name


def test_comments_name_no_task_phase_or_review() -> None:
    wording = re.compile(r"\b(issue|task|phase|review)\s*#?\d|\bTODO\b|\bFIXME\b|\bXXX\b", re.I)
    for path in PYTHON + SQL:
        if path != Path(__file__):
            assert not wording.search(path.read_text()), path


def test_the_import_rules_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_link_between_our_documents_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
