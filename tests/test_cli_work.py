"""The work of agents: diff shows it, merge takes it whole or not at all."""

import json
import shutil
from pathlib import Path

from cli import Shell, hold, until

pytest_plugins = ["cli"]


def work(shell: Shell, script: str, *options: object) -> str:
    """An agent that has done something."""
    done = shell("run", "t", *options, "--json", "--", "sh", "-c", script)
    return str(json.loads(done.out)["id"])


def heads(shell: Shell) -> list[str]:
    """All that a refused merge must leave alone."""
    return [shell.git("for-each-ref"), shell.git("status", "--porcelain")]


def test_diff_shows_new_files_and_what_is_not_committed_yet(shell: Shell) -> None:
    hostile = "printf 'é\\377\\033]0;title\\007\\n' > 'ü b'; touch \"$(printf 'c\\377')\""
    script = f"echo four >> a.txt; {hostile}; {hold(shell.gate)[2]}"
    run = shell.begin("run", "t", "--", "sh", "-c", script)
    agent = until(lambda: shell.value("select id::text from bough.agents"), "it is there")
    shell.held(agent)
    while_running = shell("diff", agent).out
    shell.gate.touch()
    assert run.ends().code == 0

    assert "+four" in while_running
    assert "\n+é\ufffd\x1b]0;title\x07\n" in while_running
    assert shell("diff", agent).out == while_running
    stat, as_json = shell.in_a_row(["diff", "--stat", agent], ["diff", "--json", agent])
    assert "3 files changed, 2 insertions(+)" in stat.out
    assert json.loads(as_json.out) == [
        {"path": path, "kind": kind, "lines_added": added, "lines_removed": 0, "old_path": None}
        for path, kind, added in (
            ("a.txt", "modified", 1),
            ("c\udcff", "created", 0),
            ("ü b", "created", 1),
        )
    ]
    shown = shell.terminal("diff", agent)
    assert "\x1b[" in shown
    assert "é\ufffd" in shown
    assert "title" not in shown
    assert "\x1b" not in shell.terminal("diff", agent, NO_COLOR="1")
    shutil.rmtree(shell.column("worktree_path", agent))
    assert "+four" in shell("diff", agent).out


def test_a_merge_goes_into_the_branch_it_came_from_and_its_clean_checkout(shell: Shell) -> None:
    agent = work(shell, "echo four >> a.txt; echo new > b")
    before = shell.git("rev-parse", "main")

    told = shell("merge", agent[:8]).out

    commit = shell.git("rev-parse", "main")
    assert told == f"merged {agent[:8]} (2 files +2 -0) into main as {commit[:10]}\n"
    assert (shell.repo / "b").read_text() == "new\n"
    assert shell.git("status", "--porcelain") == ""
    parents = shell.git("rev-parse", "main^1", "main^2").splitlines()
    assert parents == [before, shell.column("head_commit", agent)]
    assert f"Agent: {agent}" in shell.git("log", "-1", "--format=%B", "main")
    assert shell.column("isolation_status", agent) == "merged"
    assert f"merged into main as {commit[:10]}" in shell("show", agent).out

    (shell.repo / "later").touch()
    shell.commit("later")
    assert shell("merge", agent).out == "main has it already\n"
    assert shell.column("merged_commit", agent) == commit


def test_a_merge_into_a_dirty_checkout_is_refused_in_one_line(shell: Shell) -> None:
    agent = work(shell, "echo four >> a.txt")
    (shell.repo / "a.txt").write_text("mine\n")
    before = heads(shell)
    told = shell.refused("merge", agent, code=5)
    assert "uncommitted changes ('a.txt'); commit or stash it there, then merge again" in told
    assert heads(shell) == before
    assert (shell.repo / "a.txt").read_text() == "mine\n"
    assert shell.column("isolation_status", agent) == "saved"


