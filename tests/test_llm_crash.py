"""The built-in agent after a crash: it goes on at the first thing that is not recorded."""

import os
import signal
import threading

from cli import Shell, until
from scripts import Script, entries, overdraft, start, used

pytest_plugins = ["cli", "scripts"]


def kill_program(shell: Shell, agent: str) -> None:
    """SIGKILL to the program of an agent, and nothing else."""
    sql = "select pid from bough.attempts where agent_id = %s order by lease_epoch desc limit 1"
    os.kill(shell.value(sql, agent), signal.SIGKILL)


def hold(shell: Shell, name: str = "go") -> str:
    """A command that says that it is there and waits; each time leaves a line."""
    gate = shell.gate.with_name(name)
    return f"echo x >> {gate}.times; until [ -e {gate} ]; do sleep 0.02; done"


def times(shell: Shell, name: str = "go") -> int:
    path = shell.gate.with_name(f"{name}.times")
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_tool_that_was_cut_by_a_kill_is_not_repeated_but_told(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.plays["build it"] = [
        [
            ("spawn", {"task": "x", "budget": "1k", "command": ["sleep", "1000"]}),
            ("send", {"to": "operator", "text": "begun"}),
            ("shell", {"command": hold(shell)}),
            ("write", {"path": "after.txt", "text": "after\n"}),
        ],
        ("finish", {"result": {"ok": True}}),
    ]
    agent = start(shell, "build it")
    until(lambda: times(shell), "the tool works")
    kill_program(shell, agent)
    shell.reaches(agent, "completed")
    assert times(shell) == 1
    assert len(script.of("build it")) == 2
    told = script.of("build it")[1].whole
    assert "interrupted before its result was known" in told
    assert "after.txt made: 6 characters" in told
    assert len(shell.json("show", agent)["children"]) == 1
    assert [m["payload"] for m in shell.json("inbox")] == [{"text": "begun"}]
    assert shell.column("lease_epoch", agent) == 1
    assert used(shell) == script.billed
    assert overdraft(shell) == 0


def test_a_runner_that_is_killed_in_a_tool_is_followed_by_another(
    shell: Shell, script: Script
) -> None:
    first = shell.runner()
    script.plays["build it"] = [
        ("write", {"path": "one.txt", "text": "one\n"}),
        ("shell", {"command": hold(shell)}),
        ("shell", {"command": "cat one.txt"}),
        ("finish", {"result": {"ok": True}}),
    ]
    agent = start(shell, "build it")
    until(lambda: times(shell), "the tool works")
    before = entries(shell, agent)
    first.signal(signal.SIGKILL)
    first.ends()
    shell.look.execute("update bough.runners set expires_at = bough.now()")
    shell.runner()
    shell.reaches(agent, "completed")
    assert times(shell) == 1
    assert entries(shell, agent)[: len(before)] == before
    asked = script.of("build it")
    assert [a.turn for a in asked] == [0, 1, 2, 3]
    assert "interrupted before its result was known" in asked[2].text()
    assert "[exit code 0]\none" in asked[3].text()
    assert shell.column("lease_epoch", agent) == 2
    assert used(shell) == script.billed
    assert overdraft(shell) == 0


def test_an_answer_that_was_lost_before_it_was_recorded_is_paid_and_asked_for_again(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    reached, go = threading.Event(), threading.Event()

    def slow(_: object) -> tuple[str, object]:
        reached.set()
        assert go.wait(30)
        return "write", {"path": "one.txt", "text": "one\n"}

    script.plays["build it"] = [slow, ("finish", {"result": {"ok": True}})]
    agent = start(shell, "build it")
    assert reached.wait(30)
    with shell.look.transaction():
        shell.look.execute("lock table bough.conversations in exclusive mode")
        go.set()
        # Numbers of tables are alike in all databases of a server: others may wait for theirs.
        waits = (
            " from pg_locks l join pg_database d on d.oid = l.database"
            " where not l.granted and d.datname = current_database()"
            " and l.relation = 'bough.conversations'::regclass"
        )
        until(lambda: shell.value(f"select l.pid {waits}"), "the answer is to be recorded")
        kill_program(shell, agent)
        shell.value(f"select pg_terminate_backend(l.pid) {waits}")
    shell.reaches(agent, "completed")
    assert [a.turn for a in script.of("build it")] == [0, 0, 1]
    assert [e["from"] for e in entries(shell, agent)].count("model") == 2
    assert len(script.bills) == 3
    assert used(shell) == script.billed
    assert overdraft(shell) == 0


def test_a_program_that_is_killed_again_and_again_is_given_up(shell: Shell, script: Script) -> None:
    shell.runner()
    script.plays["die"] = [[("shell", {"command": "kill -9 $PPID"})] * 4]
    agent = start(shell, "die")
    begun = "select count(*) from bough.conversations where agent_id = %s and entry ->> 'from' = %s"
    for nth in range(1, 5):
        # Each start imports for seconds, so each has a bound of its own.
        until(lambda n=nth: shell.value(begun, agent, "begun") >= n, f"start {nth}")
    shell.reaches(agent, "failed")
    assert shell.column("error_code", agent) == "program_killed"
    assert len(script.of("die")) == 1
    assert used(shell) == script.billed


def test_mail_is_told_once_however_often_the_program_is_killed(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.plays["listen"] = [
        ("shell", {"command": hold(shell, "one")}),
        ("shell", {"command": hold(shell, "two")}),
        ("finish", {}),
    ]
    agent = start(shell, "listen")
    until(lambda: times(shell, "one"), "the first tool works")
    shell("send", agent, "the only one")
    kill_program(shell, agent)
    until(lambda: times(shell, "two"), "the second tool works")
    kill_program(shell, agent)
    shell.reaches(agent, "completed")
    last = script.of("listen")[-1]
    assert last.whole.count("the only one") == 1
    assert shell.json("inbox", agent) == []


def test_a_finish_beside_a_tool_is_done_after_it_also_when_the_program_was_killed_there(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.plays["end"] = [
        [("finish", {"result": {"n": 1}}), ("shell", {"command": "kill -9 $PPID"})]
    ]
    agent = start(shell, "end")
    shell.reaches(agent, "completed")
    assert shell.column("result", agent) == {"n": 1}
    assert len(script.of("end")) == 1
