"""MCP at the runner's door: the tools of an agent over HTTP, by the agent's token.

A call does in this process what the same call at /v1/VERB would do: the same checks of token,
subtree and tools. Nothing is kept between requests. It is built at the first request and lives as
long as the door.
"""

import asyncio
import contextlib
import json
from typing import Any

from mcp.server.mcpserver import MCPServer
from starlette.types import Receive, Scope, Send

from bough.client import wire
from bough.client.errors import TokenInvalid
from bough.client.loopback import hash_of
from bough.client.remote import RemoteClient
from bough.surfaces.agent_api.calls import Calls
from bough.surfaces.mcp.acting import Acting, Call, as_agent
from bough.surfaces.mcp.server import build


class _NearClient(RemoteClient):
    """The client of a token, without the way over the network."""

    def __init__(self, calls: Calls, token: str) -> None:
        super().__init__("", token)
        self._calls = calls
        self._hash = hash_of(token)

    async def call(self, verb: str, values: dict[str, Any], *, timeout_s: float = 60.0) -> Any:
        """What the door answers. Raises BoughError."""
        del timeout_s
        sent = json.loads(json.dumps(wire.plain(values)))
        return json.loads(json.dumps(await self._calls.do(verb, self._hash, sent)))


class Door:
    """The application at /mcp."""

    def __init__(self, calls: Calls, port: int) -> None:
        self._calls = calls
        self._closing = asyncio.Event()
        self._open = asyncio.Event()
        self._server: MCPServer = build(self._who, agent=True)
        hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
        from mcp.server.transport_security import TransportSecuritySettings

        self._server.streamable_http_app(
            stateless_http=True,
            transport_security=TransportSecuritySettings(allowed_hosts=hosts),
        )
        self._living = asyncio.create_task(self._live(), name="mcp")

    async def _live(self) -> None:
        try:
            async with self._server.session_manager.run():
                self._open.set()
                await self._closing.wait()
        finally:
            # Whoever waits for a door that could not be opened is refused, not left waiting.
            self._open.set()

    async def _who(self, ctx: Call) -> Acting:
        scheme, _, token = (ctx.headers or {}).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise TokenInvalid("there is no token; send Authorization: Bearer $BOUGH_TOKEN")
        client = _NearClient(self._calls, token.strip())
        found = await client.call("whoami", {})
        return as_agent(client, wire.value_of(wire.hints(Acting)["me"], found["agent_id"], "me"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request whose token was checked."""
        await self._open.wait()
        await self._server.session_manager.handle_request(scope, receive, send)

    async def close(self) -> None:
        """End what is under way."""
        self._closing.set()
        with contextlib.suppress(Exception):
            await self._living
