"""The client of a program inside an agent: the same methods, asked of the runner over loopback.

It holds no connection to the database. What an agent may not do is refused by the runner, with the
same errors as elsewhere. Raises ServerUnavailable when the runner does not answer.
"""

import asyncio
import functools
import http.client
import inspect
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Never
from urllib.parse import urlsplit
from uuid import UUID

from bough.client import wire
from bough.client.errors import NotYours, ServerUnavailable, from_code
from bough.client.runner_calls import RunnerClient

HINT_S = 20.0
"""How long one request for a hint may take; who waits longer asks again."""

ALLOWED = frozenset(
    """
    account acknowledge append_conversation approvals broadcast charge conversation files find
    finish freeze_budget grant_budget inbox ledger logs merge_queue merges pause plan_merges ps
    queue_merge receive record_merge record_step release report request_approval reserve
    resolve_merge resume send settle show spawn statistics steps subtree_work terminate
    transfer_budget tree unfreeze_budget withdraw_merge
    """.split()  # noqa: SIM905 - a list of quoted words would be read by nobody
)
"""What an agent may call; the runner fills in who it is, and its lease."""


def acting_agent() -> UUID | None:
    """The agent that this program runs in, by its environment; None outside of one."""
    if not os.environ.get("BOUGH_TOKEN") or not os.environ.get("BOUGH_URL"):
        return None
    try:
        return UUID(os.environ.get("BOUGH_AGENT_ID", ""))
    except ValueError:
        return None


class RemoteClient(RunnerClient):
    """Calls the runner's agent API with the token of this program."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(_no_database)
        self._where = urlsplit(url)
        self._token = token

    async def call(self, verb: str, values: dict[str, Any], *, timeout_s: float = 60.0) -> Any:
        """One request; what it answered. Raises the error that the runner named."""
        return await asyncio.to_thread(self._ask, verb, values, timeout_s)

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncGenerator["RemoteHints"]:
        """Hints while the block runs, in place of a connection's: whatever the channels are called,
        they are of this agent's tree and mailbox."""
        del channels
        yield RemoteHints(self)

    def _ask(self, verb: str, values: dict[str, Any], timeout_s: float) -> object:
        connection = http.client.HTTPConnection(
            self._where.hostname or "127.0.0.1", self._where.port, timeout=timeout_s
        )
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        body = json.dumps(wire.plain(values))
        try:
            connection.request("POST", f"/v1/{verb}", body, headers)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerUnavailable(f"the runner does not answer ({error})") from error
        finally:
            connection.close()
        if "error" in answer:
            raise from_code(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]


def _no_database() -> Never:
    raise NotYours("a program inside an agent cannot do this; ask the operator")


def _forward(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    async def call(self: RemoteClient, *args: Any, **kwargs: Any) -> Any:
        values = dict(signature.bind(self, *args, **kwargs).arguments)
        del values["self"]
        found = await self.call(method.__name__, values)
        return wire.value_of(wire.hints(method)["return"], found, "the answer")

    return call


for _name in ALLOWED:
    setattr(RemoteClient, _name, _forward(getattr(RunnerClient, _name)))


class RemoteHints:
    """Hints for a program inside an agent: of its tree and its mailbox."""

    def __init__(self, client: RemoteClient) -> None:
        self._client = client
        self._seen: str | None = None

    async def wait(self, timeout_s: float) -> str | None:
        """Return when something happened in the tree or in the mailbox, or when time is up.

        The first time it returns at once: who asks then knows where to go on from.
        """
        seconds, seen = min(timeout_s, HINT_S), self._seen
        values = {"seconds": seconds, "seen": seen}
        self._seen = await self._client.call("hint", values, timeout_s=seconds + 30)
        return "hint" if self._seen != seen else None
