"""Merges a second into one branch, one by one and queued in a batch, beside raw `git merge`.

Every agent has changed a file of its own in a clone of this repository. Ours goes through the
database and records each outcome; `git merge --no-ff` in a checkout of the same clone, one after
the other, is the floor. Each way starts from the same commit.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.hints import listening
from bough.client.runner_calls import RunnerClient
from bough.runner.merging import merge_agents, wishes_of

AGENTS = 20


def _git(where: Path, *args: str) -> str:
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")
    done = subprocess.run(
        ["git", "-C", str(where), *who, *args], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _clone(place: Path) -> Path:
    here = Path(__file__).parents[1]
    subprocess.run(["git", "clone", "-q", str(here), str(place / "repo")], check=True)
    _git(place / "repo", "checkout", "-q", "-B", "main")
    return place / "repo"


def _branches(repo: Path) -> list[str]:
    """Branches that each change one file."""
    for number in range(AGENTS):
        _git(repo, "checkout", "-q", "-b", f"work{number}", "main")
        (repo / f"bench-{number}.txt").write_text(f"{number}\n")
        _git(repo, "add", "-A")
        _git(repo, "commit", "-q", "-m", f"work {number}")
    _git(repo, "checkout", "-q", "main")
    return [f"work{number}" for number in range(AGENTS)]


async def _agent(client: RunnerClient, runner_id: UUID, repo: Path, branch: str) -> UUID:
    """An agent that has ended with its work on a branch."""
    base, head = _git(repo, "rev-parse", "main"), _git(repo, "rev-parse", branch)
    key = uuid4()
    await client.spawn(
        Spawn(
            key=key,
            task=branch,
            budget=1000,
            program={"argv": ["true"]},
            repo_path=str(repo),
            base_commit=base,
            target_branch="main",
            runner_id=runner_id,
        )
    )
    await client.claim(runner_id, slots=1, root_id=key)
    place = {"path": f"{repo}-{key}", "branch": branch, "base_commit": base}
    await client.open_workspace(key, epoch=1, **place)
    await client.save_workspace(key, epoch=1, head_commit=head, files=1, added=1, removed=0)
    await client.complete(key, epoch=1, result={})
    return key


@asynccontextmanager
async def _agents(dsn: str, repo: Path) -> AsyncGenerator[tuple[RunnerClient, list[UUID]]]:
    async with open_client(dsn, actor="bench", pooled=4) as client:
        runner_id = uuid4()
        who = {"host": "bench", "process_start": "1", "boot_id": "b"}
        await client.enroll(runner_id, pid=1, slots=AGENTS, lease_s=600, **who)
        yield client, [await _agent(client, runner_id, repo, b) for b in _branches(repo)]


async def _rate(repo: Path, way: Callable[[], Awaitable[None]]) -> float:
    """Merges a second of one way, which starts from the same commit as the others."""
    start = _git(repo, "rev-parse", "main")
    begun = time.perf_counter()
    await way()
    taken = time.perf_counter() - begun
    landed = len(_git(repo, "ls-files", "bench-*").splitlines())
    assert landed == AGENTS, f"{landed} of {AGENTS} have landed"
    _git(repo, "reset", "-q", "--hard", start)
    return AGENTS / taken


async def main() -> None:
    """Print all three, and their ratios."""
    place = Path(tempfile.mkdtemp(prefix="bough-merges-", dir="/tmp"))
    try:
        repo = _clone(place)
        async with database() as dsn, _agents(dsn, repo) as (client, agents):
            listen = partial(listening, dsn)

            async def take(*ids: UUID) -> None:
                agents = [await client.show(i) for i in ids]
                await merge_agents(client, listen, await wishes_of(agents, None, None))

            async def one_by_one() -> None:
                for agent in agents:
                    await take(agent)

            async def in_a_batch() -> None:
                await take(*agents)

            async def at_once() -> None:
                await asyncio.gather(*(take(agent) for agent in agents))

            async def raw() -> None:
                for number in range(AGENTS):
                    _git(repo, "merge", "-q", "--no-ff", "-m", "m", f"work{number}")

            floor = await _rate(repo, raw)
            print(f"git merge in a checkout      {floor:6.1f}/s")
            for name, way in (
                ("one by one", one_by_one),
                ("asked for at once", at_once),
                ("in one call", in_a_batch),
            ):
                rate = await _rate(repo, way)
                print(f"bough merge, {name:18} {rate:6.1f}/s   {rate / floor:.2f} x git merge")
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
