"""Worktrees that nobody uses go, by age or over a quota; work, branches and the living stay."""

import json

import pytest
from cli import Shell, hold
from gc_scenes import blob, everything_reached, status, unused_for, work, worktree
from hypothesis import given
from hypothesis import strategies as st

from bough.runner.workspaces.retention import Candidate, Policy, chosen

pytest_plugins = ["cli"]


def test_merged_ones_go_after_a_day_and_ended_ones_after_14_but_their_branches_stay(
    shell: Shell,
) -> None:
    agents = [work(shell, f"echo {n} > new{n}") for n in range(4)]
    shell("merge", agents[0])
    shell("merge", agents[1])
    for agent, days in zip(agents, (2, 0.5, 15, 13), strict=True):
        unused_for(shell, agent, days)
    branches = shell.git("for-each-ref", "refs/heads", "refs/bough/rescue")
    before = shell.traces()

    told = shell("gc", "--dry-run").out
    assert shell.traces() == before
    assert status(shell, *agents) == ["merged", "merged", "saved", "saved"]

    done = shell.json("gc")
    assert [(i["agent_id"], i["reason"]) for i in done["removed"]] == [
        (agents[2], "ended"),
        (agents[0], "merged"),
    ]
    assert [line.split("\t")[0] for line in told.splitlines()[:2]] == [agents[2][:8], agents[0][:8]]
    assert "would remove 2 directories" in told
    assert done["freed_bytes"] == sum(i["size_bytes"] for i in done["removed"]) >= 8192
    assert done["left"]["directories"] == 2
    assert status(shell, *agents) == ["removed", "merged", "removed", "saved"]
    assert [worktree(shell, a).exists() for a in agents] == [False, True, False, True]
    assert shell.git("for-each-ref", "refs/heads", "refs/bough/rescue") == branches
    assert shell.events(agents[2])[-1] == "workspace.removed"
    assert shell.column("disk_bytes", agents[2]) == 0
    assert shell.json("gc")["removed"] == []


def test_what_was_removed_can_still_be_shown_compared_and_merged(shell: Shell) -> None:
    one, two = work(shell, "echo 1 > one"), work(shell, "echo 2 > two")
    shell("merge", one)
    taken = shell.column("merged_commit", one)
    shell("gc", "--older-than", "1s", "--max-disk", "0")
    assert status(shell, one, two) == ["removed", "removed"]
    shown, diff, merged, again = shell.in_a_row(
        ["show", one], ["diff", two], ["merge", two], ["merge", one]
    )
    assert "disk       removed" in shown.out
    assert "merged into main" in shown.out
    assert "+2" in diff.out
    assert again.out == "main has it already\n"
    assert (merged.code, (shell.repo / "two").read_text()) == (0, "2\n")
    assert status(shell, one, two) == ["removed", "removed"]
    assert shell.column("merged_commit", one) == taken
    assert shell.column("merged_commit", two) == shell.git("rev-parse", "main")


def test_over_the_quota_the_longest_unused_go_until_the_rest_fits_and_the_living_stay(
    shell: Shell,
) -> None:
    old, older, new = (work(shell, "head -c 300000 /dev/zero > big") for _ in range(3))
    for agent, days in ((old, 2), (older, 3), (new, 1)):
        unused_for(shell, agent, days)
    shell.runner()
    alive = shell.plant(*hold(shell.gate))
    shell.held(alive)
    done = shell.json("gc", "--max-disk", "500K")
    assert [i["agent_id"] for i in done["removed"]] == [older, old]
    assert {i["reason"] for i in done["removed"]} == {"over the quota"}
    assert done["left"]["bytes"] <= 500 * 1024
    assert [i["agent_id"] for i in shell.json("gc", "--max-disk", "0")["removed"]] == [new]
    assert worktree(shell, alive).is_dir()
    shell("pause", alive)
    assert shell.json("gc", "--max-disk", "0", "--older-than", "1s")["removed"] == []
    assert status(shell, alive) == ["active"]


def test_an_agent_that_was_ended_keeps_its_worktree_until_its_runner_has_saved_it(
    shell: Shell,
) -> None:
    shell.runner()
    stubborn = ["sh", "-c", f"trap '' TERM; echo x > late; {hold(shell.gate)[2]}; sleep 60"]
    agent = shell.plant(*stubborn)
    shell.held(agent)
    shell("kill", agent)
    (kept,) = shell.json("gc", "--max-disk", "0")["kept"]
    assert kept["reason"].startswith("in use")
    assert worktree(shell, agent).is_dir()
    shell.gate.touch()


def test_uncommitted_work_of_an_agent_that_nobody_saved_is_rescued_first(shell: Shell) -> None:
    agent = work(shell, "echo one > new")
    tree = worktree(shell, agent)
    (tree / "late").write_text("not committed\n")
    shell.git("checkout", "-q", "--detach", at=tree)
    (tree / "a.txt").write_text("detached\n")
    shell.git("commit", "-qam", "detached", at=tree)
    detached = shell.git("rev-parse", "HEAD", at=tree)
    assert shell.json("gc", "--max-disk", "0")["removed"]
    assert {blob(shell, "not committed\n"), detached} <= everything_reached(shell)
    assert not tree.exists()


