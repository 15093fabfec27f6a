"""Steering agents: kill, pause and resume reach the programs, and two commands at once agree."""

import json
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
import pytest
from cli import Shell, hold, until

from bough.runner.programs.processes import process

pytest_plugins = ["cli"]


@contextmanager
def row_locked(shell: Shell, agent: str) -> Generator[None]:
    """Let nobody change the agent while the block runs: who tries waits in line."""
    with psycopg.connect(shell.dsn) as conn:
        conn.execute("select from bough.agents where id = %s for no key update", (agent,))
        yield


def waiting_in_line(shell: Shell, number: int) -> None:
    sql = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    until(lambda: shell.value(sql) == number, f"{number} wait for the row")


def running(shell: Shell, then: str = "", *, parent: str | None = None, budget: int = 1000) -> str:
    agent = shell.plant(*hold(shell.gate, then), parent=parent, budget=budget)
    shell.held(agent)
    return agent


def states(shell: Shell) -> set[str]:
    found = [process(pid) for pid in shell.programs()]
    return {entry.state for entry in found if entry}


def test_pause_stops_every_process_below_and_resume_lets_them_go_on(shell: Shell) -> None:
    shell.short_lease_runner(3)
    agent = running(shell, "echo went on")
    child = running(shell, parent=agent, budget=100)

    told = shell("pause", agent[:8], "--reason", "lunch").out

    assert told == f"paused {agent[:8]} and 1 below it\n"
    until(lambda: states(shell) == {"T"}, "all stand still")
    assert len(shell.programs()) >= 2
    assert "paused: lunch" in shell("ps").out
    shell("resume", child)
    until(lambda: states(shell) != {"T"}, "the child goes on")
    assert shell("pause", agent).out == f"paused 1 below {agent[:8]}\n"
    until(lambda: states(shell) == {"T"}, "all stand still again")
    shell.gate.touch()
    shell.beats()
    assert states(shell) == {"T"}
    assert shell("pause", agent).out == "nothing to do: it was paused before\n"

    assert shell("resume", agent).out == f"resumed {agent[:8]} and 1 below it\n"
    shell.reaches(agent, "completed")
    assert shell("logs", agent).out == "went on\n"
    assert shell.column("status", child) in ("completed", "terminated")
    resumed, paused = shell.in_a_row(["resume", agent], ["pause", agent])
    assert (resumed.code, paused.code) == (5, 5)
    assert "cannot go on" in resumed.err
    assert "cannot be paused" in paused.err


def test_kill_ends_a_whole_subtree_paused_or_not_and_keeps_its_work(shell: Shell) -> None:
    shell.runner()
    root = running(shell)
    branch = running(shell, parent=root, budget=500)
    leaves = [running(shell, parent=branch, budget=100) for _ in range(2)]
    tree = shell.column("worktree_path", leaves[0])
    (shell.place / tree / "half").write_text("x\n")
    shell("pause", leaves[1])
    until(lambda: "T" in states(shell), "one stands still")

    told = shell.json("kill", branch, "--reason", "wrong way")

    assert told["changed"][0] == branch
    assert set(told["changed"]) == {branch, *leaves}
    until(lambda: len(shell.programs()) <= 2, "only the root's programs are left")
    assert shell.column("status", root) == "running"
    assert shell.column("status_reason", branch) == "wrong way"
    assert [shell.column("status", leaf) for leaf in leaves] == ["terminated"] * 2
    assert (shell.column("reserved", root), shell.column("available", root)) == (0, 1000)
    until(lambda: shell.column("head_commit", leaves[0]), "its work is committed")
    assert shell.git("show", f"{shell.column('branch_name', leaves[0])}:half") == "x"
    again, as_json = shell.in_a_row(["kill", branch], ["kill", branch, "--json"])
    assert (again.code, again.out) == (0, "nothing to do: it was terminated before\n")
    assert json.loads(as_json.out) == {"changed": []}
    shell.gate.touch()
    shell.reaches(root, "completed")
    assert "has already completed" in shell.refused("kill", root, code=5)


def test_an_agent_that_is_killed_before_a_runner_has_it_never_starts(shell: Shell) -> None:
    agent, other = shell.plant("touch", str(shell.gate)), shell.plant(task="o")
    shell("kill", agent)
    shell.runner()
    shell.reaches(other, "completed")
    assert shell.column("lease_epoch", agent) == 0
    assert not shell.gate.exists()


def test_of_two_kills_at_once_one_ends_the_agent_and_the_other_says_it_was_done(
    shell: Shell,
) -> None:
    agent = shell.plant()
    with row_locked(shell, agent):
        kills = [shell.begin("kill", agent) for _ in range(2)]
        waiting_in_line(shell, 2)
    done = [kill.ends() for kill in kills]
    assert [d.code for d in done] == [0, 0]
    assert sorted(d.out.split()[0] for d in done) == ["nothing", "terminated"]
    assert shell.events(agent).count("agent.terminated") == 1


@pytest.mark.parametrize("first", ["kill", "complete"])
def test_of_kill_and_complete_at_once_the_first_decides_and_the_other_is_told(
    shell: Shell, first: str
) -> None:
    shell.runner()
    agent = running(shell, "echo work > b")
    with row_locked(shell, agent):
        if first == "complete":
            shell.gate.touch()
            waiting_in_line(shell, 1)
        kill = shell.begin("kill", agent)
        waiting_in_line(shell, 2 if first == "complete" else 1)
        if first == "kill":
            shell.gate.touch()
            waiting_in_line(shell, 2)
    done = kill.ends()
    if first == "kill":
        assert (done.code, done.out) == (0, f"terminated {agent[:8]}\n")
        until(lambda: "agent.late_result" in shell.events(agent), "the result is kept")
        assert shell.column("status", agent) == "terminated"
    else:
        assert done.code == 5
        assert done.err == f"bough: agent {agent[:8]} has already completed\n"
        assert shell.column("status", agent) == "completed"
    assert shell.column("files_changed", agent) == 1
    assert shell.column("result", agent) is None or first == "complete"
