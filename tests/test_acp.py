"""A program that speaks the Agent Client Protocol is an agent like any other."""

import signal
import sys
from pathlib import Path

import pytest
from cli import Shell, until

pytest_plugins = ["cli"]
PROGRAM = [sys.executable, str(Path(__file__).parent / "acp_program.py")]


@pytest.mark.parametrize(("can", "kind"), [("http", "HttpMcpServer http://127.0.0.1:"), ("", "")])
def test_it_gets_task_role_and_tools_and_what_it_asks_is_allowed(
    shell: Shell, can: str, kind: str
) -> None:
    shell.runner()
    options = ["--driver", "acp", "--role", "tester", "--"]
    agent = shell.spawn("write", *options, *PROGRAM, *([can] if can else []))
    shell.reaches(agent, "completed")
    said = shell("logs", agent).out
    assert "You try to prove the change wrong." in said
    assert said.rstrip().endswith("# Task\n\nwrite")
    assert (kind or "McpServerStdio") in said
    branch = shell.json("show", agent)["workspace"]["branch"]
    assert shell.git("show", f"{branch}:written.txt") == "y"


def test_a_turn_that_it_did_not_end_itself_makes_the_agent_failed(shell: Shell) -> None:
    shell.runner()
    agents = [shell.spawn(task, "--driver", "acp", "--", *PROGRAM) for task in ("refuse", "break")]
    for agent in agents:
        shell.reaches(agent, "failed")
    assert "stopped: refusal\n" in shell("logs", agents[0]).out
    assert "failed: the budget is used up\n" in shell("logs", agents[1]).out


def test_after_a_kill_of_the_runner_its_session_is_loaded(shell: Shell) -> None:
    runner = shell.short_lease_runner()
    agent = shell.spawn("hold", "--driver", "acp", "--", *PROGRAM, shell.gate)
    until(shell.gate.exists, "it works on its task")
    session = (shell.home / "agents" / agent / "acp-session").read_text()
    runner.signal(signal.SIGKILL)
    shell.runner()
    shell.reaches(agent, "completed")
    said = shell("logs", agent).out
    assert f"loaded {session}" in said
    assert "You were interrupted or have waited, and are started again." in said


def test_the_program_must_be_named(shell: Shell) -> None:
    told = shell.refused("spawn", "t", "--driver", "acp", code=2)
    assert "say which program speaks the protocol" in told
    told = shell.refused("spawn", "t", "--driver", "acp", "--", "no-such-program", code=3)
    assert "there is no program 'no-such-program'" in told
