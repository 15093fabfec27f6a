"""The gateway's HTTP face: four ways of asking models, each metered to the agent whose token asks.

A program needs no more than the address as its provider's base URL and its token as the API key.
Whatever goes wrong is said in the shape of the wire that was used; a defect of ours is logged, and
told without its text.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from bough.client.budget_rows import Spender
from bough.client.errors import AgentEnded, BoughError, StaleLease, TokenInvalid
from bough.client.loopback import foreign, hash_of
from bough.client.prices import warm
from bough.client.runner_calls import RunnerClient
from bough.gateway import chat, messages, responses, upstreams
from bough.gateway.asked import Wire, sendable
from bough.gateway.bound import Bounds
from bough.gateway.call import Call
from bough.gateway.ledger import Ledger, exhausted
from bough.gateway.program import Program, body_of, token_of
from bough.gateway.refusals import Answer, Refused, Shape, told
from bough.gateway.settings import Provider, Settings, Upstream

_log = logging.getLogger(__name__)
_WIRES: dict[str, Wire] = {
    "/v1/messages": messages.WIRE,
    "/v1/chat/completions": chat.WIRE,
    "/v1/responses": responses.WIRE,
}
_COUNTERS: dict[str, Wire] = {
    "/v1/messages/count_tokens": messages.WIRE,
    "/v1/responses/input_tokens": responses.WIRE,
}
_SETS: dict[Provider, str] = {
    "anthropic": "ANTHROPIC_API_KEY, or BOUGH_ANTHROPIC_URL",
    "openai": "OPENAI_API_KEY, or BOUGH_OPENAI_URL",
}
# A name that led elsewhere would be asked with the gateway's key.
_MODELS = re.compile(r"/v1/models(/(?!\.+(/|$))[\w.:@-]+){0,3}", re.ASCII)
_CLOSE_WITHIN_S = 5.0
Do = Callable[["Gateway", Request, Program], Awaitable[None]]


class Gateway:
    """Meters calls of agents; make one with `opened`."""

    def __init__(
        self, client: RunnerClient, ledger: Ledger, settings: Settings, http: httpx2.AsyncClient
    ) -> None:
        self.settings = settings
        self._client = client
        self._ledger = ledger
        self._http = http
        self._bounds = {
            provider: Bounds(settings.image_tokens[provider]) for provider in settings.upstreams
        }

    async def call(self, request: Request, program: Program) -> None:
        """One metered call. Raises Refused, BoughError."""
        wire = _WIRES[request.url.path]
        # Read first: who is refused while it still sends might never read why.
        body = await body_of(request)
        who, upstream = await self._admitted(request, wire.provider)
        asked = wire.read(body)
        call = Call(
            wire=wire,
            asked=asked,
            who=who,
            upstream=upstream,
            headers=request.headers,
            query=request.url.query,
            settings=self.settings,
            ledger=self._ledger,
            bounds=self._bounds[wire.provider],
            http=self._http,
        )
        await call.run(program)

    async def count(self, request: Request, program: Program) -> None:
        """The provider's count of a request, which costs nothing. Raises Refused, BoughError."""
        wire = _COUNTERS[request.url.path]
        body = await body_of(request)
        _, upstream = await self._admitted(request, wire.provider)
        asked = wire.read(body)
        await self._pass_on(
            program, "POST", upstream, wire.counter or "", request,
            sendable(wire.countable(asked.body)),
        )  # fmt: skip

    async def models(self, request: Request, program: Program) -> None:
        """The provider's list of models, or an empty one where it has none."""
        anthropic = "anthropic-version" in request.headers or "x-api-key" in request.headers
        provider: Provider = "anthropic" if anthropic else "openai"
        _, upstream = await self._admitted(request, provider)
        path = request.url.path if anthropic else request.url.path.removeprefix("/v1")
        await self._pass_on(program, "GET", upstream, path, request, None)

    async def _pass_on(
        self,
        program: Program,
        method: str,
        upstream: Upstream,
        path: str,
        request: Request,
        body: bytes | None,
    ) -> None:
        headers = upstreams.request_headers(upstream, request.headers)
        try:
            response = await self._http.request(
                method, upstream.url + path, content=body, headers=headers, timeout=60.0
            )
        except httpx2.HTTPError as error:
            raise Refused("unreachable", f"{upstream.url} cannot be reached") from error
        if response.status_code in (401, 407) or 300 <= response.status_code < 400:
            raise Refused("set_up", "the provider refuses the gateway's key or address")
        if method == "GET" and response.status_code == 404 and path.endswith("/models"):
            none = json.dumps({"object": "list", "data": [], "has_more": False}).encode()
            await program.answer(Answer(200, {"content-type": "application/json"}, none))
            return
        answer = upstreams.answer_headers(response, [])
        await program.answer(Answer(response.status_code, answer, response.content))

    async def _admitted(self, request: Request, provider: Provider) -> tuple[Spender, Upstream]:
        who = await self._client.spender(hash_of(token_of(request.headers)))
        upstream = self.settings.upstream(provider)
        if upstream is None:
            raise Refused(
                "set_up",
                f"the gateway has no {provider} to forward to; set {_SETS[provider]} where it runs",
            )
        return who, upstream

    async def status(self, request: Request, program: Program) -> None:
        """Which providers are served; needs no token and tells nothing else."""
        del request
        settings = self.settings
        body = json.dumps(
            {
                "gateway": "bough",
                "providers": sorted(settings.upstreams),
                "max_output_tokens": settings.max_output_tokens,
            }
        )
        await program.answer(Answer(200, {"content-type": "application/json"}, body.encode()))


