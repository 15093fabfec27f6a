"""`bough run`: from a task to a committed branch, with nothing of the program left."""

import json
import signal

import pytest
from cli import Shell, hold, until

pytest_plugins = ["cli"]

DOCUMENT = (
    "id root_id parent_id role task status status_reason status_at depth_level driver program"
    " runner_id budget workspace progress progress_note children result error created_at"
    " started_at completed_at subtree"
)
BUDGET = "allocated used reserved available overdraft frozen_at subtree_used"
WORKSPACE = (
    "path branch repository base_commit head_commit target_branch isolation_status files_changed"
    " disk_bytes lines_added lines_removed merged_into merged_commit conflicts"
)


def test_a_run_commits_what_its_program_left_and_leaves_the_checkout_as_it_was(
    shell: Shell,
) -> None:
    (shell.repo / "mine.txt").write_text("not committed\n")
    before = [shell.git("status", "--porcelain"), shell.git("rev-parse", "HEAD")]

    done = shell("run", "Say: hi!", "--", "sh", "-c", "echo new > b.txt; rm a.txt; echo hello")

    assert "completed" in done.out
    assert "0 of 100k tokens used" in done.out
    assert "2 files +1 -3 on branch bough/" in done.out
    assert "hello" in done.err
    assert "hello" not in done.out
    branch = shell.git("for-each-ref", "--format=%(refname:short)", "refs/heads/bough")
    assert branch.endswith("/say-hi")
    assert shell.git("ls-tree", "--name-only", branch) == "b.txt"
    assert shell.git("show", f"{branch}:b.txt") == "new"
    assert shell.git("log", "-1", "--format=%s|%an", branch) == "Say: hi!|bough agent"
    assert [shell.git("status", "--porcelain"), shell.git("rev-parse", "HEAD")] == before
    assert shell.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_run_with_json_prints_the_whole_document_and_nothing_else(shell: Shell) -> None:
    program = ["sh", "-c", "echo out; echo err >&2; echo 1 > b"]
    options = ["--role", "coder", "--budget", "1.5k", "--timeout", "2m", "--json"]

    done = shell("run", "t", *options, "--", *program)

    found = json.loads(done.out)
    assert set(found) == set(DOCUMENT.split())
    assert set(found["budget"]) == set(BUDGET.split())
    assert set(found["workspace"]) == set(WORKSPACE.split())
    assert sorted(done.err.split()) == ["err", "out"]
    assert (found["status"], found["role"], found["task"]) == ("completed", "coder", "t")
    assert found["budget"]["allocated"] == 1500
    assert found["root_id"] == found["id"]
    assert (found["parent_id"], found["depth_level"], found["error"]) == (None, 0, None)
    assert found["program"] == {"argv": program}
    assert found["result"]["exit_code"] == 0
    assert found["created_at"] <= found["started_at"] <= found["completed_at"]
    assert found["completed_at"].endswith("+00:00")
    work = found["workspace"]
    assert (work["files_changed"], work["lines_added"], work["lines_removed"]) == (1, 1, 0)
    assert work["base_commit"] == shell.git("rev-parse", "main")
    assert work["head_commit"] == shell.git("rev-parse", work["branch"])
    assert (work["isolation_status"], work["target_branch"]) == ("saved", "main")
    assert json.loads(shell("show", found["id"], "--json").out) == found


def test_output_is_shown_while_the_program_still_runs(shell: Shell) -> None:
    program = ["sh", "-c", f"echo early; {hold(shell.gate)[2]}"]
    run = shell.begin("run", "t", "--", *program)
    run.says("early\n", on="err")
    assert run.process.poll() is None
    shell.gate.touch()
    assert run.ends().code == 0


def test_a_program_that_fails_gives_exit_code_1_and_its_work_is_kept(shell: Shell) -> None:
    done = shell("run", "t", "--", "sh", "-c", "echo half > b; exit 3", code=1)

    assert "failed" in done.out
    assert "sh ended with exit code 3 (program_failed)" in done.out
    branch = shell.git("for-each-ref", "--format=%(refname:short)", "refs/heads/bough")
    assert shell.git("show", f"{branch}:b") == "half"
    assert shell.value("select result->>'exit_code' from bough.agents") == "3"


def test_a_program_is_stopped_at_its_time_out_even_if_it_ignores_that(shell: Shell) -> None:
    program = ["sh", "-c", "trap '' TERM; echo half > b; while :; do sleep 1000; done"]
    found = json.loads(shell("run", "t", "--timeout", "1s", "--json", "--", *program, code=1).out)
    assert found["error"]["code"] == "deadline"
    assert found["error"]["message"] == "sh was stopped after 1 s, its time-out"
    assert found["workspace"]["files_changed"] == 1


