"""Real coding agents, unmodified, through the real runner and gateway, on all three wires.

`make agents` installs and runs them. The provider is a script, so they need no key and no network;
all else is real: each edits and commits in its worktree, is metered to its agent's token, and stops
when its budget is gone.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli import BOUGH, Shell
from live import Live
from provider import KEY

pytest_plugins = ["cli"]

HERE = Path(__file__).parent
TOOLS = HERE.parent.parent / ".tools" / "agents"
BOUND_S = 240
CODEX = (
    "exec codex exec --json --dangerously-bypass-approvals-and-sandbox -m gpt-5"
    " -c model_provider=gw -c check_for_update_on_startup=false"
    " -c model_providers.gw.name=gw -c model_providers.gw.wire_api=responses"
    " -c model_providers.gw.env_key=OPENAI_API_KEY"
    ' -c model_providers.gw.base_url="$OPENAI_BASE_URL" "$0"'
)


@dataclass(frozen=True)
class Program:
    """A coding agent and the wire that it speaks; `small` is a budget for a few calls."""

    argv: tuple[str, ...]
    wire: str
    small: str


PROGRAMS = {
    "claude": Program(
        (
            *("claude", "-p", "{task}", "--output-format", "json"),
            *("--model", "claude-sonnet-4-5", "--permission-mode", "bypassPermissions"),
        ),
        "messages",
        "60k",
    ),
    "codex": Program(("sh", "-c", CODEX, "{task}"), "responses", "30k"),
    "mini": Program(
        (
            "mini",
            "-m",
            "openai/gpt-5",
            "-t",
            "{task}",
            "-y",
            "--exit-immediately",
            "-o",
            "/dev/null",
        ),
        "chat",
        "10k",
    ),
}
ENVIRONMENT = {
    "IS_SANDBOX": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "MSWEA_CONFIGURED": "true",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
every_program = pytest.mark.parametrize("name", PROGRAMS)


@pytest.fixture
def provider(shell: Shell) -> Iterator[str]:
    if not (TOOLS / ".ready").exists():
        pytest.skip("the coding agents are not installed: make agents")
    paths = f"{HERE.parent}{os.pathsep}{HERE}"
    argv = [sys.executable, "-m", "provider", "0", "agent_script"]
    live = Live(argv, shell.repo, {"PYTHONPATH": paths})
    url = live.says("\n").strip()
    bin_ = f"{TOOLS}/node_modules/.bin:{TOOLS}/python/bin"
    shell.env |= ENVIRONMENT
    shell.env |= {
        "PATH": f"{bin_}{os.pathsep}{shell.env['PATH']}",
        "ANTHROPIC_API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
        "BOUGH_ANTHROPIC_URL": url,
        "BOUGH_OPENAI_URL": f"{url}/v1",
    }
    yield url
    live.close()


def bills(url: str) -> list[tuple[str, int, int]]:
    with urllib.request.urlopen(f"{url}/bills") as answer:
        return json.load(answer)


def run(shell: Shell, name: str, task: str, budget: str) -> tuple[Any, str]:
    """The agent after its program has ended, and what that printed."""
    argv = [*BOUGH, "run", task, "--budget", budget, "--timeout", "3m", "--json", "--"]
    done = subprocess.run(
        [*argv, *PROGRAMS[name].argv],
        cwd=shell.repo,
        env=shell.env,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    print(done.stderr)
    return json.loads(done.stdout), done.stderr


def rows(shell: Shell, agent_id: str) -> list[tuple[Any, ...]]:
    sql = (
        b"select operation, status, tokens_reserved, tokens_used from bough.reservations"
        b" where agent_id = %s order by created_at"
    )
    return shell.look.execute(sql, (agent_id,)).fetchall()


@every_program
def test_an_agent_edits_a_file_and_is_metered(shell: Shell, provider: str, name: str) -> None:
    agent, _ = run(shell, name, "Write a file.", "200k")
    assert agent["status"] == "completed", agent["error"]
    branch = agent["workspace"]["branch"]
    assert shell.git("show", f"{branch}:made.txt") == "scripted"
    billed = sum(given + output for _, given, output in bills(provider))
    calls = rows(shell, agent["id"])
    assert len(calls) >= 2
    assert {(operation, status) for operation, status, _, _ in calls} == {
        (PROGRAMS[name].wire, "settled")
    }
    assert agent["budget"]["used"] == billed == sum(used for *_, used in calls)
    assert all(used <= reserved for *_, reserved, used in calls)
    print(f"{name}: {len(calls)} calls, {billed} tokens; held {[r for _, _, r, _ in calls]}")


@every_program
def test_an_agent_stops_when_its_budget_is_gone(shell: Shell, provider: str, name: str) -> None:
    agent, said = run(shell, name, "Go on forever.", PROGRAMS[name].small)
    billed = sum(given + output for _, given, output in bills(provider))
    budget = agent["budget"]
    assert agent["status"] in ("completed", "failed")
    assert agent["error"] is None or agent["error"]["code"] != "deadline"
    assert 0 < budget["used"] == billed <= budget["allocated"]
    assert (budget["reserved"], budget["overdraft"]) == (0, 0)
    assert len(bills(provider)) >= 2
    assert "Bough refuses this call" in said
    print(f"{name}: stopped after {len(bills(provider))} calls, {billed} of {budget['allocated']}")
