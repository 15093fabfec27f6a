"""Agent programs as drivers: their command lines, files and homes; what is refused beforehand.

The programs themselves are stood in for by a script that says how it was started; the real ones
are started in tests/agents.
"""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cli import Shell

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets.preset import NoKey, UnknownProgram
from bough.runner.presets.table import PRESETS
from bough.runner.roles.briefing import project_notes

pytest_plugins = ["cli"]
ENV = {
    "HOME": "/home/someone",
    "BOUGH_URL": "http://127.0.0.1:5",
    "BOUGH_TOKEN": "s3cret-token",
    "ANTHROPIC_API_KEY": "k-anthropic",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:7",
    "OPENAI_API_KEY": "k-openai",
    "OPENAI_BASE_URL": "http://127.0.0.1:7/v1",
    "GEMINI_API_KEY": "k-gemini",
}
every_preset = pytest.mark.parametrize("name", PRESETS)


def agent(task: str = "do it", **program: Any) -> Claimed:
    now = datetime.now(UTC)
    one = uuid4()
    found: dict[str, Any] = {
        "argv": list[str](),
        "model": "m-1",
        "prompt": "Be \x7f kind.\n'''\"x\"",
    } | program
    more: dict[str, Any] = {"timeout_s": None, "started_at": now, "worktree_path": None}
    more |= {"repo_path": None, "base_commit": None, "branch_name": None, "isolation_status": None}
    return Claimed(
        id=one,
        root_id=one,
        parent_id=None,
        lease_epoch=1,
        role="tester",
        task=task,
        driver="x",
        program=found,
        allocated=5000,
        available=5000,
        **more,
    )


def launch(name: str, tmp_path: Path, who: Claimed | None = None, **env: str) -> Launch:
    return PRESETS[name](who or agent(), Own(tmp_path, ENV | env))


@every_preset
def test_the_task_the_model_and_extra_words_are_in_the_command_line_and_no_secret_is(
    name: str, tmp_path: Path
) -> None:
    made = launch(name, tmp_path, agent("fix\nthe 'test'", argv=["--more", "words"]))
    assert made.argv[0] == PRESETS[name].program
    assert made.argv[-2:] == ["--more", "words"]
    assert any("fix\nthe 'test'" in word for word in made.argv)
    assert "m-1" in " ".join(made.argv) + json.dumps(made.env)
    assert not [word for word in made.argv if "s3cret" in word or "k-anth" in word]
    assert not [v for v in made.env.values() if "s3cret" in v]


@every_preset
def test_the_role_and_how_to_act_reach_the_program(name: str, tmp_path: Path) -> None:
    who = agent()
    made = launch(name, tmp_path, who)
    assert made.files["role.md"] == who.program["prompt"]
    assert made.env["BOUGH_ROLE_FILE"] == str(tmp_path / "role.md")
    told = [*made.argv, *(text for file, text in made.files.items() if file != "role.md")]
    if name == "codex":
        settings = tomllib.loads(made.files["home/.codex/config.toml"])
        told = [settings["developer_instructions"]]
    [text] = [t for t in told if "Be \x7f kind.\n'''\"x\"" in t]
    assert "5,000 tokens" in text
    assert 'bough finish --result \'{"summary"' in text


@every_preset
def test_everything_is_kept_below_the_directory_of_the_agent(name: str, tmp_path: Path) -> None:
    made = launch(name, tmp_path)
    own = Own(tmp_path, ENV)
    made.put(own)
    made.put(own)
    files = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {tmp_path / name for name in made.files}
    assert {p.stat().st_mode & 0o77 for p in files} <= {0}
    places = [v for k, v in made.env.items() if v.startswith("/") and k != "BOUGH_USER_HOME"]
    assert places
    assert all(Path(p).is_relative_to(tmp_path) for p in places)


@every_preset
def test_a_task_like_an_option_is_no_option(name: str, tmp_path: Path) -> None:
    made = launch(name, tmp_path, agent("--help"))
    if name == "aider":
        assert made.argv[made.argv.index("--message") + 1] == " --help"
    assert "--help" not in made.argv


