"""Role files of four programs are read as they are; what is wrong with one is said, by key."""

from typing import Any

import pytest

from bough.client.tools import granted
from bough.runner.roles.role import MOST_BYTES, Role, role_of

FULL = """---
name: builder
description: Builds
  things
color: blue
x-bough:
  budget: 30k
  driver: codex
  model: gpt-5.6
  timeout: 15m
  limits: {max_depth: 0, max_children: 3, max_running: 2}
  tools: {allow: [read, edit, send], deny: [edit]}
  gates: ["make test", make lint]
---

Build it: --- is no end.
"""


def read(text: str, *, origin: str = "bough") -> Role:
    return role_of(text, stem="stem", source="f.md", origin=origin)


def test_every_key_of_ours_is_read() -> None:
    role = read(FULL)
    assert (role.name, role.description) == ("builder", "Builds things")
    assert role.prompt == "Build it: --- is no end."
    assert (role.budget, role.timeout_s) == (30_000, 900)
    assert (role.driver, role.model) == ("codex", "gpt-5.6")
    assert (role.max_depth, role.max_children, role.max_running) == (0, 3, 2)
    assert granted(role.allow, role.deny, None) == ["read", "send"]
    assert role.gates == ("make test", "make lint")
    assert (role.warnings, role.broken) == ((), None)


def test_a_file_without_front_matter_is_a_prompt_named_by_the_file() -> None:
    role = read("  Just do it.\n")
    assert (role.name, role.prompt, role.budget) == ("stem", "Just do it.", None)
    assert read("---\n---\nx").prompt == "x"
    assert read("---\r\nname: a\r\n---\r\nx\r\n").name == "a"
    assert read("\ufeff---\nname: a\n---\nx").name == "a"


def test_a_description_with_a_colon_as_other_programs_write_it_is_read() -> None:
    text = (
        "---\nname: rev\ndescription: Use when: code changed. <example>x: y</example>\n---\nLook."
    )
    role = read(text, origin="claude")
    assert role.name == "rev"
    assert role.description == "Use when: code changed. <example>x: y</example>"


@pytest.mark.parametrize(
    ("keys", "denied"),
    [
        ("tools: Read, Grep, Bash(git:*)", {"edit", "web"}),
        ("tools: [Read, Edit, Bash, WebFetch]", set[str]()),
        ("tools: '*'", set[str]()),
        ("disallowedTools: Write, Bash", {"edit", "shell"}),
        ("tools:\n  write: false\n  bash: false\n  read: true", {"edit", "shell"}),
        ("permission:\n  edit: deny\n  webfetch: ask", {"edit"}),
    ],
)
def test_tools_that_another_program_would_take_away_are_taken_away(
    keys: str, denied: set[str]
) -> None:
    text = f"---\nmodel: opus\n{keys}\n---\nx"
    assert set(read(text, origin="claude").deny) == denied
    assert read(text, origin="claude").native_model == "opus"
    ours = read(text.replace("---\nx", "x-bough: {tools: {deny: [web]}}\n---\nx"), origin="claude")
    assert ours.deny == ("web",)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("budget: [1]", "x-bough.budget is no number of tokens"),
        ("budget: -5", "x-bough.budget '-5' is no number of tokens"),
        ("budget: true", "x-bough.budget is no number"),
        ("model: 7", "x-bough.model is no text"),
        ("timeout: soon", "x-bough.timeout 'soon' is no duration"),
    ],
)
def test_a_key_of_the_wrong_kind_is_left_out_with_a_warning(key: str, told: str) -> None:
    role = read(f"---\nx-bough:\n  {key}\n---\nx")
    [warning] = role.warnings
    assert warning.startswith(f"f.md: {told}")
    assert (role.budget, role.model, role.timeout_s) == (None, None, None)
    assert role.broken is None


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("tools: {deny: [shel]}", "x-bough.tools.deny names shel; there is:"),
        ("tools: {dney: [shell]}", "x-bough.tools.dney is not known"),
        ("tools: 5", "x-bough.tools is no list of keys and values"),
        ("tool: {deny: [shell]}", "x-bough.tool is not known"),
        ("limits: {max_depth: many}", "x-bough.limits.max_depth is no whole number from 0"),
        ("limits: {max_running: 0}", "x-bough.limits.max_running is no whole number from 1"),
        ("gates: {a: b}", "x-bough.gates is no list of texts"),
    ],
)
def test_a_key_that_holds_back_and_cannot_be_understood_breaks_the_role(
    keys: str, told: str
) -> None:
    role = read(f"---\nx-bough:\n  {keys}\n---\nx")
    assert (role.broken or "").startswith(f"f.md: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("---\nx: [\n---\n", "its front matter is no YAML"),
        ("---\n- a\n---\n", "is no list of keys and values"),
        ("---\n" + "[" * 5000 + "\n---\n", "no YAML"),
        ("---\nx: !!python/object/apply:os.system [true]\n---\n", "no YAML"),
        ("x" * (MOST_BYTES + 1), "more than 65536 bytes"),
        ("a\0b", "no UTF-8 text"),
        ("a\udcffb", "no UTF-8 text"),
        (f"---\nname: {'n' * 201}\n---\n", "longer than 200"),
    ],
)
def test_a_file_that_cannot_be_a_role_says_why_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        read(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["2026-11-26", "null", "3.5", "{a: b}", "[a]", "true"])
def test_values_of_any_kind_in_keys_of_others_are_tolerated(value: str) -> None:
    keys = "name description model tools color permission disallowedTools".split()  # noqa: SIM905
    for key in keys:
        found: Any = read(f"---\n{key}: {value}\n---\nx", origin="claude")
        assert found.prompt == "x"
        assert found.broken is None
