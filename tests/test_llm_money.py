"""The built-in agent and its budget: told what is left, ended by it, never above it."""

import json
from typing import Any

import pytest
from cli import Shell
from provider import KEY
from scripts import MODEL, Script, entries, overdraft, start, used

pytest_plugins = ["cli", "scripts"]


def test_an_agent_is_told_what_is_left_and_ends_by_itself(shell: Shell, script: Script) -> None:
    shell.runner()
    long: tuple[str, Any] = ("shell", {"command": "seq 1500"})
    script.plays["spend it"] = [long, long, long, ("finish", {"result": {"so": "far"}})]
    agent = start(shell, "spend it", budget=30_000)
    shell.reaches(agent, "completed")
    told = [e for e in entries(shell, agent) if e["from"] == "bough"]
    assert told[0]["text"].startswith("[budget: 30,000 of 30,000 tokens are left]")
    assert [e["little"] for e in told][-1] is True
    assert "call finish now" in told[-1]["text"]
    lefts = [e["left"] for e in told]
    assert lefts == sorted(lefts, reverse=True)
    assert used(shell) == script.billed <= 30_000
    assert overdraft(shell) == 0


@pytest.mark.parametrize("model", [MODEL, "openai:gpt-5", "openai-responses:gpt-5"])
def test_an_agent_whose_budget_is_gone_fails_with_what_it_has(
    shell: Shell, script: Script, model: str
) -> None:
    shell.runner()
    script.plays["spend it"] = [("shell", {"command": "seq 2000"})] * 20
    agent = start(shell, "spend it", budget=25_000, model=model)
    shell.reaches(agent, "failed")
    assert shell.column("error_code", agent) == "budget_exceeded"
    assert "Bough refuses this call: budget: " in shell.column("error_message", agent)
    assert used(shell) == script.billed <= 25_000
    assert 1 < len(script.bills) < 20
    assert overdraft(shell) == 0
    assert shell.value("select count(*) from bough_api.verify()") == 0
    # What it left in its worktree is kept.
    assert shell.json("show", agent)["workspace"]["head_commit"]


@pytest.mark.parametrize("model", [MODEL, "openai:gpt-5", "openai-responses:gpt-5"])
def test_with_a_key_of_its_own_and_no_gateway_the_agent_pays_for_itself(
    shell: Shell, script: Script, model: str
) -> None:
    shell.env |= {
        "BOUGH_GATEWAY_URL": "none",
        "ANTHROPIC_BASE_URL": script.url,
        "OPENAI_BASE_URL": f"{script.url}/v1",
    }
    script.plays["spend it"] = [
        ("shell", {"command": "env | grep -c _API_KEY"}),
        *[("shell", {"command": "seq 2000"})] * 20,
    ]
    args = ("run", "spend it", "--driver", "llm", "--model", model, "--budget", "60k", "--json")
    done = json.loads(shell(*args, code=1).out)
    assert done["error"]["code"] == "budget_exceeded"
    assert "tokens required" in done["error"]["message"]
    assert used(shell) == script.billed == done["budget"]["used"]
    assert 1 < len(script.bills) < 20
    assert overdraft(shell) == 0
    assert shell.value("select count(*) from bough.reservations where status = 'open'") == 0
    # No command can spend what nobody counts.
    assert "[exit code 1]\n0" in script.asked[1].text()
    assert KEY not in shell("logs", done["id"]).out


def test_an_error_of_the_provider_costs_nothing_and_ends_the_agent_when_it_will_not_pass(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.status = 404
    agent = start(shell, "x")
    shell.reaches(agent, "failed")
    assert shell.column("error_code", agent) == "model_failed"
    assert "the model answers 404" in shell.column("error_message", agent)
    assert used(shell) == script.billed == 0


def test_an_error_that_may_pass_is_waited_out(shell: Shell, script: Script) -> None:
    shell.runner()
    script.status = 529
    script.plays["try it"] = [("finish", {})]
    agent = start(shell, "try it")
    assert shell.begin("logs", agent, "-f").says("asked again in 1 s")
    script.status = 0
    shell.reaches(agent, "completed")
    assert used(shell) == script.billed > 0


@pytest.mark.parametrize("gateway", ["", "none"])
def test_calls_that_break_off_are_charged_in_full_and_soon_given_up(
    shell: Shell, script: Script, gateway: str
) -> None:
    shell.env |= {"BOUGH_GATEWAY_URL": gateway, "ANTHROPIC_BASE_URL": script.url}
    script.cuts = True
    args = ("run", "try it", "--driver", "llm", "--model", MODEL, "--budget", "500k", "--json")
    done = json.loads(shell(*args, code=1).out)
    assert done["error"]["code"] == "model_failed"
    ended = shell.look.execute(
        "select status, tokens_used = tokens_reserved from bough.reservations"
    )
    assert ended.fetchall() == [("settled", True)] * 3
    assert used(shell) == done["budget"]["used"] < 100_000
    assert overdraft(shell) == 0