@every_preset
def test_without_a_key_one_line_says_which_variable_to_set(name: str, tmp_path: Path) -> None:
    bare = {k: v for k, v in ENV.items() if not k.endswith("_KEY")}
    with pytest.raises(NoKey) as refused:
        PRESETS[name](agent(), Own(tmp_path, bare))
    assert f"{name} needs a model: set {PRESETS[name].keys[0]}" in str(refused.value)


@every_preset
def test_a_role_that_denies_what_the_program_cannot_go_without_is_refused(name: str) -> None:
    preset = PRESETS[name]
    for kind in ("edit", "read", "shell", "web"):
        left = {"model": "m", "tools": sorted({"edit", "read", "shell", "web"} - {kind})}
        if kind in preset.deniable:
            preset.check(left)
        else:
            with pytest.raises(UnknownProgram, match=f"{name} cannot go without the tools {kind}"):
                preset.check(left)


def test_what_a_role_denies_is_in_the_words_of_each_program(tmp_path: Path) -> None:
    tools = ["read", "send"]
    claude = launch("claude", tmp_path, agent(tools=tools)).argv
    [gone] = [word for word in claude if word.startswith("--disallowedTools=")]
    assert {"Edit", "Write", "Bash", "WebFetch"} <= set(gone.partition("=")[2].split(","))
    assert "Read" not in gone
    codex = launch("codex", tmp_path, agent(tools=["read", "shell"])).argv
    assert codex[codex.index("--sandbox") + 1] == "read-only"
    assert not [word for word in codex if "bypass" in word]
    files = launch("opencode", tmp_path, agent(tools=tools)).files
    denied = json.loads(files["opencode.json"])["permission"]
    assert (denied["edit"], denied["bash"], denied["webfetch"]) == ("deny", "deny", "deny")
    files = launch("gemini", tmp_path, agent(tools=tools)).files
    assert "write_file" in json.loads(files["home/.gemini/settings.json"])["tools"]["exclude"]
    pi = launch("pi", tmp_path, agent(tools=tools)).argv
    assert pi[pi.index("--tools") + 1] == "read,grep,find,ls"
    assert "ask" in launch("aider", tmp_path, agent(tools=["read", "shell"])).argv


def test_programs_are_led_to_the_gateway_and_to_the_tools(tmp_path: Path) -> None:
    codex = tomllib.loads(launch("codex", tmp_path).files["home/.codex/config.toml"])
    [provider] = codex["model_providers"].values()
    assert provider["base_url"] == "http://127.0.0.1:7/v1"
    assert provider["env_key"] == "OPENAI_API_KEY"
    assert codex["mcp_servers"]["bough"]["url"] == "http://127.0.0.1:5/mcp"
    assert codex["web_search"] == "disabled"
    claude = json.loads(launch("claude", tmp_path).files["mcp.json"])["mcpServers"]["bough"]
    assert claude["headers"] == {"Authorization": "Bearer ${BOUGH_TOKEN}"}
    opencode = json.loads(
        launch("opencode", tmp_path, agent(model="claude-x")).files["opencode.json"]
    )
    assert opencode["provider"]["bough"]["options"]["baseURL"] == "http://127.0.0.1:7/v1"
    assert opencode["provider"]["bough"]["npm"] == "@ai-sdk/anthropic"
    mini = launch("mini", tmp_path, agent(model="claude-x"))
    assert mini.argv[2] == "anthropic/claude-x"
    for name in ("claude", "codex"):
        made = launch(name, tmp_path, BOUGH_URL="")
        assert "mcp" not in " ".join([*made.argv, *made.files])


def test_a_program_that_was_interrupted_goes_on_with_its_session(tmp_path: Path) -> None:
    who = agent()
    first = launch("claude", tmp_path, who).argv
    assert first[first.index("--session-id") + 1] == str(who.id)
    kept = tmp_path / f"home/.claude/projects/-x/{who.id}.jsonl"
    kept.parent.mkdir(parents=True)
    kept.touch()
    again = launch("claude", tmp_path, who).argv
    assert again[again.index("--resume") + 1] == str(who.id)
    assert "started again where you were" in again[2]
    assert again[2].endswith("do it")
    assert "resume" not in launch("codex", tmp_path).argv
    kept = tmp_path / "home/.codex/sessions/2026/11/26/rollout-1.jsonl"
    kept.parent.mkdir(parents=True)
    kept.touch()
    codex = launch("codex", tmp_path).argv
    assert codex[codex.index("resume") + 1] == "--last"