def test_a_merge_into_a_branch_that_is_not_checked_out_touches_no_file(shell: Shell) -> None:
    agent = work(shell, "echo new > b")
    shell.git("branch", "release")
    found = shell.json("merge", agent, "--into", "release")
    assert found["commit"] == shell.git("rev-parse", "release")
    assert found["previous"] == shell.git("rev-parse", "main")
    assert (found["id"], found["into"], found["dry_run"]) == (agent, "release", False)
    assert shell.git("show", "release:b") == "new"
    assert not (shell.repo / "b").exists()
    assert shell.column("merged_into", agent) == "release"


def test_a_conflict_changes_nothing_and_is_recorded_with_its_paths(shell: Shell) -> None:
    agent = work(shell, "echo theirs > a.txt; echo x > b")
    (shell.repo / "a.txt").write_text("ours\n")
    shell.commit("ours")
    before = heads(shell)

    would = shell("merge", "--dry-run", agent, code=5)
    assert would.out == "a.txt\tcontents\n"
    assert "conflict in 1 paths ('a.txt')" in would.err
    assert shell.column("isolation_status", agent) == "saved"
    assert "nothing was changed" in shell.refused("merge", agent, code=5)
    assert heads(shell) == before
    assert (shell.repo / "a.txt").read_text() == "ours\n"
    assert shell.column("isolation_status", agent) == "conflicted"
    assert shell.column("conflicts", agent) == ["a.txt"]
    assert shell.column("merged_commit", agent) is None
    shown, told = shell.in_a_row(["show", agent], ["merge", agent, "--json"])
    assert "conflicts  a.txt" in shown.out
    assert (told.code, json.loads(told.err)["error"]["code"]) == (5, "conflict")

    shell.git("merge", "-q", "-X", "ours", "-m", "by hand", shell.column("branch_name", agent))
    assert shell("merge", agent).out == "main has it already\n"
    assert shell.column("isolation_status", agent) == "merged"
    assert shell.column("conflicts", agent) == []


def test_a_dry_run_says_what_would_be_and_does_nothing(shell: Shell) -> None:
    agent = work(shell, "echo new > b")
    before = heads(shell)
    assert shell("merge", "--dry-run", agent).out.startswith(f"would merge {agent[:8]} (1 file")
    assert heads(shell) == before
    assert shell.column("isolation_status", agent) == "saved"


def test_only_ended_work_is_merged_and_only_into_a_branch_that_is_there(shell: Shell) -> None:
    early = shell.plant(task="never run")
    shell("kill", early)
    shell.runner()
    agent = shell.plant(*hold(shell.gate))
    shell.held(agent)
    assert f"agent {agent[:8]} is still running" in shell.refused("merge", agent, code=5)
    shell.gate.touch()
    shell.reaches(agent, "completed")
    nowhere, unmade, undone = shell.in_a_row(
        ["merge", agent, "--into", "nope"], ["merge", early], ["diff", early]
    )
    assert [nowhere.code, unmade.code, undone.code] == [3, 3, 3]
    assert "has no branch 'nope'" in nowhere.err
    assert "has no worktree" in unmade.err
    assert "has no worktree" in undone.err
    shell.git("checkout", "-q", "--detach")
    detached = work(shell, "echo new > b")
    assert "say where to: --into BRANCH" in shell.refused("merge", detached, code=3)


def test_merges_at_once_lose_nothing(shell: Shell) -> None:
    shell.runner()
    agents = [shell.plant("touch", f"new{n}", task=f"work {n}") for n in range(3)]
    for agent in agents:
        shell.reaches(agent, "completed")
    merges = [shell.begin("merge", agent) for agent in [*agents, agents[0]]]
    done = [merge.ends() for merge in merges]
    assert [d.code for d in done] == [0] * 4, done
    assert sorted(d.out.split()[0] for d in done) == ["main", "merged", "merged", "merged"]
    assert sorted(path.name for path in Path(shell.repo).glob("new*")) == ["new0", "new1", "new2"]
    assert len(shell.git("log", "--merges", "--format=%h", "main").splitlines()) == 3
    assert shell.git("status", "--porcelain") == ""
