"""A conflict is handed to an agent that starts from both sides; its work settles the conflict."""

import json
from pathlib import Path

import pytest
from cli import Shell
from finished import finished, settings

pytest_plugins = ["cli"]

RESOLVES = "printf 'both\\nours\\ntheirs\\n' > a.txt"


def conflicting(shell: Shell) -> str:
    agent = finished(shell, {"a.txt": "theirs\n", "fine": "x\n"})
    (shell.repo / "a.txt").write_text("ours\n")
    shell.commit("ours, for a reason")
    return agent


def resolver(shell: Shell, agent: str, script: str, *options: str) -> str:
    done = shell("merge", agent, "--resolve", *options, "--", "sh", "-c", script, code=8)
    return done.out.strip()


def refs(shell: Shell) -> str:
    return shell.git("for-each-ref", "--format=%(refname)", "refs/bough/resolve")


@pytest.mark.parametrize("strategy", ["merge", "squash", "rebase"])
def test_a_resolver_brings_the_original_work_in_with_its_own(shell: Shell, strategy: str) -> None:
    agent = conflicting(shell)
    tip = shell.git("rev-parse", "main")
    seen = shell.place / "seen"
    new = resolver(shell, agent, f"cat a.txt > {seen}; {RESOLVES}")
    assert shell.git("rev-parse", "main") == tip
    made = shell.json("show", new)
    assert (made["role"], made["parent_id"], made["status"]) == ("resolver", None, "created")
    assert made["workspace"]["target_branch"] == "main"
    assert "- a.txt (contents)" in made["task"]
    assert "ours, for a reason" in made["task"]
    assert f"work of {agent[:8]}" in made["task"]
    base = made["workspace"]["base_commit"]
    assert shell.git("rev-parse", f"{base}^@").split() == [tip, shell.column("head_commit", agent)]
    assert refs(shell) == f"refs/bough/resolve/{new}"

    shell.runner()
    shell.reaches(new, "completed")
    assert seen.read_text().count("<<<<<<<") == 1
    assert shell("merge", new, "--strategy", strategy).out.startswith(f"merged {new[:8]}")
    assert (shell.repo / "a.txt").read_text() == "both\nours\ntheirs\n"
    assert (shell.repo / "fine").exists()
    assert shell.git("status", "--porcelain") == ""
    assert refs(shell) == ""
    commit = shell.git("rev-parse", "main")
    assert [shell.column("merged_commit", a) for a in (agent, new)] == [commit] * 2
    assert shell.column("isolation_status", agent) == "merged"
    assert shell.column("conflicts", agent) == []
    assert shell("merge", agent).out == "main has it already\n"


def test_a_resolution_that_still_holds_markers_is_refused_by_path_and_line(shell: Shell) -> None:
    agent = conflicting(shell)
    new = resolver(shell, agent, "echo later >> a.txt; echo '<<<<<<< no conflict' > fine")
    shell.runner()
    shell.reaches(new, "completed")
    before = shell.git("rev-parse", "main")
    told = shell.refused("merge", new, code=5)
    assert "still holds conflict markers at a.txt:1;" in told
    assert shell.git("rev-parse", "main") == before
    assert shell.column("isolation_status", agent) == "conflicted"


def test_a_resolver_is_a_child_of_the_agents_parent_and_paid_by_it(shell: Shell) -> None:
    parent = shell.plant("true", budget=5000)
    agent = finished(shell, {"a.txt": "theirs\n"}, parent=parent)
    (shell.repo / "a.txt").write_text("ours\n")
    shell.commit("ours")
    told = shell.refused("merge", agent, "--resolve", "--", "true", code=2)
    assert "--budget 30k" in told
    assert shell.column("isolation_status", agent) == "saved"
    new = resolver(shell, agent, RESOLVES, "--budget", "700")
    assert (shell.column("parent_id::text", new), shell.column("allocated", new)) == (parent, 700)
    mail = json.loads(shell("inbox", parent, "--json").out)
    assert [m["type"] for m in mail if m["type"].endswith("conflicted")] == ["child.conflicted"]


def test_without_a_program_the_resolver_runs_what_the_agent_ran(shell: Shell) -> None:
    agent = conflicting(shell)
    new = shell("merge", agent, "--resolve", code=8).out.strip()
    assert shell.column("program", new) == shell.column("program", agent)


def test_what_does_not_conflict_needs_no_resolver(shell: Shell) -> None:
    agent = finished(shell, {"new": "x\n"})
    told = shell("merge", agent, "--resolve", "--", "true")
    assert told.out.startswith("merged")
    assert shell.value("select count(*) from bough.agents") == 1


def test_a_resolution_passes_the_gates_like_every_merge(shell: Shell) -> None:
    settings(shell, '[merge]\ngates = ["grep -q both a.txt || exit 9"]\n')
    agent = conflicting(shell)
    new = resolver(shell, agent, "echo neither > a.txt")
    shell.runner()
    shell.reaches(new, "completed")
    assert "exited with 9" in shell("merge", new, code=1).err
    assert Path(shell.repo / "a.txt").read_text() == "ours\n"
