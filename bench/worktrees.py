"""Time to a ready worktree beside raw `git worktree add`, and creations that fail.

In each round raw git and Bough make one of the same commit in the same repository, in turns as to
who is first: a copy of this repository, and a generated one of 50,000 files (FILES=N). Warm means
that a spare was waiting, once at the wanted commit and once a commit away that changes 20 files.
Then 1,000 creations (CREATIONS=N), eight at a time, beside raw ones without anything around them.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

from bough.runner.workspaces import pool
from bough.runner.workspaces.git import GitError, Repo, open_repository
from bough.runner.workspaces.workspace import create, location

FILES = int(os.environ.get("FILES", "50000"))
CREATIONS = int(os.environ.get("CREATIONS", "1000"))
IDENTITY = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
Measured = Callable[[], Awaitable[object]]


def _git(where: Path, *args: str, data: bytes | None = None) -> None:
    subprocess.run(["git", "-C", str(where), *IDENTITY, *args], input=data, check=True)


def _clone(place: Path) -> Path:
    _git(place, "clone", "-q", str(Path(__file__).parents[1]), "this")
    return place / "this"


def _generated(place: Path) -> Path:
    """A repository of FILES files, 200 to 900 bytes each, 50 a directory."""
    root = place / "generated"
    root.mkdir()
    _git(root, "init", "-q", "-b", "main")
    parts = [b"commit refs/heads/main\ncommitter B <b@localhost> 1700000000 +0000\ndata 0\n"]
    for number in range(FILES):
        text = f"line of file {number}\n".encode() * (10 + number % 35)
        name = f"src/d{number // 500:03}/s{number // 50 % 10}/f{number}.txt"
        parts.append(f"M 100644 inline {name}\ndata {len(text)}\n".encode() + text + b"\n")
    _git(root, "fast-import", "--quiet", data=b"".join(parts))
    _git(root, "reset", "-q", "--hard")
    return root


def _change(root: Path) -> str:
    """Commit a change of twenty files; the new commit."""
    tracked = subprocess.check_output(["git", "-C", str(root), "ls-files"], text=True)
    for name in tracked.splitlines()[:: max(1, tracked.count("\n") // 20)]:
        with (root / name).open("a") as file:
            file.write(f"changed {uuid4()}\n")
    _git(root, "commit", "-q", "-a", "-m", "change")
    return subprocess.check_output(["git", "-C", str(root), "rev-parse", "HEAD"], text=True).strip()


async def _raw(root: Path, into: Path) -> None:
    name = f"raw{uuid4().hex}"
    add = ["git", "-C", str(root), "worktree", "add", "-q", "-b", name, str(into / name)]
    process = await asyncio.create_subprocess_exec(*add, stderr=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise GitError("raw")


async def _ours(repository: Repo, home: Path, base: str) -> None:
    await create(repository, agent_id=str(uuid4()), task="bench", home=home, base=base)


async def _timed(what: Measured) -> float:
    begun = time.perf_counter()
    await what()
    return (time.perf_counter() - begun) * 1000


def _tell(name: str, ours: list[float], raw: list[float]) -> None:
    def quantiles(seen: list[float]) -> str:
        ordered = sorted(seen)
        return f"p50 {statistics.median(seen):7.1f}  p99 {ordered[-1 - len(ordered) // 100]:7.1f}"

    ratio = statistics.median(a / b for a, b in zip(ours, raw, strict=True))
    halves = statistics.median(ours) / statistics.median(raw)
    print(f"{name:34} bough {quantiles(ours)}  raw git {quantiles(raw)} ms ", end="")
    print(f" {ratio:5.2f} x (medians {halves:.2f})")


async def _compare(root: Path, rounds: int) -> None:
    repository = await open_repository(root)
    with tempfile.TemporaryDirectory(prefix="bough-worktrees-", dir=root.parent) as place:
        into, home = Path(place) / "raw", Path(place) / "home"
        into.mkdir()
        folder = location(home, repository.git_dir, str(uuid4()), "bench")[0].parent
        for name, spares in (("cold", 0), ("spare at this commit", 1), ("spare 20 files away", 1)):
            ours: list[float] = []
            raw: list[float] = []
            base = _change(root)
            for number in range(rounds):
                if spares:
                    await pool.fill(repository, folder, commit=base, size=spares)
                wanted = _change(root) if "away" in name else base
                os.sync()  # what was written before is not paid for by who comes next
                both = [
                    (raw, lambda: _raw(root, into)),
                    (ours, lambda wanted=wanted: _ours(repository, home, wanted)),
                ]
                for seen, what in both if number % 2 else reversed(both):
                    seen.append(await _timed(what))
                base = wanted
            _tell(f"{root.name}: {name}", ours, raw)


async def _many(root: Path) -> None:
    """Count what fails of CREATIONS, eight at a time: ours and raw."""
    repository = await open_repository(root)
    with tempfile.TemporaryDirectory(prefix="bough-worktrees-", dir=root.parent) as place:
        into, home = Path(place) / "raw", Path(place) / "home"
        into.mkdir()
        makers: dict[str, Measured] = {
            "bough": lambda: _ours(repository, home, "HEAD"),
            "raw git": lambda: _raw(root, into),
        }
        for name, make in makers.items():
            failed = 0
            left = CREATIONS

            async def worker(make: Measured = make) -> None:
                nonlocal failed, left
                while left > 0:
                    left -= 1
                    try:
                        await make()
                    except GitError:
                        failed += 1

            begun = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(8)))
            rate = CREATIONS / (time.perf_counter() - begun)
            print(f"{CREATIONS} creations, 8 at a time: {name:8} {failed} failed, {rate:.0f}/s")


async def main() -> None:
    """Print all of it."""
    place = Path(tempfile.mkdtemp(prefix="bough-worktrees-", dir="/tmp"))
    try:
        root = _clone(place)
        await _compare(root, rounds=40)
        await _many(root)
        await _compare(_generated(place), rounds=12)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