def _route(method: str, path: str) -> Do | None:
    if method == "POST" and path in _WIRES:
        return Gateway.call
    if method == "POST" and path in _COUNTERS:
        return Gateway.count
    if method == "GET" and _MODELS.fullmatch(path):
        return Gateway.models
    return Gateway.status if method in ("GET", "HEAD") and path == "/" else None


def application(gateway: Gateway, port: int) -> ASGIApp:
    """The gateway as an ASGI application that is reached at this loopback port."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request, program = Request(scope, receive), Program(receive, send)
        shape = _shape(request.url.path)
        try:
            await _do(gateway, request, program, port)
        except Refused as refused:
            await program.answer(told(refused, shape))
        except BoughError as error:
            await program.answer(told(_as_refusal(error), shape))
        except Exception:  # noqa: BLE001 - logged, and told as a defect of ours
            _log.exception("gateway", extra={"event": "gateway.failed"})
            failed = Refused("defect", "the gateway failed to do this; see its log")
            await program.answer(told(failed, shape))

    return serve


async def _do(gateway: Gateway, request: Request, program: Program, port: int) -> None:
    why = foreign(request.headers, port)
    if why:
        raise Refused("foreign", why)
    do = _route(request.method, request.url.path)
    if do is None:
        served = ", ".join([*_WIRES, *_COUNTERS, "/v1/models"])
        raise Refused("nowhere", f"{request.method} {request.url.path} is not served; {served} are")
    await do(gateway, request, program)


def _shape(path: str) -> Shape:
    if path.startswith("/v1/messages"):
        return "messages"
    return "responses" if path.startswith("/v1/responses") else "chat"


def _as_refusal(error: BoughError) -> Refused:
    if isinstance(error, TokenInvalid):
        return Refused("token", str(error))
    if isinstance(error, AgentEnded | StaleLease):
        return exhausted(error)
    return Refused("away", str(error))


@asynccontextmanager
async def opened(client: RunnerClient, dsn: str, settings: Settings) -> AsyncGenerator[Gateway]:
    """A gateway that works while the block runs; what is still open then ends by its rule."""
    async with upstreams.opened() as http:
        ledger = Ledger(client, dsn, settings)
        # Reading the price list takes a second, which no call shall wait for.
        warming = asyncio.create_task(asyncio.to_thread(warm))
        try:
            yield Gateway(client, ledger, settings, http)
        finally:
            await ledger.close(_CLOSE_WITHIN_S)
            await warming
