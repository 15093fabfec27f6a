"""How long `bough ps` takes on a warm server, beside importing what it cannot do without."""

import asyncio
import os
import statistics
import subprocess
import sys
import time

from bench.server import database

RUNS = 15


def _wall(argv: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1000


async def main() -> None:
    """Print both, run in turn, and their ratio."""
    async with database() as dsn:
        env = dict(os.environ) | {"BOUGH_DATABASE_URL": dsn}
        floor = [sys.executable, "-c", "import click, psycopg"]
        pairs = [
            (_wall([sys.executable, "-m", "bough", "ps"], env), _wall(floor, env))
            for _ in range(RUNS + 1)
        ][1:]
    ratio = statistics.median(a / b for a, b in pairs)
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"bough ps                    {ours:6.0f} ms")
    print(f"python: click and psycopg   {theirs:6.0f} ms   bough ps is {ratio:.2f} x that")


if __name__ == "__main__":
    asyncio.run(main())
