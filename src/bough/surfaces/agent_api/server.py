"""Opens the door for programs inside agents: an HTTP server on a loopback port of its own.

It lives as long as the block that opens it; a request that is under way when it closes is cut.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bough.client.errors import BoughError, InvalidInput
from bough.client.loopback import hash_of
from bough.runner.runner import Runner
from bough.surfaces.agent_api import guard
from bough.surfaces.agent_api.calls import Calls
from bough.surfaces.serving import served

if TYPE_CHECKING:
    from bough.surfaces.mcp.door import Door

_log = logging.getLogger(__name__)


class _Tools:
    """The tools at /mcp, made when somebody first asks: the SDK takes seconds to import."""

    def __init__(self, calls: Calls, port: int) -> None:
        self._calls = calls
        self._port = port
        self._making = asyncio.Lock()
        self._door: Door | None = None

    async def application(self) -> "Door":
        """What answers requests to /mcp."""
        async with self._making:
            if self._door is None:
                await asyncio.to_thread(import_module, "bough.surfaces.mcp.door")
                from bough.surfaces.mcp.door import Door

                self._door = Door(self._calls, self._port)
            return self._door

    async def close(self) -> None:
        """End what is under way."""
        if self._door:
            await self._door.close()


def _application(calls: Calls, port: int, mcp: _Tools) -> Starlette:
    async def answer(request: Request) -> Response:
        try:
            guard.check_origin(request, port)
            token = guard.token_of(request)
            values = await guard.body_of(request)
            verb = request.path_params["verb"]
            result = await calls.do(verb, hash_of(token), values)
        except BoughError as error:
            return guard.refusal(error)
        except Exception:  # noqa: BLE001 - logged, and told as a defect of ours
            # Never the text of an error of ours: it might hold what an agent must not see.
            _log.exception("agent API", extra={"event": "agent_api.failed"})
            return guard.refusal(BoughError("the runner failed to do this; see its log"))
        return JSONResponse({"result": result})

    async def tools(request: Request) -> ASGIApp:
        try:
            guard.check_origin(request, port)
            await calls.whose(hash_of(guard.token_of(request)))
        except BoughError as error:
            return guard.refusal(error)
        return await mcp.application()

    async def nowhere(request: Request, error: Exception) -> Response:
        del request, error
        return guard.refusal(InvalidInput("calls are POST /v1/VERB with a JSON object"))

    return Starlette(
        routes=[
            Route("/v1/{verb}", answer, methods=["POST"]),
            Route("/mcp", tools, methods=["GET", "POST", "DELETE"]),
        ],
        exception_handlers={404: nowhere, 405: nowhere},
    )


@asynccontextmanager
async def open_door(runner: Runner, dsn: str) -> AsyncGenerator[str]:
    """Serve the agents of a runner while the block runs; the URL, which the runner gets too."""
    calls = Calls(runner, dsn)
    opened: list[_Tools] = []

    def make(port: int) -> Starlette:
        opened.append(_Tools(calls, port))
        return _application(calls, port, opened[0])

    async with served(make) as url:
        runner.url = url
        try:
            yield url
        finally:
            await opened[0].close()
