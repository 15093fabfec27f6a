"""Random calls through a gateway that is killed; programs hang up, agents are ended.

`make gateway-torture CALLS=10000`. The scripted provider bills exactly, and misbehaves at random;
every call has a name of its own, by which its bill is compared with its row in the ledger. A call
must be charged what was billed, or more where its use could not be known. At the end the list of
both is printed, with the largest overspend, which must be 0.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
from provider import KEY, Provider, provided

from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.errors import AgentEnded
from bough.client.runner_calls import RunnerClient

CALLS = int(os.environ.get("CALLS", "10000"))
SEED = int(os.environ.get("SEED", "1"))
PROGRAMS = 12
KILLS = 8
CHILD_BUDGET = 40_000
PATHS = {
    "messages": "/v1/messages",
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
}
ORDERS = (
    *["out=20", "out=60&cache=4", "out=5", "out=200", "out=30&wrote=3"] * 4,
    *["status=429", "status=529", "status=500", "status=400", "usage=none", "usage=zero"],
    *["cut=0", "out=40&cut=11", "error=1", "hang=1", "out=40&delay_ms=3"],
)


@dataclass
class Scene:
    """What all programs of a run share."""

    client: RunnerClient
    runner: UUID
    root: UUID
    provider: Provider
    chance: random.Random
    url: str = ""
    left: int = 0
    seen: Counter[str] = field(default_factory=Counter[str])
    claiming: asyncio.Lock = field(default_factory=asyncio.Lock)


@asynccontextmanager
async def gateway(dsn: str, provider: Provider) -> AsyncGenerator[tuple[Any, str]]:
    """`bough serve` as a user starts it, and its address."""
    more = {
        "BOUGH_DATABASE_URL": dsn,
        "ANTHROPIC_API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
        "BOUGH_ANTHROPIC_URL": provider.url,
        "BOUGH_OPENAI_URL": f"{provider.url}/v1",
        "BOUGH_QUEUE_S": "2",
        "BOUGH_DRAIN_S": "1",
        "BOUGH_CALL_S": "5",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bough", "serve", "--port", "0", "--json"),
        env=os.environ | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    try:
        said = await process.stderr.readline()
        assert b"gateway for" in said, said + await process.stderr.read()
        found = b""
        while b"}" not in found:
            found += await process.stdout.readline()
        drained = asyncio.create_task(process.stderr.read())
        yield process, json.loads(found)["url"]
        drained.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def new_agent(scene: Scene, budget: int = CHILD_BUDGET) -> tuple[UUID, str]:
    """A running child of the root, and its token."""
    key = uuid4()
    await scene.client.spawn(
        Spawn(
            key=key,
            task="t",
            budget=budget,
            parent_id=scene.root,
            program={"argv": ["x"]},
            runner_id=scene.runner,
        )
    )
    async with scene.claiming:
        await scene.client.claim(scene.runner, slots=1000, root_id=scene.root)
    token = secrets.token_urlsafe(16)
    hashed = hashlib.sha256(token.encode()).digest()
    await scene.client.issue_token(key, epoch=1, token_hash=hashed)
    return key, token


async def program(scene: Scene, http: httpx2.AsyncClient) -> None:
    """Ask and ask, as one agent after the other."""
    agent, token = await new_agent(scene)
    while scene.left > 0:
        scene.left -= 1
        what = await one_call(scene, http, agent, token, scene.left)
        scene.seen[what] += 1
        ending = scene.chance.random() < 0.02
        if ending or what in ("refused 400", "refused 402", "refused 403"):
            with contextlib.suppress(AgentEnded):
                await scene.client.terminate(agent, reason="torture")
            agent, token = await new_agent(scene)


async def one_call(
    scene: Scene, http: httpx2.AsyncClient, agent: UUID, token: str, number: int
) -> str:
    """One call, which the program may give up; what became of it."""
    chance = scene.chance
    wire = chance.choice(list(PATHS))
    message = {"role": "user", "content": "x" * chance.randrange(1, 3_000)}
    body: dict[str, Any] = {
        "model": f"m{number}?{chance.choice(ORDERS)}",
        "stream": chance.random() < 0.7,
        ("input" if wire == "responses" else "messages"): [message],
        ("max_output_tokens" if wire == "responses" else "max_tokens"): chance.choice([100, 4_000]),
    }
    patience_s = chance.random() * 0.05 if chance.random() < 0.1 else 20
    headers = {"authorization": f"Bearer {token}"}
    asking = asyncio.create_task(http.post(scene.url + PATHS[wire], json=body, headers=headers))
    try:
        if chance.random() < 0.01:
            await asyncio.sleep(chance.random() * 0.02)
            with contextlib.suppress(AgentEnded):
                await scene.client.terminate(agent, reason="in mid-call")
        async with asyncio.timeout(patience_s):
            response = await asking
    except TimeoutError:
        return "program hung up"
    except httpx2.TransportError:
        return "cut"
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    ours = response.headers.get("x-should-retry") == "false"
    return f"{'refused' if ours else 'answered'} {response.status_code}"


async def run(dsn: str, calls: int, kills: int, seed: int) -> tuple[Scene, list[tuple[Any, ...]]]:
    """All calls; the scene after it and the rows of the ledger, nothing open."""
    chance = random.Random(seed)
    async with provided() as provider, open_client(dsn, actor="torture", pooled=6) as client:
        runner, root = uuid4(), uuid4()
        await client.enroll(
            runner, host="t", pid=1, process_start="1", boot_id="1", slots=99, lease_s=86_400
        )
        await client.spawn(Spawn(key=root, task="t", budget=10**10, program={"argv": ["x"]}))
        scene = Scene(client, runner, root, provider, chance, left=calls)
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:
            for kill in range(kills + 1):
                async with gateway(dsn, provider) as (process, scene.url):
                    stop = calls * (kills - kill) // (kills + 1)
                    await stretch(scene, http, stop, process.kill)
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await conn.execute(
                "update bough.reservations set expires_at = bough.now() where status = 'open'"
            )
            await client.expire()
            assert await (await conn.execute("select * from bough_api.verify()")).fetchall() == []
            cur = await conn.execute(
                "select model, status, tokens_reserved, tokens_used, agent_id <> payer_id"
                " from bough.reservations"
            )
            return scene, await cur.fetchall()


async def stretch(
    scene: Scene, http: httpx2.AsyncClient, stop: int, kill: Callable[[], None]
) -> None:
    """Let programs ask until so many calls are left, then kill the gateway in mid-call."""
    programs = [asyncio.create_task(program(scene, http)) for _ in range(PROGRAMS)]
    try:
        while scene.left > stop:
            await asyncio.sleep(0.01)
            for task in programs:
                if task.done():
                    task.result()
        if stop == 0:
            await asyncio.gather(*programs)
        else:
            kill()
    finally:
        for task in programs:
            task.cancel()
        await asyncio.gather(*programs, return_exceptions=True)


def judged(scene: Scene, rows: list[tuple[Any, ...]]) -> tuple[Counter[str], int]:
    """How the calls were charged against their bills, and the largest overspend."""
    bills = {bill.model: bill.tokens for bill in scene.provider.bills}
    assert len(bills) == len(scene.provider.bills)
    counts: Counter[str] = Counter()
    worst = 0
    for model, status, reserved, used, _ in rows:
        billed, charged = bills.pop(model, 0), used or 0
        worst = max(worst, billed - charged)
        if billed > charged:
            counts[f"BELOW THE BILL: {status} {model}"] += 1
        elif billed == charged:
            counts[f"exactly as billed ({status})"] += 1
        else:
            assert charged == reserved, (model, status, billed, charged)
            counts[f"in full, more than billed ({status})"] += 1
    for model, tokens in bills.items():
        counts[f"BILLED, IN NO LEDGER: {model}"] += 1
        worst = max(worst, tokens)
    return counts, worst


async def main() -> int:
    """Run it; 0 when nothing was spent that the ledger does not hold."""
    begun = time.monotonic()
    async with database() as dsn:
        scene, rows = await run(dsn, CALLS, KILLS, SEED)
    counts, worst = judged(scene, rows)
    seconds = time.monotonic() - begun
    print(f"{CALLS:,} calls, {PROGRAMS} at once, gateway killed {KILLS} times, {seconds:.0f} s")
    for what, number in scene.seen.most_common():
        print(f"  {number:>7,}  programs: {what}")
    for what, number in counts.most_common():
        print(f"  {number:>7,}  ledger: {what}")
    moved = sum(1 for row in rows if row[4])
    billed, charged = scene.provider.billed, sum(row[3] or 0 for row in rows)
    print(f"  {moved:>7,}  paid by the parent of an agent that had ended")
    print(f"billed {billed:,}, charged {charged:,}; largest overspend of a call: {worst}")
    return int(worst > 0 or any(what.startswith("B") for what in counts))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