def test_a_program_that_reads_its_input_gets_end_of_file(shell: Shell) -> None:
    run = shell.begin("run", "t", "--", "sh", "-c", "cat; echo after")
    assert run.says("after", on="err") == "after\n"
    assert run.process.stdin
    assert not run.process.stdin.closed
    assert run.ends().code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_run_ends_everything_commits_the_work_and_exits_with_130(
    shell: Shell, number: signal.Signals
) -> None:
    daemon = "(setsid sleep 1000 &); sleep 1000 & trap 'echo more > c; exit 0' TERM"
    program = ["sh", "-c", f"echo half > b; {daemon}; echo ready; while :; do sleep 0.01; done"]
    run = shell.begin("run", "t", "--json", "--", *program)
    run.says("ready", on="err")
    assert len(shell.programs()) >= 3

    run.signal(number)
    done = run.ends()

    assert done.code == 130
    assert shell.programs() == []
    found = json.loads(done.out)
    assert (found["status"], found["status_reason"]) == ("terminated", "interrupted")
    assert found["result"] is None
    branch = found["workspace"]["branch"]
    assert shell.git("ls-tree", "--name-only", branch).split() == ["a.txt", "b", "c"]
    assert shell.git("rev-parse", branch) == found["workspace"]["head_commit"]


def test_a_run_that_was_started_under_nohup_outlives_the_terminal(shell: Shell) -> None:
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = shell.begin("run", "t", "--", *hold(shell.gate))
    finally:
        signal.signal(signal.SIGHUP, old)
    agent = until(lambda: shell.value("select id::text from bough.agents"), "it is there")
    shell.held(agent)
    run.signal(signal.SIGHUP)
    shell.gate.touch()
    assert run.ends().code == 0


def test_a_program_finds_its_task_and_place_and_nothing_that_opens_the_database(
    shell: Shell,
) -> None:
    task = "fix 'it'; $(rm -rf /)\nnow"
    secret = {"PGPASSWORD": "hunter2", "GIT_DIR": "/hunter2"}
    dsn = f"{shell.dsn} password=hunter2"
    program = ["sh", "-c", "env -0; printf '%s\\0' \"$@\"; pwd", "sh", "do: {task}"]

    env = {"BOUGH_DATABASE_URL": dsn, **secret}
    done = shell("--database", dsn, "run", task, "--json", "--", *program, env=env)

    shown = shell.value("select string_agg(content, '' order by seq) from bough.logs")
    *variables, argument, place = shown.split("\ufffd")
    found = json.loads(done.out)
    env = dict(line.split("=", 1) for line in variables)
    assert argument == f"do: {task}"
    assert env["BOUGH_TASK"] == task
    assert env["BOUGH_AGENT_ID"] == env["BOUGH_ROOT_ID"] == found["id"]
    assert env["BOUGH_BUDGET"] == "100000"
    assert env["BOUGH_WORKSPACE"] == env["PWD"] == place.strip() == found["workspace"]["path"]
    assert "hunter2" not in shown
    assert "BOUGH_DATABASE_URL" not in env
    assert env["HOME"] == shell.env["HOME"]


def test_a_run_works_from_a_subdirectory_a_detached_head_and_another_place(shell: Shell) -> None:
    (shell.repo / "sub").mkdir()
    shell.git("checkout", "-q", "--detach")

    inside = json.loads(shell("run", "t", "--json", "--", "pwd", cwd=shell.repo / "sub").out)
    outside = json.loads(
        shell("run", "t", "--repo", shell.repo, "--json", "--", "true", cwd=shell.place).out
    )

    for found in (inside, outside):
        assert found["workspace"]["repository"] == str(shell.repo)
        assert found["workspace"]["target_branch"] is None
    assert inside["result"]["output_tail"].strip() == inside["workspace"]["path"]


def test_a_script_of_the_repository_runs_and_a_missing_one_fails_the_agent(shell: Shell) -> None:
    script = shell.repo / "agent.sh"
    script.write_text("#!/bin/sh\necho done > b\n")
    script.chmod(0o755)
    shell.commit("script")

    shell("run", "t", "--", "./agent.sh")
    missing = shell("run", "t", "--", "./missing.sh", code=1)

    assert "cannot run './missing.sh': there is no file" in missing.out
    assert "(program_not_started)" in missing.out


def test_killing_a_run_from_outside_ends_it_with_exit_code_1(shell: Shell) -> None:
    run = shell.begin("run", "t", "--", *hold(shell.gate))
    agent = until(lambda: shell.value("select id::text from bough.agents"), "it is there")
    shell.held(agent)
    shell("kill", agent[:8], "--reason", "wrong way")
    done = run.ends()
    assert done.code == 1
    assert "terminated: wrong way" in done.out
    assert shell.programs() == []
