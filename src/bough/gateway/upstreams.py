"""The providers: requests to them with the gateway's key, and what of their answers is passed on.

Of a program's headers only those go on that change no bill; its key never does. Redirections are
not followed: they would carry the key elsewhere. Raises what httpx2 raises.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import httpx2

from bough import __version__
from bough.gateway.messages import BETAS
from bough.gateway.settings import Upstream

CONNECT_S = 10.0
_PASSED_ON = frozenset(
    """
    cache-control content-type request-id retry-after retry-after-ms x-request-id x-should-retry
    """.split()  # noqa: SIM905 - a list of quoted words would be read by nobody
)
_PASSED_ON_BEGINNINGS = ("anthropic-ratelimit-", "x-ratelimit-")
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Errors before anything reached the provider."""


@asynccontextmanager
async def opened() -> AsyncGenerator[httpx2.AsyncClient]:
    """A client for all calls of a gateway; how long a call may take is the call's affair."""
    direct: dict[str, None] = {
        "all://127.0.0.1": None,
        "all://localhost": None,
        "all://[::1]": None,
    }
    async with httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=CONNECT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        mounts=direct,
        follow_redirects=False,
    ) as client:
        yield client


def request_headers(upstream: Upstream, given: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request to a provider."""
    headers = {
        "content-type": "application/json",
        "accept": given.get("accept", "*/*"),
        # Events must be readable as they pass, and reach the program as they came.
        "accept-encoding": "identity",
        "user-agent": given.get("user-agent", f"bough/{__version__}"),
    }
    if upstream.provider == "anthropic":
        headers["anthropic-version"] = given.get("anthropic-version", "2023-06-01")
        betas = [b.strip() for b in given.get("anthropic-beta", "").split(",")]
        known = [b for b in betas if b.startswith(BETAS)]
        if known:
            headers["anthropic-beta"] = ",".join(known)
    return headers | upstream.headers


def answer_headers(response: httpx2.Response, dropped: list[str]) -> dict[str, str]:
    """The headers of the answer to a program."""
    headers = {
        name: value
        for name, value in response.headers.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_BEGINNINGS)
    }
    if dropped:
        names = "".join(c for c in ",".join(dict.fromkeys(dropped)) if c.isprintable())
        headers["x-bough-left-out"] = names.encode("ascii", "replace").decode()[:500]
    return headers
