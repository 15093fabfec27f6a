"""Runners and servers that die in the middle: nothing is lost, nothing runs twice, nobody is late.

A runner here has a lease of two seconds, so that another one soon takes over.
"""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from cli import Shell, hold, until

pytest_plugins = ["cli"]
LEASE_S = 2


def cut(shell: Shell) -> None:
    """End every connection to the database but our own, as a restart of the server does."""
    shell.look.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )


@contextmanager
def server_away(shell: Shell, server: str) -> Generator[None]:
    """Let nobody but us reach the database while the block runs."""
    name = shell.value("select current_database()")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections false".encode())
        try:
            cut(shell)
            yield
        finally:
            admin.execute(f"alter database {name} allow_connections true".encode())


def test_agents_of_a_killed_runner_die_with_it_and_another_resumes_all_with_their_work(
    shell: Shell,
) -> None:
    first = shell.short_lease_runner(LEASE_S)
    begin = "git add -A; git -c user.name=x -c user.email=x commit -qm one; echo 2 > left"
    work = f"[ -e one ] || {{ echo 1 > one; {begin}; (setsid sleep 1000 &); }}; "
    program = ["sh", "-c", work + hold(shell.gate, "cat one left")[2]]
    agents = [shell.plant(*program, task=f"work {n}") for n in range(4)]
    for agent in agents:
        shell.held(agent)
    assert len(shell.programs()) >= 8

    first.signal(signal.SIGKILL)
    until(lambda: not shell.programs(), "the programs die with their runner")
    assert [shell.column("status", a) for a in agents] == ["running"] * 4
    shell.gate.touch()
    shell.short_lease_runner(LEASE_S)

    for agent in agents:
        shell.reaches(agent, "completed")
        assert shell.column("lease_epoch", agent) == 2
        assert shell("logs", agent).out == "1\n2\n"
        branch = shell.column("branch_name", agent)
        assert shell.git("log", "--format=%s", f"main..{branch}").splitlines()[1:] == ["one"]
        assert shell.git("show", f"{branch}:left") == "2"


def test_a_runner_that_comes_back_late_is_refused_and_its_result_kept_as_an_event(
    shell: Shell,
) -> None:
    late = shell.short_lease_runner(LEASE_S)
    first, second = hold(shell.gate, "exit 7")[2], hold(shell.place / "end", "echo second > b")[2]
    agent = shell.plant("sh", "-c", f"if [ $BOUGH_ATTEMPT = 1 ]; then {first}; fi; {second}")
    shell.held(agent)
    tree = Path(shell.column("worktree_path", agent))
    (tree / "left").write_text("of the first attempt\n")

    late.signal(signal.SIGSTOP)
    shell.gate.touch()
    until(lambda: not shell.programs(), "the first attempt has ended, and nobody was told")
    shell.short_lease_runner(LEASE_S)
    shell.held(agent, attempt=2, gate=shell.place / "end")
    head = shell.git("rev-parse", "HEAD", at=tree)
    late.signal(signal.SIGCONT)

    until(lambda: "agent.late_result" in shell.events(agent), "the late result is kept")
    kept = shell.value("select data from bough.events where name = 'agent.late_result'")
    assert kept["epoch"] == 1
    assert kept["code"] == "program_failed"
    assert kept["result"]["exit_code"] == 7
    assert shell.column("status", agent) == "running"
    assert shell.git("rev-parse", "HEAD", at=tree) == head
    assert shell.git("status", "--porcelain", at=tree) == "?? left"
    (shell.place / "end").touch()
    shell.reaches(agent, "completed")
    assert shell.column("lease_epoch", agent) == 2


