"""A runner takes what is spawned, keeps limits, hands back, and keeps agents out of each other."""

import signal
import time
from pathlib import Path

from cli import Shell, hold, until

pytest_plugins = ["cli"]


def test_a_warm_runner_starts_what_is_spawned_and_a_child_begins_where_its_parent_is(
    shell: Shell,
) -> None:
    first = shell("spawn", "before any runner", "--", "sh", "-c", "echo 1 > b")
    assert first.err == ""
    early = first.out.strip()
    assert first.out == f"{early}\n"
    assert len(early) == 36
    assert shell.column("status", early) == "created"
    runner = shell.runner()
    shell.reaches(early, "completed")

    # The heart-beat comes every three seconds: what starts sooner was woken by its spawn.
    until(
        lambda: shell.value("select count(*) from bough.listeners where channel = 'bough_queue'"),
        "the runner listens",
    )
    before = time.monotonic()
    parent = shell.spawn("t", "--", *hold(shell.gate))
    shell.held(parent)
    assert time.monotonic() - before < 2.5

    tree = Path(shell.column("worktree_path", parent))
    (tree / "b").write_text("by the parent\n")
    shell.git("add", "-A", at=tree)
    shell.git("commit", "-q", "-m", "parent", at=tree)
    (tree / "not-committed").touch()
    child = shell.spawn("child", "--parent", parent, "--budget", "30k", "--", "cat", "b")
    shell.reaches(child, "completed")
    assert shell("logs", child).out == "by the parent\n"
    assert shell.column("base_commit", child) == shell.git("rev-parse", "HEAD", at=tree)
    assert shell.column("target_branch", child) == shell.column("branch_name", parent)
    assert shell.column("status", parent) == "running"
    shell.gate.touch()
    shell.reaches(parent, "completed")
    assert shell.git("ls-tree", "--name-only", shell.column("branch_name", child)).split() == [
        "a.txt",
        "b",
    ]
    runner.signal(signal.SIGTERM)
    assert runner.ends().code == 0


def test_what_is_above_the_limit_of_running_agents_waits_in_line(shell: Shell) -> None:
    shell.short_lease_runner(3)
    parent = shell.spawn("t", "--max-running", 3, "--", *hold(shell.place / "end"))
    shell.held(parent, gate=shell.place / "end")
    children = [
        shell.plant(*hold(shell.gate), task=f"child {n}", parent=parent, budget=100)
        for n in range(4)
    ]
    for child in children[:2]:
        shell.held(child)
    # A whole heart-beat later it is still so.
    shell.beats()
    assert [shell.column("status", c) for c in children] == ["running"] * 2 + ["created"] * 2
    shell.gate.touch()
    for child in children:
        shell.reaches(child, "completed")
    (shell.place / "end").touch()
    shell.reaches(parent, "completed")


def test_a_runner_that_is_told_to_stop_hands_back_and_the_next_resumes_in_the_same_worktree(
    shell: Shell,
) -> None:
    first = shell.runner()
    agent = shell.spawn("t", "--", *hold(shell.gate, "cat left; echo again > b"))
    shell.held(agent)
    tree = Path(shell.column("worktree_path", agent))
    (tree / "left").write_text("by the first\n")

    first.signal(signal.SIGTERM)
    done = first.ends()

    assert done.code == 0
    assert "handed back 1 agents; the next runner resumes them" in done.err
    assert shell.programs() == []
    assert shell.column("status", agent) == "running"
    assert shell.value("select count(*) from bough_api.runner_details where alive") == 0
    shell.gate.touch()
    shell.runner()
    shell.reaches(agent, "completed")
    assert shell.column("lease_epoch", agent) == 2
    assert shell.column("worktree_path", agent) == str(tree)
    assert shell("logs", agent).out == "by the first\n"
    assert shell.git("show", f"{shell.column('branch_name', agent)}:left") == "by the first"


def test_a_program_that_ends_while_its_runner_stops_has_ended(shell: Shell) -> None:
    runner = shell.runner()
    agent = shell.spawn("t", "--", "sh", "-c", f"{hold(shell.gate)[2]}")
    shell.held(agent)
    pid = until(lambda: shell.program_of(agent), "its process is recorded")
    runner.signal(signal.SIGSTOP)
    shell.gate.touch()
    until(lambda: not Path(f"/proc/{pid}").exists(), "its keeper has seen the program end")
    runner.signal(signal.SIGTERM)
    runner.signal(signal.SIGCONT)
    runner.ends()
    assert shell.column("status", agent) == "completed"


def test_ten_agents_on_the_same_files_disturb_each_other_in_nothing(shell: Shell) -> None:
    for name in "abcde":
        (shell.repo / name).write_text("".join(f"line {n}\n" for n in range(50)))
    shell.commit("files")
    work = (
        'for f in a b c d e; do sed -i "s/line 7$/$BOUGH_TASK/" $f; done;'
        ' git add -A; git -c user.name=x -c user.email=x commit -qm "$BOUGH_TASK";'
        ' echo "$BOUGH_TASK" > new'
    )
    agents = [shell.plant(*hold(shell.gate, work), task=f"work {n}") for n in range(10)]
    shell.runner("--slots", 10)
    for agent in agents:
        shell.held(agent)
    shell.gate.touch()
    for agent in agents:
        shell.reaches(agent, "completed")

    for n, agent in enumerate(agents):
        diff = shell.git("diff", "--full-index", "main", shell.column("branch_name", agent))
        lines = [line for line in diff.splitlines() if line[:1] in "+-" and line[1:2] not in "+-"]
        assert lines == ["-line 7", f"+work {n}"] * 5 + [f"+work {n}"]
        assert shell.column("files_changed", agent) == 6
        assert n or shell("diff", agent).out == diff + "\n"
    assert shell.git("status", "--porcelain") == ""
    assert len(shell.git("for-each-ref", "refs/heads/bough").splitlines()) == 10


def test_an_agent_whose_worktree_cannot_be_made_fails_and_leaves_nothing_in_git(
    shell: Shell,
) -> None:
    shell.home.mkdir()
    (shell.home / "worktrees").write_text("in the way\n")
    refs, trees = shell.git("for-each-ref"), shell.git("worktree", "list")
    parent = shell.plant("true")
    child = shell.plant("touch", str(shell.gate), parent=parent, budget=400)
    shell.runner()
    shell.reaches(parent, "failed")
    assert shell.column("error_code", parent) == "workspace_failed"
    assert shell.column("isolation_status", parent) == "failed"
    assert shell.column("reserved", parent) == 0
    assert shell.column("available", parent) == 1000
    until(lambda: shell.git("for-each-ref") == refs, "the refs of the child are gone too")
    assert shell.column("status", child) in ("failed", "terminated")
    assert not shell.gate.exists()
    assert shell.git("worktree", "list") == trees
    assert "no worktree" in shell.refused("diff", parent, code=3)
    assert "no worktree" in shell.refused("merge", parent, code=3)


def test_a_runner_with_json_says_who_it_is(shell: Shell) -> None:
    runner = shell.runner("--json", "--slots", 3)
    assert shell.value("select id::text from bough_api.runner_details") in runner.text("out")
    assert '"slots": 3' in runner.text("out")
