"""From spawn to the first instruction of the program, with a warm runner, beside raw git.

The clock starts before the call that spawns and stops when the program, in its worktree, reads it.
`git worktree add` of the same commit in the same repository is the floor: nothing can be faster.
"""

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.hints import listening, tree_channel
from bough.client.runner_calls import RunnerClient
from bough.runner.runner import Runner
from bough.runner.workspaces.git import open_repository

AGENTS = 20
PROGRAM = ["sh", "-c", "date +%s%N > ../$BOUGH_AGENT_ID.started"]


def _clone(place: Path) -> Path:
    here = Path(__file__).parents[1]
    subprocess.run(["git", "clone", "-q", str(here), str(place / "repo")], check=True)
    return place / "repo"


def _raw(repo: Path, number: int) -> float:
    """Milliseconds that git alone takes for a worktree."""
    begun = time.perf_counter()
    add = ["git", "-C", str(repo), "worktree", "add", "-q", "-b", f"raw{number}"]
    subprocess.run([*add, str(repo.parent / f"raw{number}")], check=True)
    return (time.perf_counter() - begun) * 1000


async def _one(client: RunnerClient, dsn: str, home: Path, plan: Spawn) -> tuple[float, float]:
    """Milliseconds until the program runs, and until the agent has ended."""
    async with listening(dsn, tree_channel(plan.key)) as hints:
        begun = time.time_ns()
        await client.spawn(plan)
        while not (await client.show(plan.key)).has_ended:
            await hints.wait(1.0)
        ended = time.time_ns()
    stamp = next(home.glob(f"worktrees/*/{plan.key}.started"))
    return (int(stamp.read_text()) - begun) / 1e6, (ended - begun) / 1e6


def _tell(what: str, seen: list[float]) -> None:
    worst = sorted(seen)[-1]
    print(f"{what:34} p50 {statistics.median(seen):6.0f} ms   worst of {len(seen)} {worst:6.0f} ms")


async def main() -> None:
    """Print both, and their ratio."""
    place = Path(tempfile.mkdtemp(prefix="bough-start-", dir="/tmp"))
    try:
        path = _clone(place)
        repository = await open_repository(path)
        async with database() as dsn, open_client(dsn, actor="bench", pooled=4) as client:
            runner = Runner(client, dsn, home=place / "home", slots=4)
            await runner.enroll()
            task = asyncio.create_task(runner.run())
            raw: list[float] = []
            running: list[float] = []
            ended: list[float] = []
            for number in range(AGENTS + 1):
                raw.append(_raw(path, number))
                plan = Spawn(
                    key=uuid4(),
                    task="start",
                    budget=1000,
                    program={"argv": PROGRAM},
                    repo_path=str(repository.root),
                    base_commit=repository.head,
                )
                first, last = await _one(client, dsn, place / "home", plan)
                running.append(first)
                ended.append(last)
            runner.stop()
            await task
    finally:
        shutil.rmtree(place, ignore_errors=True)
    # The first one starts the runner's nursery; a warm runner is what is asked.
    _tell("git worktree add alone", raw[1:])
    _tell("spawn to program running", running[1:])
    _tell("spawn to end, work committed", ended[1:])
    ratio = statistics.median(a / b for a, b in zip(running[1:], raw[1:], strict=True))
    print(f"spawn to program running: {ratio:.2f} x git worktree add")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
