"""kill -9 of a merge at every point where it matters: the next one ends as if nothing had been."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from cli import Shell, until
from finished import busy, finished, queued, settings

pytest_plugins = ["cli"]

HALF = """
export GIT_INDEX_FILE={place}/half
{git} -C "$2" read-tree "$last" && {git} -C "$2" checkout-index -a -f --prefix="$2/"
"""


def deadly(shell: Shell, command: str, when: str) -> dict[str, str]:
    """A PATH whose git kills the `bough` that starts it at a command, once: before, half, after."""
    real = shutil.which("git")
    act = {"before": "", "half": HALF.format(git=real, place=shell.place), "after": f'{real} "$@"'}
    script = (
        f'#!/bin/sh\nfor last in "$@"; do :; done\ncase "$*" in *"{command}"*)'
        f' if mkdir "{shell.place}/killed" 2>/dev/null; then {act[when]}\n'
        f' kill -9 $PPID; exit 1; fi;; esac\nexec {real} "$@"\n'
    )
    program = shell.place / "bin" / "git"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{shell.env['PATH']}"}


POINTS = [
    ("main", "commit-tree", "before", "merge"),
    ("main", "commit-tree", "after", "rebase"),
    ("main", "merge --ff-only", "before", "squash"),
    ("main", "merge --ff-only", "half", "squash"),
    ("main", "merge --ff-only", "after", "rebase"),
    ("release", "update-ref -m", "before", "rebase"),
    ("release", "update-ref -m", "after", "squash"),
]


@pytest.mark.parametrize(("target", "command", "when", "strategy"), POINTS)
def test_a_merge_that_is_killed_is_finished_by_the_next_and_lands_once(
    shell: Shell, target: str, command: str, when: str, strategy: str
) -> None:
    shell.git("branch", "release")
    agent = finished(shell, {"new": "x\n", "a.txt": "one\ntwo\nthree\nfour\n"})
    before = shell.git("rev-parse", target)
    killed = shell.begin(
        "merge", agent, "--into", target, "--strategy", strategy, env=deadly(shell, command, when)
    )
    assert killed.ends().code == -signal.SIGKILL
    assert (shell.place / "killed").exists()
    assert queued(shell) == 1

    other = finished(shell, {"later": "x\n"}, base=before)
    told = shell("merge", other, "--into", target, "--strategy", strategy)
    assert told.out.startswith(f"merged {other[:8]}")
    assert queued(shell) == 0
    subjects = shell.git("log", "--format=%s", f"{before}..{target}").splitlines()
    assert len(subjects) == (4 if strategy == "merge" else 2), subjects
    names = shell.git("ls-tree", "--name-only", target).split()
    assert names == ["a.txt", "later", "new"]
    assert shell.git("show", f"{target}:a.txt") == "one\ntwo\nthree\nfour"
    assert shell.git("status", "--porcelain") == ""
    assert shell.column("isolation_status", agent) == "merged"
    assert shell("merge", agent, "--into", target).out == f"{target} has it already\n"


def test_the_queue_of_a_killed_merge_is_finished_by_hand(shell: Shell) -> None:
    settings(
        shell, f'[merge]\ngates = ["touch {shell.place}/in; test -e {shell.gate} || sleep 99"]'
    )
    agents = [finished(shell, {f"f{n}": "x\n"}) for n in range(3)]
    with busy(shell):
        first = shell.begin("merge", *agents)
        until(lambda: queued(shell) == 3, "all are in line")
    until((shell.place / "in").exists, "its gate runs")
    first.signal(signal.SIGKILL)
    assert first.ends().code == -signal.SIGKILL
    shell.gate.touch()
    done = shell("merge", "--queue")
    assert [line.split()[1] for line in done.out.splitlines()] == [a[:8] for a in agents]
    assert sorted(p.name for p in shell.repo.glob("f*")) == ["f0", "f1", "f2"]
    assert list((shell.repo / ".git" / "worktrees").glob("bough-merge-*")) == []


def test_those_who_wait_for_a_killed_merge_go_on_at_once(shell: Shell) -> None:
    wait = f"mkdir {shell.place}/in 2>/dev/null || exit 0; touch {shell.place}/runs; sleep 99"
    settings(shell, f'[merge]\ngates = ["{wait}"]\n')
    one, two = finished(shell, {"one": "x\n"}), finished(shell, {"two": "x\n"})
    first = shell.begin("merge", one)
    until((shell.place / "runs").exists, "the first runs its gate")
    second = shell.begin("merge", two)
    until(lambda: queued(shell) == 2, "the second is in line")
    os.kill(first.process.pid, signal.SIGKILL)
    assert second.ends().out.startswith(f"merged {two[:8]}")
    assert sorted(p.name for p in Path(shell.repo).glob("*o*")) == ["bough.toml", "one", "two"]
    assert queued(shell) == 0


def test_work_of_a_person_in_the_checkout_is_not_taken_for_what_a_merge_left(shell: Shell) -> None:
    agent = finished(shell, {"new": "x\n", "a.txt": "one\ntwo\nthree\nfour\n"})
    env = deadly(shell, "merge --ff-only", "half")
    assert shell.begin("merge", agent, env=env).ends().code == -signal.SIGKILL
    (shell.repo / "a.txt").write_text("mine\n")
    told = shell.refused("merge", agent, code=5)
    assert "a.txt" in told
    assert (shell.repo / "a.txt").read_text() == "mine\n"


def test_what_a_killed_merge_landed_and_somebody_took_back_is_not_merged_again(
    shell: Shell,
) -> None:
    agent = finished(shell, {"new": "x\n"})
    env = deadly(shell, "merge --ff-only", "after")
    killed = shell.begin("merge", agent, "--strategy", "squash", env=env)
    assert killed.ends().code == -signal.SIGKILL
    (shell.repo / "new").unlink()
    shell.commit("not wanted after all")
    assert shell("merge", "--queue").out.startswith(f"merged {agent[:8]}")
    assert shell("merge", agent, "--strategy", "squash").out == "main has it already\n"
    assert not (shell.repo / "new").exists()


def test_a_plan_that_never_landed_is_not_taken_for_one_that_did(shell: Shell) -> None:
    stale, landed = finished(shell, {"stale": "x\n"}), finished(shell, {"landed": "x\n"})
    before = shell.git("rev-parse", "main")
    shell("merge", "--strategy", "squash", landed)
    now = shell.git("rev-parse", "main")
    never = shell.git("commit-tree", "-p", before, "-m", "never", "main^{tree}")
    for agent, commit in ((stale, never), (landed, now)):
        key = shell.value(
            "select id::text from bough_api.queue_merge(gen_random_uuid(), %s, 'main', 'squash')",
            agent,
        )
        shell.value(
            "update bough.merges set source_commit = %s, previous_commit = %s, merged_commit = %s"
            " where id = %s returning 1",
            *(shell.column("head_commit", agent), before, commit, key),
        )
    told = shell("merge", "--queue")
    assert [line.split()[1] for line in told.out.splitlines()] == [stale[:8], landed[:8]]
    assert (shell.repo / "stale").exists()
    assert shell.git("rev-list", "--count", f"{before}..main") == "2"
    assert shell.git("rev-parse", "main~1") == now