def stand_in(shell: Shell, name: str, text: str) -> dict[str, str]:
    """A program of this name on the PATH; the environment that finds it."""
    place = shell.place / "programs"
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)
    return {"PATH": f"{place}:{shell.env['PATH']}"}


def test_a_preset_runs_in_the_worktree_and_leaves_nothing_there_or_at_home(shell: Shell) -> None:
    env = stand_in(shell, "claude", 'echo "$CLAUDE_CONFIG_DIR|$2"; mkdir -p "$CLAUDE_CONFIG_DIR"')
    options = ["--driver", "claude", "--role", "reviewer", "--json", "--", "--effort", "low"]
    done = shell("run", "look at it", *options, env=env | {"ANTHROPIC_API_KEY": "k-anthropic"})
    found = json.loads(done.out)
    own = shell.home / "agents" / found["id"]
    assert shell("logs", found["id"]).out == f"{own}/home/.claude|look at it\n"
    assert found["workspace"]["files_changed"] == 0
    assert list(Path(shell.env["HOME"]).iterdir()) == []
    assert "You review; you change nothing." in (own / "briefing.md").read_text()
    assert "edit" not in found["program"]["tools"]
    assert "program    claude --effort low" in shell("show", found["id"]).out


def test_a_preset_without_a_key_fails_with_the_variable_to_set(shell: Shell) -> None:
    env = stand_in(shell, "codex", "exit 0")
    found = json.loads(shell("run", "t", "--driver", "codex", "--json", env=env, code=1).out)
    assert found["error"]["code"] == "no_key"
    assert "codex needs a model: set OPENAI_API_KEY" in found["error"]["message"]


def test_what_could_never_start_is_refused_before_anything_is_made(shell: Shell) -> None:
    told = shell.refused("run", "t", "--driver", "openhands", "--model", "m", code=3)
    assert "openhands is not installed; get it: uv tool install openhands" in told
    env = stand_in(shell, "mini", "exit 0")
    told = shell.refused("run", "t", "--driver", "mini", code=2, env=env)
    assert "mini has no model of its own; name one: --model NAME" in told
    more = ["--model", "m", "--role", "reviewer"]
    told = shell.refused("run", "t", "--driver", "mini", *more, code=2, env=env)
    assert "mini cannot go without the tools edit" in told
    told = shell.refused("run", "t", "--driver", "cluade", code=2)
    assert "there is no driver 'cluade'; there is: acp, aider, claude," in told
    assert shell.value("select count(*) from bough.agents") == 0


def test_doctor_says_which_programs_are_there_and_how_to_get_the_others(shell: Shell) -> None:
    env = stand_in(shell, "codex", "echo codex-cli 9.8.7")
    env["PATH"] = f"{shell.place}/programs:/usr/bin:/bin"
    shown = {f["subject"]: f for f in json.loads(shell("doctor", "--json", env=env).out)}
    assert shown["codex"]["level"] == "ok"
    assert shown["codex"]["text"].startswith("9.8.7; limit hard where its calls go through a gate")
    assert "no key: set OPENAI_API_KEY" in shown["codex"]["text"]
    assert shown["pi"] == {
        "subject": "pi",
        "level": "absent",
        "text": "not installed; get it: npm install -g @mariozechner/pi-coding-agent",
    }


def test_the_notes_of_a_repository_are_read_within_bounds(tmp_path: Path) -> None:
    assert project_notes(tmp_path) == ""
    (tmp_path / "CLAUDE.md").write_text("second")
    assert project_notes(tmp_path) == "second"
    (tmp_path / "AGENTS.md").write_text("é" * 50)
    assert project_notes(tmp_path) == "é" * 50
    assert project_notes(tmp_path, most_bytes=11) == "éééé" + "é\n[AGENTS.md is cut at 11 bytes]"
    (tmp_path / "AGENTS.md").unlink()
    (tmp_path / "AGENTS.md").symlink_to("/etc/hostname")
    assert project_notes(tmp_path) == "second"
