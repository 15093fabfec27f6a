"""Opens the way to models for the programs of a runner: a gateway in its process, or one elsewhere.

The gateway has a port and a pool of connections of its own, so that neither a flood of calls nor
their size reaches the agent API or the runner's heart-beat.
"""

import ctypes
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2

from bough.client.database import open_client
from bough.client.errors import BadConfiguration, ServerUnavailable
from bough.gateway.application import application, opened
from bough.gateway.settings import Settings
from bough.runner.models import ModelDoor
from bough.runner.runner import Runner
from bough.surfaces.models_wanted import Elsewhere, Models
from bough.surfaces.serving import served

_POOLED = 8
_ASK_S = 5.0
_PR_SET_DUMPABLE = 4


@asynccontextmanager
async def open_models(runner: Runner, dsn: str, models: Models) -> AsyncGenerator[None]:
    """Let the programs of a runner ask models while the block runs.

    Raises ServerUnavailable when a gateway elsewhere does not answer.
    """
    if isinstance(models, Settings):
        async with serving(dsn, models) as url:
            providers = frozenset[str](models.upstreams)
            runner.models = ModelDoor(url, providers, models.max_output_tokens)
            yield
    else:
        runner.models = await _known(models) if models else None
        yield


@asynccontextmanager
async def serving(dsn: str, settings: Settings, *, port: int = 0) -> AsyncGenerator[str]:
    """A gateway that serves while the block runs; its address. Raises OSError for the port."""
    _hide_environment()
    async with (
        open_client(dsn, actor="gateway", pooled=_POOLED) as client,
        opened(client, dsn, settings) as gateway,
        served(lambda port: application(gateway, port), port=port) as url,
    ):
        yield url


async def _known(elsewhere: Elsewhere) -> ModelDoor:
    """What a gateway elsewhere serves."""
    url = elsewhere.url
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=_ASK_S) as http:
            found = (await http.get(url)).json()
        providers = frozenset[str](found["providers"])
    except httpx2.HTTPError as error:
        raise ServerUnavailable(
            f"no gateway answers at BOUGH_GATEWAY_URL, {url}; start one: bough serve"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfiguration(
            f"what answers at BOUGH_GATEWAY_URL, {url}, is no gateway; see bough serve"
        ) from error
    return ModelDoor(url, providers & {"anthropic", "openai"}, found.get("max_output_tokens"))


def _hide_environment() -> None:
    """Keep other processes of this user from reading the environment we were started with.

    Keys are taken out of it, but Linux goes on showing what a process was started with, to all
    that may trace it. Only root may trace a process that cannot be dumped.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
