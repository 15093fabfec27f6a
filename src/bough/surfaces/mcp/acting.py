"""For whom a tool acts: a client, the agent it acts as, and a way to be woken.

Nothing here decides what is allowed: an agent's client asks the runner's door, a person's the
kernel. What is refused becomes the result of the tool, in our one line.
"""

import functools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec
from uuid import UUID

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent

from bough.client.errors import BoughError, InvalidInput
from bough.client.hints import Listen, listening
from bough.client.remote import RemoteClient
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner.llm.entry import cut
from bough.runner.workspaces.git import GitError

P = ParamSpec("P")
Call = Context[Any, Any]

LONGEST_WAIT_S = 45
"""Programs give up on a silent tool after a minute; who waits longer asks again."""
_SIGN_OF_LIFE_S = 5.0
_MOST_CHARS = 40_000


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts; me is None for a person."""

    client: RunnerClient
    me: UUID | None
    listen: Listen

    async def named(self, prefix: str) -> Agent:
        """The agent that an id, its first digits or an address means. Raises AgentNotFound."""
        return await self.client.show(await self.client.find(prefix))


Who = Callable[[Call], Awaitable[Acting]]


def as_agent(client: RemoteClient, me: UUID) -> Acting:
    """An agent's program, by its token."""
    return Acting(client, me, client.listening)


def as_operator(client: RunnerClient, dsn: str) -> Acting:
    """A person, whose editor or program asks."""
    return Acting(client, None, partial(listening, dsn))


def told(tool: Callable[P, Awaitable[str]]) -> Callable[P, Awaitable[CallToolResult]]:
    """A tool whose refusals are results that the model reads, and whose answers are bounded."""

    @functools.wraps(tool)
    async def call(*args: P.args, **kwargs: P.kwargs) -> CallToolResult:
        try:
            text, wrong = cut(await tool(*args, **kwargs), _MOST_CHARS), False
        except (BoughError, GitError) as error:
            text, wrong = str(error), True
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=wrong)

    return call


def answer(value: Any) -> str:
    """A value as the model reads it."""
    return json.dumps(value, default=str, ensure_ascii=False)


async def until(
    acting: Acting,
    ctx: Call,
    seconds: float,
    look: Callable[[], Awaitable[bool]],
    *channels: str,
) -> bool:
    """Look until it is so, for at most `seconds`, with a sign of life every five; whether it is."""
    if not 0 <= seconds <= LONGEST_WAIT_S:
        raise InvalidInput(f"a tool waits 0 to {LONGEST_WAIT_S} seconds; to wait longer call again")
    if seconds == 0:
        return await look()
    begun = time.monotonic()
    alive = begun
    async with acting.listen(*channels) as hints:
        while not await look():
            now = time.monotonic()
            if now - begun >= seconds:
                return False
            if now - alive >= _SIGN_OF_LIFE_S:
                alive = now
                await ctx.report_progress(now - begun, seconds, "still waiting")
            await hints.wait(min(_SIGN_OF_LIFE_S, begun + seconds - now))
    return True