def test_what_a_frozen_runner_still_runs_is_ended_before_its_agent_starts_again(
    shell: Shell,
) -> None:
    frozen = shell.short_lease_runner(LEASE_S)
    agent = shell.plant(*hold(shell.gate))
    shell.held(agent)
    first = until(lambda: shell.program_of(agent), "its process is recorded")
    frozen.signal(signal.SIGSTOP)
    assert first in shell.programs()

    shell.short_lease_runner(LEASE_S)
    shell.held(agent, attempt=2)
    assert first not in shell.programs()

    frozen.signal(signal.SIGCONT)
    until(lambda: "agent.late_result" in shell.events(agent), "it is refused")
    assert shell.column("status", agent) == "running"
    shell.gate.touch()
    shell.reaches(agent, "completed")


def test_a_runner_that_wakes_after_its_lease_keeps_what_nobody_has_taken(shell: Shell) -> None:
    runner = shell.short_lease_runner(1)
    agent = shell.plant(*hold(shell.gate))
    shell.held(agent)
    runner.signal(signal.SIGSTOP)
    until(lambda: not shell.value("select alive from bough_api.runner_details"), "it is dead")
    runner.signal(signal.SIGCONT)
    until(lambda: shell.value("select alive from bough_api.runner_details"), "it lives again")
    shell.beats()
    shell.gate.touch()
    shell.reaches(agent, "completed")
    assert shell.column("lease_epoch", agent) == 1
    assert shell.events(agent).count("program.started") == 1


def test_connections_that_are_cut_disturb_neither_a_run_nor_who_watches_it(shell: Shell) -> None:
    run = shell.begin("run", "t", "--", *hold(shell.gate, "echo after; echo work > b"))
    agent = until(lambda: shell.value("select id::text from bough.agents"), "it is there")
    shell.held(agent)
    following, waiting = shell.begin("logs", "-f", agent), shell.begin("wait", agent)
    channel = f"bough_tree_{agent}"
    sql = "select count(*) = 3 from bough.listeners where channel = %s"
    until(lambda: shell.value(sql, channel), "all three listen")

    cut(shell)
    shell.gate.touch()

    done = run.ends()
    assert done.code == 0, done.err
    assert "1 file +1 -0 on branch" in done.out
    assert "after" in done.err
    assert following.ends().out == "after\n"
    assert waiting.ends().code == 0


def test_a_program_goes_on_while_the_server_is_away_longer_than_the_lease(
    shell: Shell, server: str
) -> None:
    shell.short_lease_runner(1)
    agent = shell.plant(*hold(shell.gate, "echo said while away; echo work > b"))
    shell.held(agent)
    with server_away(shell, server):
        until(lambda: not shell.value("select alive from bough_api.runner_details"), "too long")
        shell.gate.touch()
        until(lambda: not shell.programs(), "the program ends meanwhile")
        assert shell.column("status", agent) == "running"
    shell.reaches(agent, "completed")
    assert shell.column("lease_epoch", agent) == 1
    assert shell.column("files_changed", agent) == 1
    assert shell("logs", agent).out == "said while away\n"


def test_an_agent_whose_claim_was_answered_to_nobody_is_run_by_its_runner(shell: Shell) -> None:
    shell.short_lease_runner(LEASE_S)
    runner = shell.value("select id from bough.runners")
    with shell.look.transaction():
        agent = shell.plant("sh", "-c", "echo done > b")
        taken = shell.value("select id::text from bough_api.claim(%s, 1, null)", runner)
    assert taken == agent
    shell.reaches(agent, "completed")
    assert shell.column("lease_epoch", agent) == 1
    assert shell.column("files_changed", agent) == 1
    assert shell.events(agent).count("program.started") == 1


def test_the_same_home_serves_two_runners_at_once(shell: Shell) -> None:
    shell.runner("--slots", 2)
    shell.runner("--slots", 2)
    agents = [shell.plant(*hold(shell.gate), task=f"work {n}") for n in range(4)]
    for agent in agents:
        shell.held(agent)
    assert shell.value("select count(distinct runner_id) from bough.agents") == 2
    shell.gate.touch()
    for agent in agents:
        shell.reaches(agent, "completed")
