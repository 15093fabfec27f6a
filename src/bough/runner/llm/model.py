"""Asks the model, by pydantic-ai, through the gateway or with a key of the program's own.

A library's own retries are off: each attempt is paid by itself, so this decides which are worth
it. What the budget refuses is Refused, whoever refused it; whatever else will not get better is
Failed. SDKs are imported here, one of them, when the first call is made.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import httpx2
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import AgentRunError, ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model as Adapter
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from bough.client.bound import REFUSAL
from bough.client.remote import RemoteClient
from bough.client.rows import Json
from bough.runner.llm.messages import answer_of, messages_of
from bough.runner.llm.metering import CALL_S, Metering
from bough.runner.llm.start import PROVIDERS, parted
from bough.runner.llm.tool import Tool

_MOST_OUTPUT = 16_000
_WAITS_S = (1.0, 4.0, 15.0, 45.0, 90.0)
_MAY_PASS = frozenset([408, 409, 425, 429, 500, 502, 503, 504, 529])
_MOST_CHARGED = 2
"""So often a call that broke off is made again, for each attempt is paid."""
_CHARGED = "charged in full"
_GATEWAY_S = 150
_OFFICIAL = ("api.anthropic.com", "api.openai.com")


class Refused(Exception):
    """The budget does not allow another call."""


class Failed(Exception):
    """The model gives no answer, and will give none."""


class Model:
    """One model, with the tools that it may call."""

    def __init__(
        self,
        client: RemoteClient,
        agent_id: UUID,
        *,
        model: str,
        env: Mapping[str, str],
        tools: Sequence[Tool],
    ) -> None:
        provider, self._name = parted(model)
        way = PROVIDERS[provider]
        key, url = env[way.key], env.get(way.address) or None
        self._charged = False
        self._metering: Metering | None = None
        if key != env["BOUGH_TOKEN"]:
            host = httpx2.URL(url).host if url else _OFFICIAL[0]
            self._metering = Metering(
                client,
                agent_id,
                provider=way.name,
                official=host in _OFFICIAL,
                model=self._name,
            )
        self._adapter = _adapter(provider, self._name, key, url, self._metering)
        definitions = [
            ToolDefinition(
                name=t.name,
                description=t.text,
                parameters_json_schema=t.schema(),
                # Strict schemas know no argument that may be left out.
                strict=False,
            )
            for t in tools
        ]
        self._parameters = ModelRequestParameters(function_tools=definitions)

    async def ask(self, entries: list[Json]) -> Json:
        """The answer to a conversation, as an entry. Raises Refused, Failed."""
        charged = 0
        for wait_s in (*_WAITS_S, None):
            try:
                return answer_of(await self._once(entries))
            except ModelAPIError as error:
                refused = _not_paid(error)
                if refused:
                    raise Refused(refused) from error
                charged += self._charged or _CHARGED in _said(error)
                if wait_s is None or not _may_pass(error) or charged > _MOST_CHARGED:
                    raise Failed(_said(error)) from error
                wait_s = max(wait_s, _asked_to_wait_s(error))
                print(f"! {_said(error)}; asked again in {wait_s:g} s")  # noqa: T201
                await asyncio.sleep(wait_s)
            except AgentRunError as error:
                raise Failed(_said(error)) from error
        raise AssertionError

    async def _once(self, entries: list[Json]) -> ModelResponse:
        metering = self._metering
        settings = ModelSettings(
            max_tokens=_MOST_OUTPUT,
            # The gateway has a limit of its own, and says what became of the call.
            timeout=CALL_S if metering else CALL_S + _GATEWAY_S,
            max_retries=0,
            cache=True,
        )
        self._charged = False
        try:
            response = await model_request(
                self._adapter,
                messages_of(entries),
                model_settings=settings,
                model_request_parameters=self._parameters,
            )
        except BaseException:
            if metering:
                self._charged = await metering.lost()
            raise
        if metering:
            await metering.settle(response.usage)
        return response


def _adapter(
    provider: str, name: str, key: str, url: str | None, metering: Metering | None
) -> Adapter:
    """What speaks the provider's wire."""
    http = httpx2.AsyncClient(transport=metering, timeout=CALL_S) if metering else None
    if provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        # A token of another kind in the environment would be sent beside the key.
        os.environ.pop("ANTHROPIC_AUTH_TOKEN", None)
        asks = AsyncAnthropic(api_key=key, base_url=url, max_retries=0, http_client=http)
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=asks))
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    speaks = AsyncOpenAI(api_key=key, base_url=url, max_retries=0, http_client=http)
    wire = OpenAIResponsesModel if provider == "openai-responses" else OpenAIChatModel
    return wire(name, provider=OpenAIProvider(openai_client=speaks))


def _not_paid(error: ModelAPIError) -> str | None:
    """Why the budget refuses the call, by metering or by the gateway; None when it does not."""
    if not isinstance(error, ModelHTTPError) or error.status_code not in (400, 402, 403):
        return None
    told = str(_inner(error).get("message") or "")
    return told if told.startswith(REFUSAL) else None


def _inner(error: ModelHTTPError) -> Json:
    """The error object of an answer, however deep it lies."""
    body: object = error.body
    if isinstance(body, dict):
        found = cast("Json", body)
        deeper: Any = found.get("error")
        return cast("Json", deeper) if isinstance(deeper, dict) else found
    return {}


def _may_pass(error: ModelAPIError) -> bool:
    if not isinstance(error, ModelHTTPError):
        return True
    headers = error.headers or {}
    return headers.get("x-should-retry") != "false" and error.status_code in _MAY_PASS


def _asked_to_wait_s(error: ModelAPIError) -> float:
    headers = (error.headers if isinstance(error, ModelHTTPError) else None) or {}
    try:
        return min(float(headers.get("retry-after", "0")), _WAITS_S[-1])
    except ValueError:
        return 0.0


def _said(error: AgentRunError) -> str:
    if isinstance(error, ModelHTTPError):
        told = _inner(error).get("message") or error
        return f"the model answers {error.status_code}: {' '.join(str(told).split())[:500]}"
    return f"the model cannot be asked: {' '.join(str(error).split())[:500]}"
