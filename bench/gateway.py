"""What the gateway adds to a call, beside LiteLLM's proxy, on one scripted provider in one run.

Streams of 20 pieces 25 ms apart, requests of 40 kB, Chat Completions, 1, 10 and 50 at once. Each
round goes directly, through the gateway (token checked, reserved, settled, priced in PostgreSQL)
and through the proxy (its key only: no budgets, no database), in turn. Added is a call's time less
the median of the direct ones. `make bench-gateway` installs the proxy below .tools.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
from provider import KEY, Provider

from bench.gateway_torture import Scene, gateway, new_agent
from bench.server import database
from bough.client.client import Spawn
from bough.client.database import open_client

ROOT = Path(__file__).parent.parent
PROXY = ROOT / ".tools" / "litellm" / "bin" / "litellm"
MODEL = "m?out=20&delay_ms=25"
CALLS = {1: 15, 10: 60, 50: 150}
ROUNDS = 2


@asynccontextmanager
async def started(argv: list[str], env: dict[str, str], url: str) -> AsyncGenerator[int]:
    """A server, once it answers; its pid."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=os.environ | env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(trust_env=False) as http, asyncio.timeout(120):
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    await http.get(url)
                    break
                await asyncio.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def proxied(provider: Provider) -> AsyncGenerator[tuple[int, str] | None]:
    """LiteLLM's proxy in front of the provider; None when it is not installed."""
    if not PROXY.exists():
        yield None
        return
    port = free_port()
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"{provider.url}/v1",
                    "api_key": KEY,
                },
            }
        ],
        "general_settings": {"master_key": "sk-proxy"},
        "litellm_settings": {"telemetry": False},
    }
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "config.json"
        path.write_text(json.dumps(config))
        argv = [str(PROXY), "--config", str(path), "--port", str(port), "--host", "127.0.0.1"]
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        url = f"http://127.0.0.1:{port}"
        async with started(argv, env, f"{url}/health/liveliness") as pid:
            yield pid, url


async def timed(
    http: httpx2.AsyncClient, url: str, key: str, calls: int, at_once: int
) -> list[float]:
    """Milliseconds of each of so many calls."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "word " * 8_000}],
        "stream": True,
        "max_tokens": 100,
    }
    raw = json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    took: list[float] = []
    left = calls

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            response = await http.post(url, content=raw, headers=headers)
            assert response.status_code == 200, response.text
            took.append((time.perf_counter() - begun) * 1000)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return took


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main() -> None:
    """Print what each adds, and what it costs."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port = free_port()
        provider = Provider(url=f"http://127.0.0.1:{port}")
        env = {"PYTHONPATH": str(ROOT / "tests")}
        argv = [sys.executable, "-m", "provider", str(port)]
        await enter(started(argv, env, f"{provider.url}/bills"))
        dsn = await enter(database())
        client = await enter(open_client(dsn, actor="bench", pooled=2))
        runner, root = uuid4(), uuid4()
        await client.enroll(
            runner, host="b", pid=1, process_start="1", boot_id="1", slots=99, lease_s=86_400
        )
        await client.spawn(Spawn(key=root, task="t", budget=10**12, program={"argv": ["x"]}))
        scene = Scene(client, runner, root, provider, random.Random(1))
        _, token = await new_agent(scene, 10**11)
        process, url = await enter(gateway(dsn, provider))
        proxy = await enter(proxied(provider))
        http = await enter(httpx2.AsyncClient(timeout=120, trust_env=False, limits=httpx2.Limits()))
        ways = {
            "directly": (0, f"{provider.url}/v1", KEY),
            "bough": (process.pid, f"{url}/v1", token),
        }
        if proxy:
            ways["litellm"] = (proxy[0], f"{proxy[1]}/v1", "sk-proxy")
        else:
            print("LiteLLM's proxy is not installed: make bench-gateway")
        for at_once, calls in CALLS.items():
            await _compare(http, ways, at_once, calls)


async def _compare(
    http: httpx2.AsyncClient, ways: dict[str, tuple[int, str, str]], at_once: int, calls: int
) -> None:
    took: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, float] = dict.fromkeys(ways, 0.0)
    for _, url, key in ways.values():
        await timed(http, f"{url}/chat/completions", key, at_once, at_once)
    for _ in range(ROUNDS):
        for name, (pid, url, key) in ways.items():
            before = cpu_s(pid) if pid else 0.0
            took[name] += await timed(http, f"{url}/chat/completions", key, calls, at_once)
            used[name] += (cpu_s(pid) - before) if pid else 0.0
    floor = statistics.median(took["directly"])
    added: dict[str, Any] = {}
    for name, (pid, _, _) in ways.items():
        ordered = sorted(t - floor for t in took[name])
        added[name] = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        p50, p99 = added[name]
        if pid:
            each = used[name] / (calls * ROUNDS) * 1000
            print(
                f"{at_once:>3} at once  {name:<8} adds p50 {p50:7.1f} ms  p99 {p99:7.1f} ms"
                f"   {each:5.1f} ms of processor a call, {memory(pid):.0f} MiB",
                flush=True,
            )
        else:
            print(f"{at_once:>3} at once  {name:<8} takes p50 {floor:6.1f} ms  p99 +{p99:6.1f} ms")
    if "litellm" in added:
        ratio = added["bough"][0] / added["litellm"][0]
        print(f"             bough adds {ratio:.2f} of what LiteLLM's proxy adds", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
