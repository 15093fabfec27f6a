"""Opens the door for programs inside agents: an HTTP server on a loopback port of its own.

It lives as long as the block that opens it; a request that is under way when it closes is cut.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bough.client.errors import BoughError, InvalidInput
from bough.client.loopback import hash_of
from bough.runner.runner import Runner
from bough.surfaces.agent_api import guard
from bough.surfaces.agent_api.calls import Calls
from bough.surfaces.serving import served

_log = logging.getLogger(__name__)


def _application(calls: Calls, port: int) -> Starlette:
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

    async def nowhere(request: Request, error: Exception) -> Response:
        del request, error
        return guard.refusal(InvalidInput("calls are POST /v1/VERB with a JSON object"))

    return Starlette(
        routes=[Route("/v1/{verb}", answer, methods=["POST"])],
        exception_handlers={404: nowhere, 405: nowhere},
    )


@asynccontextmanager
async def open_door(runner: Runner, dsn: str) -> AsyncGenerator[str]:
    """Serve the agents of a runner while the block runs; the URL, which the runner gets too."""
    calls = Calls(runner, dsn)
    async with served(lambda port: _application(calls, port)) as url:
        runner.url = url
        yield url
