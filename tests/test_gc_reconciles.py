"""What people, killed programs and other machines have done to worktrees is put in order, and
what nobody can put in order is told by name and left alone."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cli import Shell, hold, until
from gc_scenes import blob, everything_reached, status, unused_for, work, worktree

pytest_plugins = ["cli"]
LONG_AGO = 1_000_000_000


def admin(shell: Shell, agent: str) -> Path:
    (found,) = (shell.repo / ".git" / "worktrees").glob(f"{agent[:8]}*")
    return found


def sweep(shell: Shell, *options: object) -> dict[str, str]:
    """Collect everything that may go; what was kept, and why."""
    done = shell.json("gc", "--max-disk", "0", *options)
    return {item["path"]: item["reason"] for item in done["kept"]}


def test_a_directory_removed_by_hand_is_recorded_at_once_and_its_work_rescued(
    shell: Shell,
) -> None:
    agent = work(shell, "echo one > new")
    tree = worktree(shell, agent)
    shell.git("checkout", "-q", "--detach", at=tree)
    (tree / "a.txt").write_text("detached\n")
    shell.git("commit", "-qam", "detached", at=tree)
    detached = shell.git("rev-parse", "HEAD", at=tree)
    (tree / "staged").write_text("only staged\n")
    shell.git("add", "-A", at=tree)
    shutil.rmtree(tree)
    (item,) = shell.json("gc")["removed"]
    assert item["reason"] == "its directory was removed by hand"
    assert {blob(shell, "only staged\n"), detached} <= everything_reached(shell)
    assert status(shell, agent) == ["removed"]
    assert not list((shell.repo / ".git").glob("worktrees/*"))
    assert not tree.exists()


def test_a_directory_removed_and_pruned_by_hand_is_recorded(shell: Shell) -> None:
    agent = work(shell)
    shutil.rmtree(worktree(shell, agent))
    shell.git("worktree", "prune")
    assert len(shell.json("gc")["removed"]) == 1
    assert status(shell, agent) == ["removed"]


def test_a_worktree_on_another_machine_is_not_taken_for_one_removed_by_hand(shell: Shell) -> None:
    agent = work(shell)
    shell.look.execute(b"update bough.runners set host = 'elsewhere'")
    shutil.rmtree(worktree(shell, agent))
    assert shell.json("gc", "--max-disk", "0")["removed"] == []
    assert status(shell, agent) == ["saved"]


def test_a_living_agent_whose_directory_was_removed_by_hand_is_left_to_its_runner(
    shell: Shell,
) -> None:
    shell.runner()
    agent = shell.plant(*hold(shell.gate))
    shell.held(agent)
    shutil.rmtree(worktree(shell, agent))
    assert shell.json("gc", "--max-disk", "0")["removed"] == []
    assert admin(shell, agent).is_dir()


def test_locked_used_nested_and_unpushed_ones_are_kept_and_named_while_others_go(
    shell: Shell,
) -> None:
    plain, locked, used, nested = (work(shell) for _ in range(4))
    trees = {name: worktree(shell, name) for name in (plain, locked, used, nested)}
    shell.git("worktree", "lock", str(trees[locked]))
    shell.git("init", "-q", str(trees[nested] / "inner"))
    user = subprocess.Popen(["sleep", "600"], cwd=trees[used])
    try:
        would = sweep(shell, "--dry-run")
        kept = sweep(shell)
    finally:
        user.kill()
        user.wait()
    assert kept == would
    assert kept[str(trees[locked])].startswith("is locked; first run: git -C")
    assert kept[str(trees[used])] == f"in use: process {user.pid} works there"
    assert kept[str(trees[nested])] == "holds other repositories ('inner'); move them away"
    assert status(shell, plain, locked, used, nested) == ["removed", "saved", "saved", "saved"]
    assert not trees[plain].exists()
    shell.git("worktree", "unlock", str(trees[locked]))
    shutil.rmtree(trees[nested] / "inner")
    assert sweep(shell) == {}


@pytest.mark.parametrize("how", ["commit", "edit", "detached"])
def test_a_submodule_with_work_that_was_not_pushed_keeps_its_worktree(
    shell: Shell, how: str
) -> None:
    library = shell.place / "library"
    library.mkdir()
    shell.git("init", "-q", "-b", "main", at=library)
    shell.git("commit", "-q", "--allow-empty", "-m", "start", at=library)
    allowed = ("-c", "protocol.file.allow=always")
    shell.git(*allowed, "submodule", "--quiet", "add", str(library), "lib")
    shell.commit("with a submodule")
    # The main checkout does not have it, so only the agent's own copy holds what is done there.
    shell.git("submodule", "--quiet", "deinit", "-f", "lib")
    shutil.rmtree(shell.repo / ".git" / "modules" / "lib")
    agent = work(shell, "git -c protocol.file.allow=always submodule --quiet update --init")
    clean = work(shell, "git -c protocol.file.allow=always submodule --quiet update --init")
    inner = worktree(shell, agent) / "lib"
    if how == "edit":
        (inner / "new").write_text("x")
    else:
        shell.git("checkout", "-q", *(["--detach"] if how == "detached" else ["-b", "mine"]),
                  at=inner)  # fmt: skip
        shell.git("commit", "-q", "--allow-empty", "-m", "work", at=inner)
        shell.git("checkout", "-q", "main", at=inner)
    kept = sweep(shell)
    assert "submodules with work that was not pushed" in kept[str(worktree(shell, agent))]
    assert status(shell, agent, clean) == ["saved", "removed"]
    if how == "commit":
        shutil.rmtree(worktree(shell, agent))
        assert "not pushed" in sweep(shell)[str(worktree(shell, agent))]
        assert list(admin(shell, agent).glob("modules/lib/objects"))


def test_a_repository_that_is_gone_keeps_the_files_and_one_that_is_gone_with_them_is_recorded(
    shell: Shell,
) -> None:
    one, two = work(shell), work(shell)
    shell.repo.rename(shell.place / "moved")
    shutil.rmtree(worktree(shell, two))
    done = shell("gc", "--max-disk", "0", "--json", cwd=shell.place)
    (shell.place / "moved").rename(shell.repo)
    assert f"its repository {shell.repo} is gone" in done.out
    assert (worktree(shell, one) / "new").exists()
    assert status(shell, one, two) == ["saved", "removed"]


def test_what_belongs_to_nobody_is_told_and_left_alone(shell: Shell) -> None:
    tree = worktree(shell, work(shell))
    foreign = tree.with_name("somebody-elses")
    foreign.mkdir()
    (foreign / "precious").write_text("mine")
    shell.git("worktree", "add", "-q", "--detach", str(tree.with_name("by-hand")))
    lost = shell.home / "scratch" / "not-an-id"
    lost.mkdir(parents=True)
    kept = sweep(shell)
    assert "not a worktree that git knows" in kept[str(foreign)]
    assert str(lost) in kept
    assert (foreign / "precious").exists()
    assert kept[str(tree.with_name("by-hand"))] == "no agent in this database has it"
    assert (tree.with_name("by-hand") / "a.txt").exists()


def test_a_worktree_that_a_person_made_anew_is_not_taken_for_half_made(shell: Shell) -> None:
    agent = work(shell)
    tree, branch = worktree(shell, agent), shell.column("branch_name", agent)
    shell.git("worktree", "remove", "--force", str(tree))
    shell.git("worktree", "add", "-q", str(tree), branch)
    (tree / "precious").write_text("a person's\n")
    assert sweep(shell) == {}
    assert blob(shell, "a person's\n") in everything_reached(shell)


def old(path: Path) -> Path:
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_what_killed_programs_left_is_swept_and_what_is_under_way_is_not(shell: Shell) -> None:
    agent = work(shell)
    tree, record = worktree(shell, agent), admin(shell, agent)
    halves = [
        tree.with_name(f"{tree.name}.gone"),
        tree.with_name(f"{tree.name}.part"),
        shell.repo / ".git" / "bough-gone-x",
        record / "bough-abc",
        shell.place / "tmp" / "bough-def",
    ]
    for half in halves:
        half.mkdir()
        (half / "index").write_text("half")
        old(half)
    young = shell.place / "tmp" / "bough-young"
    young.mkdir()
    (young / "index").write_text("under way")
    foreign = shell.place / "tmp" / "bough-notes"
    foreign.mkdir()
    (foreign / "index").write_text("")
    (foreign / "notes").write_text("mine")
    old(foreign)
    locker = subprocess.Popen(["flock", str(halves[-1]), "sh", "-c", "echo here; cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert locker.stdout
    assert locker.stdout.readline() == b"here\n"
    kept = {item["path"]: item["reason"] for item in shell.json("gc")["kept"]}
    assert kept == {str(halves[-1]): "somebody is at it"}
    locker.communicate(b"")
    assert shell.json("gc")["kept"] == []
    assert [half for half in halves if half.exists()] == []
    assert young.exists()
    assert foreign.exists()
    assert tree.is_dir()


def half_made(shell: Shell) -> tuple[Path, int]:
    """A worktree whose creator is killed while it writes files; the filter that held it up."""
    (shell.repo / ".gitattributes").write_text("slow filter=slow\n")
    (shell.repo / "slow").write_text("x\n")
    shell.commit("slow")
    mark = shell.place / "mark"
    shell.git("config", "filter.slow.smudge", f"echo $$ > '{mark}'; exec sleep 600")
    runner = shell.runner()
    agent = shell.plant("true")
    until(lambda: mark.exists() and mark.read_text().strip(), "the filter runs")
    (tree,) = shell.home.glob(f"worktrees/*/{agent[:8]}*")
    said: Any = shell("gc", "--json").out
    assert "half made" not in said
    assert tree.is_dir()
    runner.process.kill()
    runner.ends()
    shell("kill", agent)
    return tree, int(mark.read_text())


def test_a_worktree_half_made_by_a_killed_runner_goes_and_one_in_the_making_does_not(
    shell: Shell,
) -> None:
    tree, held_up = half_made(shell)
    os.kill(held_up, 9)
    (item,) = [i for i in shell.json("gc")["removed"] if i["path"] == str(tree)]
    assert item["reason"] == "half made by a runner that was killed"
    assert not tree.exists()
    assert not list((shell.repo / ".git").glob("worktrees/*"))


def test_scratch_directories_go_with_age_and_are_kept_while_in_use(shell: Shell) -> None:
    outside = shell.place / "outside"
    outside.mkdir()
    agent = shell.value(
        "select id::text from bough_api.spawn(key => gen_random_uuid(), parent_id => null,"
        " task => 't', role => 'agent', budget => 100, driver => 'command',"
        """ program => '{"argv": ["sh", "-c", "echo x > made"]}', repo_path => null,"""
        " base_commit => null, target_branch => null, runner_id => null, timeout_s => null,"
        " max_depth => null, max_children => null, max_running => null)"
    )
    shell.runner()
    shell.reaches(agent, "completed")
    place = shell.home / "scratch" / agent
    assert (place / "made").exists()
    assert shell.json("gc")["removed"] == []
    unused_for(shell, agent, 20)
    home = shell.home / "agents" / agent
    (home / "session").mkdir(parents=True)
    items = shell.json("gc")["removed"]
    assert [(i["what"], i["agent_id"]) for i in items] == [("home", agent), ("scratch", agent)]
    assert not place.exists()
    assert not home.exists()


def test_spares_stay_while_they_are_taken_and_go_after_a_week_or_over_the_quota(
    shell: Shell,
) -> None:
    (shell.repo / "bough.toml").write_text("[workspace]\npool = 1\n")
    shell.commit("a spare")
    shell.runner()
    agent = shell.plant("true")
    shell.reaches(agent, "completed")
    until(lambda: len(list(shell.home.glob("worktrees/*/.spare/*/a.txt"))) == 1, "a spare")
    (folder,) = shell.home.glob("worktrees/*/.spare")
    (spare,) = shell.json("gc")["kept"]
    assert (spare["what"], spare["path"]) == ("spares", str(folder))
    os.utime(folder, (LONG_AGO, LONG_AGO))
    shell("gc", "--dry-run")
    assert folder.exists()
    assert [item["what"] for item in shell.json("gc")["removed"]] == ["spares"]
    assert not folder.exists()
    assert not list((shell.repo / ".git").glob("worktrees/bough-spare*"))
    assert worktree(shell, agent).is_dir()
