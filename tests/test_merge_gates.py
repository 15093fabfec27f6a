"""Gates judge the merged files before the branch moves; who breaks them is found and left out."""

from pathlib import Path

import pytest
from git_scenes import sh
from merge_scenes import commit, state

from bough.client.errors import BadConfiguration
from bough.runner.workspaces.batch import GateFailed, Outcome, land
from bough.runner.workspaces.commits import Recipe
from bough.runner.workspaces.git import Repo
from bough.runner.workspaces.strategies import Work
from bough.runner.workspaces.target import TargetMoved

pytest_plugins = ["merge_scenes"]


@pytest.fixture
async def gated(forked: Repo, tmp_path: Path) -> Repo:
    """Its gate refuses a file `bad`, and notes what it saw."""
    gates = f"[\"ls | tr '\\\\n' ' ' >> {tmp_path}/ran; echo >> {tmp_path}/ran\", "
    gates += "\"test ! -e bad || { echo 'bad is here'; exit 4; }\"]"
    commit(forked.root, {"bough.toml": f"[merge]\ngates = {gates}\n"})
    return forked


def branch(repository: Repo, name: str, files: dict[str, str]) -> Work:
    place = repository.root.parent / f"tree of {name}"
    sh(repository.root, "worktree", "add", "-q", "-b", name, str(place), "main")
    made = commit(place, dict(files))
    recipe = Recipe(f"Merge {name}", "A", "a@localhost")
    return Work(name, made, "merge", recipe)


async def batch(repository: Repo, *works: Work) -> dict[str, Outcome]:
    async def agree(_: object) -> bool:
        return True

    named = {work.name: work for work in works}
    done = await land(repository, "main", named, plan=agree, record=agree)
    assert done is not None
    assert not list(repository.git_dir.glob("worktrees/bough-merge-*"))
    return done


def runs(tmp_path: Path) -> list[str]:
    return (tmp_path / "ran").read_text().splitlines()


async def test_a_batch_that_passes_runs_the_gates_once_on_all_of_it(
    gated: Repo, tmp_path: Path
) -> None:
    done = await batch(gated, *(branch(gated, f"w{n}", {f"f{n}": "x\n"}) for n in range(4)))
    assert [o.status for o in done.values()] == ["merged"] * 4
    assert [line.split() for line in runs(tmp_path)] == [
        ["a.txt", "bough.toml", "f0", "f1", "f2", "f3", "old.txt"]
    ]
    assert done["w3"].commit == sh(gated.root, "rev-parse", "main")
    assert (gated.root / "f3").exists()


async def test_the_one_that_breaks_the_gate_is_found_by_halving_and_the_others_land(
    gated: Repo, tmp_path: Path
) -> None:
    works = [branch(gated, f"w{n}", {"bad" if n == 5 else f"f{n}": "x\n"}) for n in range(8)]
    done = await batch(gated, *works)
    expected = ["merged"] * 8
    expected[5] = "gate_failed"
    assert [done[f"w{n}"].status for n in range(8)] == expected
    assert len(runs(tmp_path)) == 5  # all, three to halve, all the others
    error = done["w5"].error
    assert isinstance(error, GateFailed)
    assert "exited with 4: bad is here" in str(error)
    assert "\n" not in str(error)
    assert error.output == "bad is here\n"
    assert not (gated.root / "bad").exists()
    assert sorted(p.name for p in gated.root.glob("f*")) == [f"f{n}" for n in range(8) if n != 5]


async def test_a_gate_that_fails_changes_nothing(gated: Repo) -> None:
    work = branch(gated, "w", {"bad": "x\n"})
    before = state(gated)
    assert (await batch(gated, work))["w"].status == "gate_failed"
    assert state(gated) == before


async def test_an_agent_cannot_weaken_the_gate_it_is_judged_by(gated: Repo) -> None:
    weaker = branch(gated, "w", {"bough.toml": "[merge]\ngates = []\n", "bad": "x\n"})
    assert (await batch(gated, weaker))["w"].status == "gate_failed"


