"""A gateway in front of the scripted provider, and agents that ask it as ordinary programs do.

PYTEST_DONT_REWRITE: it is imported as a module as well as loaded as a plugin. The gateway runs in
the test's process on a real port, over a real pool to a real database. A program is an HTTP client
that knows its token and nothing of Bough.
"""

import hashlib
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2
import pytest
from conftest import Sessions, run_agent
from provider import KEY, Provider, provided

from bough.client.budget_rows import Account
from bough.client.runner_calls import RunnerClient
from bough.gateway.application import application, opened
from bough.gateway.settings import Settings, taken
from bough.surfaces.serving import served

PATHS = {
    "messages": "/v1/messages",
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
}
WIRES = tuple(PATHS)
STOPS = {"messages": 402, "chat": 403, "responses": 400}
AMPLE = 1_000_000


def body_for(
    wire: str, model: str = "m", *, text: str = "Hi", most: int | None = 100, **more: Any
) -> dict[str, Any]:
    """A small request."""
    message = {"role": "user", "content": text}
    found: dict[str, Any] = {"model": model}
    found |= {"input": [message]} if wire == "responses" else {"messages": [message]}
    field = {"messages": "max_tokens", "chat": "max_tokens", "responses": "max_output_tokens"}
    return found | ({} if most is None else {field[wire]: most}) | more


@dataclass
class Called:
    """What a program got for a call."""

    status: int
    headers: httpx2.Headers
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> Any:
        return self.body["error"]


@dataclass
class Row:
    """One call in the ledger."""

    status: str
    reserved: int
    used: int | None
    parts: tuple[int | None, ...]
    payer_id: UUID


class Agent:
    """A running agent's program."""

    def __init__(self, gate: "Gate", agent_id: UUID, token: str) -> None:
        self.gate, self.id, self.token = gate, agent_id, token

    async def asks(
        self,
        wire: str,
        model: str = "m",
        *,
        body: Any = None,
        path: str = "",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Called:
        """One call, read to its end."""
        given = body_for(wire, model, **more) if body is None else body
        key = "x-api-key" if wire == "messages" else "authorization"
        value = self.token if wire == "messages" else f"Bearer {self.token}"
        raw = given if isinstance(given, bytes) else json.dumps(given).encode()
        response = await self.gate.http.post(
            self.gate.url + (path or PATHS[wire]),
            content=raw,
            headers={key: value} | (headers or {}),
        )
        return Called(response.status_code, response.headers, response.content)

    @asynccontextmanager
    async def streams(self, wire: str, model: str, **more: Any) -> AsyncGenerator[httpx2.Response]:
        """A call whose answer is read by the block."""
        body = body_for(wire, model, stream=True, **more)
        key = {"authorization": f"Bearer {self.token}"}
        url = self.gate.url + PATHS[wire]
        async with self.gate.http.stream("POST", url, json=body, headers=key) as response:
            yield response

    async def rows(self) -> list[Row]:
        """This agent's calls, oldest first."""
        cur = await self.gate.look.execute(
            "select status, tokens_reserved, tokens_used, input_tokens, output_tokens,"
            " cache_read_tokens, cache_write_tokens, payer_id from bough.reservations"
            " where agent_id = %s order by created_at, id",
            (self.id,),
        )
        return [Row(r[0], r[1], r[2], r[3:7], r[7]) for r in await cur.fetchall()]

    async def account(self) -> Account:
        return await self.gate.client.account(self.id)


class Gate:
    """A gateway that serves, its provider, and whoever looks behind both."""

    def __init__(
        self, client: RunnerClient, provider: Provider, http: httpx2.AsyncClient, look: Any
    ) -> None:
        self.client, self.provider, self.http, self.look = client, provider, http, look
        self.url = ""

    async def agent(self, budget: int = AMPLE, *, parent: "Agent | None" = None) -> Agent:
        spawned = await run_agent(self.client, parent.id if parent else None, budget=budget)
        return await self.program_of(spawned.id)

    async def program_of(self, agent_id: UUID) -> Agent:
        token = secrets.token_urlsafe(32)
        hashed = hashlib.sha256(token.encode()).digest()
        await self.client.issue_token(agent_id, epoch=1, token_hash=hashed)
        return Agent(self, agent_id, token)

    async def is_sound(self) -> None:
        """Nothing that `bough db verify` knows is broken, and nothing is still open."""
        cur = await self.look.execute("select rule, agent_id, detail from bough_api.verify()")
        assert await cur.fetchall() == []
        cur = await self.look.execute(
            "select count(*) from bough.reservations where status = 'open'"
        )
        assert await cur.fetchone() == (0,)


def settings_for(url: str, **more: str) -> Settings:
    """Settings as an operator would give them."""
    addresses = {"BOUGH_ANTHROPIC_URL": url, "BOUGH_OPENAI_URL": f"{url}/v1"}
    keys = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    return taken(keys | addresses | more)


@asynccontextmanager
async def gated(
    sessions: Sessions, settings: Settings | None = None, **more: str
) -> AsyncGenerator[Gate]:
    """A gateway with such settings."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        client = await sessions.client(pooled=10)
        provider = await enter(provided())
        http = await enter(httpx2.AsyncClient(timeout=30, trust_env=False))
        look = await sessions.connection()
        await look.set_autocommit(True)
        gate = Gate(client, provider, http, look)
        chosen = settings or settings_for(provider.url, **more)
        gateway = await enter(opened(client, sessions.dsn, chosen))
        gate.url = await enter(served(lambda port: application(gateway, port)))
        yield gate


@pytest.fixture
async def gate(sessions: Sessions) -> AsyncIterator[Gate]:
    """A gateway with the usual settings."""
    async with gated(sessions) as made:
        yield made