def test_only_merged_ones_and_only_those_of_one_repository_can_be_asked_for(shell: Shell) -> None:
    one, two = work(shell), work(shell, "echo 2 > two")
    shell("merge", one)
    elsewhere = shell.place / "elsewhere"
    elsewhere.mkdir()
    shell.git("init", "-q", "-b", "main", at=elsewhere)
    shell.git("commit", "-q", "--allow-empty", "-m", "start", at=elsewhere)
    other = work(shell, "true", "--repo", elsewhere)
    gone = shell.json("gc", "--max-disk", "0", "--repo", elsewhere)["removed"]
    assert [i["agent_id"] for i in gone] == [other]
    gone = shell.json("gc", "--max-disk", "0", "--merged")["removed"]
    assert [i["agent_id"] for i in gone] == [one]
    assert status(shell, one, two, other) == ["removed", "saved", "removed"]


def test_branches_go_only_when_asked_for_merged_whole_and_needed_by_nobody(shell: Shell) -> None:
    whole, more, held, unmerged = (work(shell, f"echo {n} > new{n}") for n in range(4))
    for agent in (whole, more, held):
        shell("merge", agent)
    names = {a: shell.column("branch_name", a) for a in (whole, more, held, unmerged)}
    tree = worktree(shell, more)
    (tree / "later").write_text("after the merge\n")
    shell.git("add", "-A", at=tree)
    shell.git("commit", "-qm", "later", at=tree)
    shell.git("worktree", "add", "-q", "-f", str(shell.place / "mine"), names[held])
    reached = everything_reached(shell)
    done = shell.json("gc", "--max-disk", "0", "--branches")
    assert {i["agent_id"]: i["reason"] for i in done["removed"]}[whole].endswith("its branch")
    left = shell.git("for-each-ref", "--format=%(refname:short)", "refs/heads/bough").splitlines()
    assert sorted(left) == sorted(names[a] for a in (more, held, unmerged))
    assert not shell.git("for-each-ref", f"refs/bough/base/{whole[:8]}")
    assert everything_reached(shell) == reached
    assert "+0" in shell("diff", whole).out


@pytest.mark.parametrize("word", ["--max-disk=ten", "--older-than=0", "--max-disk=-1"])
def test_a_bad_number_is_refused_and_nothing_goes(shell: Shell, word: str) -> None:
    assert "give one like" in shell.refused("gc", word, code=2)


def test_a_program_inside_an_agent_removes_no_worktrees(shell: Shell) -> None:
    done = shell("run", "t", "--", "sh", "-c", "bough gc; echo code $?")
    assert "removes no worktrees" in done.err
    assert "code 4" in done.err


CANDIDATES = st.builds(
    Candidate,
    key=st.uuids(),
    ended=st.booleans(),
    merged=st.booleans(),
    age_s=st.integers(0, 100),
    size_bytes=st.integers(0, 50),
)


@given(
    st.lists(CANDIDATES, unique_by=lambda c: c.key),
    st.builds(
        Policy,
        merged_s=st.integers(0, 100),
        ended_s=st.integers(0, 100),
        only_merged=st.booleans(),
        quota_bytes=st.none() | st.integers(0, 200),
    ),
)
def test_whatever_the_numbers_no_living_one_goes_and_no_more_than_age_and_quota_ask_for(
    candidates: list[Candidate], policy: Policy
) -> None:
    going = chosen(candidates, policy)
    by_key = {c.key: c for c in candidates}
    assert all(by_key[key].ended for key in going)
    assert all(by_key[key].merged for key in going) or not policy.only_merged
    over = [by_key[key] for key, why in going.items() if why == "over the quota"]
    for c in candidates:
        may_go = c.ended and (c.merged or not policy.only_merged)
        due = c.age_s >= (policy.merged_s if c.merged else policy.ended_s)
        assert (c.key in going) >= (may_go and due)
        assert c.key not in going or due or c in over
    left = sum(c.size_bytes for c in candidates if c.key not in going)
    if over:
        assert left + over[-1].size_bytes > (policy.quota_bytes or 0)
    stays = [c for c in candidates if c.ended and c.key not in going and c.size_bytes]
    stays = [c for c in stays if c.merged or not policy.only_merged]
    if policy.quota_bytes is not None and stays:
        assert left <= policy.quota_bytes
        assert all(o.age_s >= s.age_s for o in over for s in stays)


def test_the_numbers_are_for_people_and_the_document_for_programs(shell: Shell) -> None:
    agent = work(shell)
    unused_for(shell, agent, 20)
    told = shell.terminal("gc", "--dry-run", columns=160)
    assert "would remove  ended" in told
    assert "20d" in told
    assert "KiB" in told
    document = json.loads(shell("gc", "--dry-run", "--json").out)
    assert set(document) == {"dry_run", "removed", "kept", "freed_bytes", "left"}
