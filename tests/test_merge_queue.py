"""`bough merge` of many at once: one batch, each told its own outcome, nothing lost or twice."""

import json
import signal

import pytest
from cli import Shell, until
from finished import busy, finished, moves, queued, settings

pytest_plugins = ["cli"]


def statuses(shell: Shell) -> list[str]:
    sql = b"select status from bough.merges order by place"
    return [row[0] for row in shell.look.execute(sql).fetchall()]


def test_twenty_merges_at_once_become_one_batch_and_each_tells_its_own(shell: Shell) -> None:
    agents = [finished(shell, {f"f{n}": f"{n}\n"}) for n in range(20)]
    before = moves(shell)
    with busy(shell):
        merges = [shell.begin("merge", agent) for agent in agents]
        until(lambda: queued(shell) == 20, "all are in line")
    done = [merge.ends() for merge in merges]
    assert [d.code for d in done] == [0] * 20, done
    assert all(
        d.out.startswith(f"merged {a[:8]} (1 file") for d, a in zip(done, agents, strict=True)
    )
    assert moves(shell) == before + 1
    assert sorted(p.name for p in shell.repo.glob("f*")) == sorted(f"f{n}" for n in range(20))
    assert len(shell.git("rev-list", "--merges", "main").splitlines()) == 20
    assert shell.git("status", "--porcelain") == ""


@pytest.mark.parametrize("strategy", ["merge", "squash", "rebase"])
def test_ten_agents_that_edit_one_file_lose_no_line(shell: Shell, strategy: str) -> None:
    lines = [f"line {n}\n" for n in range(60)]
    (shell.repo / "big").write_text("".join(lines))
    shell.commit("big")
    expected, agents = list(lines), list[str]()
    for n in range(10):
        mine = list(lines)
        mine[6 * n] = f"agent {n} was here\n"
        mine[6 * n + 1] = f"line {6 * n + 1}\nand here, agent {n}\n"
        expected[6 * n], expected[6 * n + 1] = mine[6 * n], mine[6 * n + 1]
        agents.append(finished(shell, {"big": "".join(mine)}))
    told = shell("merge", "--strategy", strategy, *agents)
    assert len(told.out.splitlines()) == 10
    assert (shell.repo / "big").read_text() == "".join(expected)
    assert shell.git("status", "--porcelain") == ""
    assert [shell.column("isolation_status", a) for a in agents] == ["merged"] * 10


@pytest.mark.parametrize("strategy", ["squash", "rebase"])
def test_a_second_merge_finds_it_there_whatever_the_strategy(shell: Shell, strategy: str) -> None:
    agent = finished(shell, {"new": "x\n"})
    shell("merge", "--strategy", strategy, agent)
    commit = shell.git("rev-parse", "main")
    assert shell.git("rev-list", "--merges", "main") == ""
    (shell.repo / "new").unlink()
    shell.commit("the file is not wanted after all")
    later = shell.git("rev-parse", "main")
    dry, again, other = shell.in_a_row(
        ["merge", "--dry-run", agent], ["merge", agent], ["merge", "--strategy", strategy, agent]
    )
    assert [d.out for d in (dry, again, other)] == ["main has it already\n"] * 3
    assert shell.git("rev-parse", "main") == later
    assert shell.column("merged_commit", agent) == commit
    shell.git("reset", "-q", "--hard", f"{commit}~1")
    assert shell("merge", "--strategy", strategy, agent).out.startswith("merged")
    assert (shell.repo / "new").exists()