async def test_a_gate_out_of_time_is_stopped_and_its_output_is_bounded(
    forked: Repo, tmp_path: Path
) -> None:
    slow = "yes 0123456789 | head -c 100000; touch started; sleep 1000"
    commit(forked.root, {"bough.toml": f'[merge]\ngates = ["{slow}"]\ngate_timeout = "1s"\n'})
    outcome = (await batch(forked, branch(forked, "w", {"f": "x\n"})))["w"]
    assert isinstance(outcome.error, GateFailed)
    assert "was stopped after 1 s" in str(outcome.error)
    assert len(outcome.error.output) == 8192


async def test_a_conflict_with_one_that_fails_its_gate_is_none(gated: Repo) -> None:
    bad = branch(gated, "bad", {"bad": "x\n", "same": "bad\n"})
    good = branch(gated, "good", {"same": "good\n"})
    done = await batch(gated, bad, good)
    assert (done["bad"].status, done["good"].status) == ("gate_failed", "merged")
    assert (gated.root / "same").read_text() == "good\n"


async def test_a_target_that_moves_while_gates_run_is_merged_anew(
    gated: Repo, tmp_path: Path
) -> None:
    again = f"test -e {tmp_path}/moved || (touch {tmp_path}/moved; "
    again += "cd $REPO && git commit -q --allow-empty -m moved)"
    identity = "GIT_CONFIG_COUNT=0"
    commit(gated.root, {"bough.toml": f"[merge]\ngates = ['''{identity} {again}''']\n"})
    sh(gated.root, "config", "user.name", "P")
    sh(gated.root, "config", "user.email", "p@localhost")
    work = branch(gated, "w", {"f": "x\n"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPO", str(gated.root))
        done = await batch(gated, work)
    assert done["w"].status == "merged"
    assert sh(gated.root, "log", "-1", "--format=%s", f"{done['w'].previous}") == "moved"
    assert (gated.root / "f").exists()


async def test_a_target_that_keeps_moving_is_given_up(gated: Repo) -> None:
    sh(gated.root, "config", "user.name", "P")
    sh(gated.root, "config", "user.email", "p@localhost")
    always = "cd $REPO && git commit -q --allow-empty -m moved"
    commit(gated.root, {"bough.toml": f'[merge]\ngates = ["{always}"]\n'})
    work = branch(gated, "w", {"f": "x\n"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPO", str(gated.root))
        with pytest.raises(TargetMoved, match="moved during 5 attempts"):
            await batch(gated, work)
    assert not (gated.root / "f").exists()


async def test_settings_that_make_no_sense_stop_the_merge(forked: Repo) -> None:
    commit(forked.root, {"bough.toml": "[merge]\ngates = 1\n"})
    with pytest.raises(BadConfiguration, match=r"bough.toml at \w+: merge.gates"):
        await batch(forked, branch(forked, "w", {"f": "x\n"}))


async def test_gates_find_nothing_of_boughs_or_gits_variables(
    forked: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = 'test -z "$BOUGH_TOKEN$PGPASSWORD$GIT_DIR"'
    commit(forked.root, {"bough.toml": f"[merge]\ngates = ['''{gate}''']\n"})
    work = branch(forked, "w", {"f": "x\n"})
    for name in ("BOUGH_TOKEN", "PGPASSWORD", "GIT_DIR"):
        monkeypatch.setenv(name, "secret")

    async def agree(_: object) -> bool:
        return True

    done = await land(forked, "main", {"w": work}, plan=agree, record=agree)
    outcome = (done or {})["w"]
    assert outcome.status == "merged"
    assert outcome.error is None


async def test_what_a_killed_merge_left_checked_out_is_removed_by_the_next(
    gated: Repo, tmp_path: Path
) -> None:
    place = tmp_path / "bough-merge-dead"
    sh(gated.root, "worktree", "add", "-q", "--detach", str(place / place.name), "main")
    done = await batch(gated, branch(gated, "w", {"f": "x\n"}))
    assert done["w"].status == "merged"
    assert not place.exists()
