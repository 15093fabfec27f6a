"""What a repository asks for in bough.toml is there before an agent's program starts."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from cli import Shell, hold, until

pytest_plugins = ["cli"]


def settings(shell: Shell, *lines: str) -> None:
    (shell.repo / "bough.toml").write_text("\n".join(["[workspace]", *lines, ""]))
    shell.commit("settings")


def ran(shell: Shell, *words: str, code: int = 0) -> Any:
    return json.loads(shell("run", "--json", *words, code=code).out)


def worktree(shell: Shell, agent: str) -> Path:
    return Path(shell.column("worktree_path", agent))


def test_the_set_up_runs_once_in_a_new_worktree_before_the_program(shell: Shell) -> None:
    settings(shell, 'setup = ["echo one > built.log", "cat built.log; echo two >> built.log"]')
    (shell.repo / ".gitignore").write_text("*.log\n")
    shell.commit("ignore")
    done = ran(shell, "t", "--", "sh", "-c", "cat built.log; echo three >> built.log")
    assert done["status"] == "completed"
    assert done["result"]["output_tail"] == "one\ntwo\n"
    assert shell("logs", done["id"]).out == "one\none\ntwo\n"
    assert (worktree(shell, done["id"]) / "built.log").read_text() == "one\ntwo\nthree\n"


def test_a_set_up_that_fails_fails_the_agent_with_its_last_line_and_starts_no_program(
    shell: Shell,
) -> None:
    settings(shell, "setup = 'echo why > left; echo no such package >&2; exit 7'")
    done = ran(shell, "t", "--", "touch", "started", code=1)
    assert done["error"]["code"] == "setup_failed"
    message = done["error"]["message"]
    assert "ended with exit code 7: no such package" in message
    assert not (worktree(shell, done["id"]) / "started").exists()
    assert shell.git("show", f"{done['workspace']['branch']}:left") == "why"


def test_a_set_up_beyond_its_time_is_stopped(shell: Shell) -> None:
    settings(shell, 'setup = "sleep 600"', 'setup_timeout = "1s"')
    done = ran(shell, "t", "--", "true", code=1)
    assert done["error"]["code"] == "setup_failed"
    assert "ended with deadline" in done["error"]["message"]
    assert shell.programs() == []


def test_an_agent_that_is_ended_in_its_set_up_takes_the_set_up_with_it(shell: Shell) -> None:
    settings(shell, "setup = 'touch began; exec sleep 600'")
    shell.runner()
    agent = shell.spawn("t", "--", "true")
    until(lambda: list(shell.home.glob("worktrees/*/*/began")), "the set-up runs")
    shell("kill", agent)
    shell.reaches(agent, "terminated")
    until(lambda: shell.programs() == [], "nothing is left")


def test_a_set_up_that_was_killed_with_its_runner_is_done_again_and_one_that_succeeded_is_not(
    shell: Shell,
) -> None:
    gate = shell.gate
    body = f'echo x >> {shell.place}/ran; until [ -e "{gate}" ]; do sleep 0.01; done'
    settings(shell, f"setup = '{body}'")
    first = shell.short_lease_runner()
    agent = shell.spawn("t", "--", *hold(shell.place / "end"))
    until(lambda: (shell.place / "ran").exists(), "the set-up runs")
    first.signal(signal.SIGKILL)
    second = shell.short_lease_runner()
    until(lambda: (shell.place / "ran").read_text() == "x\nx\n", "the set-up runs again")
    gate.touch()
    shell.held(agent, attempt=2, gate=shell.place / "end")
    second.signal(signal.SIGKILL)
    shell.short_lease_runner()
    shell.held(agent, attempt=3, gate=shell.place / "end")
    (shell.place / "end").touch()
    shell.reaches(agent, "completed")
    assert (shell.place / "ran").read_text() == "x\nx\n"


def test_a_bough_toml_that_makes_no_sense_fails_the_spawn_and_leaves_nothing(shell: Shell) -> None:
    settings(shell, "setup = 3")
    done = ran(shell, "t", "--", "true", code=1)
    assert done["error"]["code"] == "workspace_failed"
    assert "workspace.setup is 3; give a list of shell commands" in done["error"]["message"]
    assert shell.git("branch", "--list", "bough/*") == ""
    assert not list(shell.home.glob("worktrees/*/*"))


def test_agents_at_once_never_share_a_port_and_ended_ones_give_theirs_back(shell: Shell) -> None:
    settings(shell, "ports = 2", "scratch = true")
    shell.runner("--slots", 10)
    tell = 'echo "$BOUGH_PORT:$BOUGH_PORTS:$BOUGH_SCRATCH"'
    keep = hold(shell.gate, tell)
    agents = [shell.plant(*keep) for _ in range(6)]
    for agent in agents:
        shell.held(agent)
    assert shell.value("select count(distinct port) from bough.ports") == 12
    shell.gate.touch()
    for agent in agents:
        shell.reaches(agent, "completed")
        first, both, scratch = shell("logs", agent).out.strip().split(":")
        assert [first, *both.split()[1:]] == both.split()
        assert Path(scratch).is_dir()
        assert not Path(scratch).is_relative_to(worktree(shell, agent))
    last = shell.spawn("t", "--ports", "3", "--", "sh", "-c", "echo $BOUGH_PORTS")
    shell.reaches(last, "completed")
    assert len(shell("logs", last).out.split()) == 3
    assert shell.value("select count(*) from bough.ports") == 3


def test_a_port_that_something_listens_on_is_given_to_nobody(shell: Shell) -> None:
    def bind(port: str) -> None:
        with socket.create_server(("127.0.0.1", int(port))):
            pass

    done = ran(shell, "t", "--ports", "20", "--", "sh", "-c", "echo $BOUGH_PORTS")
    ports = done["result"]["output_tail"].split()
    assert len(set(ports)) == 20
    for port in ports:
        bind(port)


def test_an_agent_starts_from_the_merge_of_several_branches_and_agents(shell: Shell) -> None:
    one = ran(shell, "one", "--", "sh", "-c", "echo 1 > one")["id"]
    two = ran(shell, "two", "--", "sh", "-c", "echo 2 > two")["id"]
    shell.git("branch", "side")
    (shell.repo / "three").write_text("3\n")
    shell.commit("three")
    seen = ran(
        shell,
        *("t", "--base", one, "--base", two[:8], "--base", "main", "--base", "side"),
        *("--", "sh", "-c", "cat one two three"),
    )
    assert seen["result"]["output_tail"] == "1\n2\n3\n"
    assert shell.json("diff", seen["id"]) == []
    shell("merge", seen["id"])
    assert (shell.repo / "two").read_text() == "2\n"


def test_a_start_from_branches_that_conflict_is_refused_by_path_and_spawns_nothing(
    shell: Shell,
) -> None:
    one = ran(shell, "one", "--", "sh", "-c", "echo 1 > a.txt")["id"]
    two = ran(shell, "two", "--", "sh", "-c", "echo 2 > a.txt")["id"]
    told = shell.refused("spawn", "t", "--base", one, "--base", two, "--", "true", code=5)
    assert "conflict in 1 paths ('a.txt')" in told
    told = shell.refused("spawn", "t", "--base", "nowhere", "--", "true", code=3)
    assert "no commit or branch 'nowhere'" in told
    assert shell.value("select count(*) from bough.agents") == 2


@pytest.mark.parametrize("pool", [0, 2])
def test_spares_are_kept_as_many_as_the_repository_says(shell: Shell, pool: int) -> None:
    settings(shell, f"pool = {pool}")
    shell.runner()
    for _ in range(2):
        agent = shell.spawn("t", "--", "git", "status", "--porcelain")
        shell.reaches(agent, "completed")
        assert shell("logs", agent).out == ""
        until(lambda: len(list(shell.home.glob("worktrees/*/.spare/*/a.txt"))) == pool, "spares")
    admins = list(shell.repo.glob(".git/worktrees/*"))
    assert len(admins) == 2 + pool