def test_the_strategy_is_that_of_the_targets_settings_unless_told_otherwise(shell: Shell) -> None:
    settings(shell, '[merge]\nstrategy = "squash"\n')
    one, two = finished(shell, {"one": "x\n"}), finished(shell, {"two": "x\n"})
    assert shell.json("merge", one)["strategy"] == "squash"
    assert shell.git("log", "-1", "--format=%B", "main") == f"write one\n\nAgent: {one}"
    assert shell.json("merge", two, "--strategy", "merge")["strategy"] == "merge"
    assert len(shell.git("rev-parse", "main^@").split()) == 2
    settings(shell, '[merge]\nstrategie = "squash"\n')
    three = finished(shell, {"three": "x\n"})
    told = shell.refused("merge", three, code=78)
    assert "there is no key in [merge] 'strategie'" in told
    assert queued(shell) == 0


def test_what_conflicts_is_left_out_of_a_batch_and_the_rest_lands(shell: Shell) -> None:
    one, two, three = (
        finished(shell, {"a.txt": "ours\n", "one": "x\n"}),
        finished(shell, {"a.txt": "theirs\n"}),
        finished(shell, {"three": "x\n"}),
    )
    would = shell("merge", "--dry-run", one, two, three, code=5)
    assert would.out.splitlines()[0].startswith(f"would merge {one[:8]}")
    assert f"{two[:8]}\ta.txt\tcontents" in would.out.splitlines()
    assert (queued(shell), statuses(shell)) == (0, [])
    done = shell("merge", one, two, three, code=5)
    assert [line.split()[1] for line in done.out.splitlines()] == [one[:8], three[:8]]
    assert f"bough: {two[:8]}: bough/{two[:8]}/work and main conflict in 1 paths" in done.err
    assert statuses(shell) == ["merged", "conflicted", "merged"]
    assert "merge.conflicted" in shell.events(two)
    mail = json.loads(shell("inbox", "--json").out)
    assert [(m["type"], m["payload"]["conflicts"]) for m in mail] == [
        ("child.conflicted", ["a.txt"])
    ]
    told = shell("merge", two, "--json", code=5)
    assert json.loads(told.out)["conflicts"] == ["a.txt"]
    assert json.loads(told.err)["error"]["code"] == "conflict"


def test_who_stops_waiting_takes_its_merge_out_of_the_line(shell: Shell) -> None:
    agent = finished(shell, {"new": "x\n"})
    with busy(shell):
        merge = shell.begin("merge", agent)
        until(lambda: queued(shell) == 1, "it is in line")
        merge.signal(signal.SIGINT)
        assert merge.ends().code == 130
        assert statuses(shell) == ["withdrawn"]
    assert shell("merge", "--queue").out == ""
    assert not (shell.repo / "new").exists()


def test_a_file_in_the_way_of_one_keeps_no_other_from_landing(shell: Shell) -> None:
    one, two = finished(shell, {"mine": "theirs\n"}), finished(shell, {"two": "x\n"})
    (shell.repo / "mine").write_text("precious\n")
    done = shell("merge", one, two, code=5)
    assert "git does not track are in the way" in done.err
    assert statuses(shell) == ["refused", "merged"]
    assert (shell.repo / "mine").read_text() == "precious\n"


def test_a_gate_that_fails_is_told_with_its_output_and_the_others_land(shell: Shell) -> None:
    settings(shell, '[merge]\ngates = ["echo looking; test ! -e bad || exit 3"]\n')
    agents = [finished(shell, {name: "x\n"}) for name in ("good", "bad", "fine")]
    done = shell("merge", *agents, code=1)
    assert statuses(shell) == ["merged", "gate_failed", "merged"]
    assert "exited with 3: looking" in done.err
    assert sorted(p.name for p in shell.repo.iterdir() if not p.name.startswith(".")) == [
        *("a.txt", "bough.toml", "fine", "good"),
    ]
    alone = shell("merge", agents[1], "--json", code=1)
    found = json.loads(alone.out)
    assert (found["status"], found["gate_output"]) == ("gate_failed", "looking\n")
    assert json.loads(alone.err)["error"]["code"] == "gate_failed"


def test_neither_ids_nor_queue_is_a_wrong_use(shell: Shell) -> None:
    assert "give the ids of agents, or --queue" in shell.refused("merge", code=2)
