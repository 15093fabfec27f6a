"""Collections at once, and beside runners that make and save worktrees, disturb nobody."""

import json
import os
import subprocess
from pathlib import Path

from cli import Shell, until
from gc_scenes import status, worktree

from bough.runner.workspaces.disk import disk_bytes

pytest_plugins = ["cli"]


def test_collections_at_once_remove_each_worktree_once_and_all_succeed(shell: Shell) -> None:
    shell.runner()
    agents = [shell.plant("sh", "-c", f"echo {n} > new{n}", task=f"work {n}") for n in range(6)]
    for agent in agents:
        shell.reaches(agent, "completed")
    live = [shell.begin("gc", "--max-disk", "0", "--json") for _ in range(4)]
    done = [one.ends() for one in live]
    assert [d.code for d in done] == [0] * 4, done
    documents = [json.loads(d.out) for d in done]
    removed = [i["agent_id"] for document in documents for i in document["removed"]]
    kept = [i for document in documents for i in document["kept"]]
    assert sorted(removed) == sorted(agents)
    assert kept == []
    assert status(shell, *agents) == ["removed"] * 6
    assert [worktree(shell, a).exists() for a in agents] == [False] * 6
    assert len(shell.git("for-each-ref", "refs/heads/bough").splitlines()) == 6


def test_a_collection_without_end_takes_nothing_from_runners_at_work(shell: Shell) -> None:
    shell.runner()
    agents = [
        shell.plant("sh", "-c", f"echo {n} > new{n}; echo more >> a.txt", task=f"work {n}")
        for n in range(60)
    ]
    rounds = 0
    while any(not shell.column("completed_at", a) for a in agents):
        collecting = [shell.begin("gc", "--max-disk", "0", "--older-than", "1s") for _ in range(2)]
        assert [one.ends().code for one in collecting] == [0, 0]
        rounds += 1
    assert rounds > 1
    for number, agent in enumerate(agents):
        shell.reaches(agent, "completed")
        branch = shell.column("branch_name", agent)
        assert shell.git("show", f"{branch}:new{number}") == str(number)
        assert shell.column("files_changed", agent) == 2
    until(
        lambda: shell("gc", "--max-disk", "0") and set(status(shell, *agents)) == {"removed"},
        "all were let go and removed",
    )
    assert not list((shell.repo / ".git").glob("worktrees/*"))


def test_a_runner_that_is_only_frozen_keeps_the_worktree_of_an_agent_that_was_ended(
    shell: Shell,
) -> None:
    runner = shell.runner()
    agent = shell.plant("sh", "-c", f"touch '{shell.gate}'; cd /; exec sleep 600")
    until(shell.gate.exists, "it runs")
    os.kill(runner.process.pid, 19)
    shell("kill", agent)
    (kept,) = shell.json("gc", "--max-disk", "0")["kept"]
    assert kept["reason"].startswith("is in use by its runner")
    assert worktree(shell, agent).is_dir()
    os.kill(runner.process.pid, 18)
    until(lambda: shell.json("gc", "--max-disk", "0")["removed"], "its runner has let it go")
    assert status(shell, agent) == ["removed"]


async def test_disk_use_is_what_du_says_links_once_and_nothing_behind_a_symbolic_one(
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    (place / "sub").mkdir(parents=True)
    (place / "one").write_bytes(os.urandom(100_000))
    os.link(place / "one", place / "sub" / "two")
    with (place / "holes").open("wb") as sparse:
        sparse.truncate(10_000_000)
    (place / "away").symlink_to("/usr")
    said = subprocess.run(["du", "-s", "-B1", str(place)], capture_output=True, check=True).stdout
    assert await disk_bytes(place) == int(said.split()[0])
    (tmp_path / "link").symlink_to("/usr")
    assert await disk_bytes(tmp_path / "link") < 5_000
    assert await disk_bytes(tmp_path / "nothing") == 0
