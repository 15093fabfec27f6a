"""The queues that are measured beside each other: our mailboxes here, the peers in `peers.py`.

Each has numbered boxes, made before anything is measured, and eight tasks with a connection each.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from uuid import UUID, uuid4

from bough.client.client import Spawn
from bough.client.database import open_client
from bough.client.runner_calls import RunnerClient

TASKS = 8
PAYLOAD = {"text": "what the other agent should know", "number": 7}


class Queue(Protocol):
    """What is measured."""

    @property
    def name(self) -> str:
        """For the table."""
        ...

    async def send(self, task: int, box: int, count: int) -> None:
        """Put `count` messages into a box, in one call."""
        ...

    async def take(self, task: int, box: int, most: int) -> int:
        """Receive at most `most` messages and acknowledge them; how many."""
        ...

    async def clear(self) -> None:
        """Remove all that is left."""
        ...


class Mailboxes:
    """Ours: a box is an agent that runs."""

    name = "bough"

    def __init__(self, clients: list[RunnerClient], agents: list[UUID]) -> None:
        self._clients = clients
        self.agents = agents

    async def send(self, task: int, box: int, count: int) -> None:
        to = self.agents[box]
        if count == 1:
            await self._clients[task].send(
                uuid4(), sender_id=None, recipient_id=to, payload=PAYLOAD
            )
        else:
            await self._clients[task].send_many(
                sender_id=None, recipient_id=to, payloads=[PAYLOAD] * count
            )

    async def take(self, task: int, box: int, most: int) -> int:
        got = await self._clients[task].receive(self.agents[box], epoch=1, most=most)
        if got:
            await self._clients[task].acknowledge(
                self.agents[box], epoch=1, message_ids=[m.id for m in got]
            )
        return len(got)

    async def clear(self) -> None:
        for box in range(len(self.agents)):
            while await self.take(0, box, 1000):
                pass


@asynccontextmanager
async def mailboxes(dsn: str, boxes: int) -> AsyncGenerator[Mailboxes]:
    """Agents of one runner, and a client with a connection of its own for each task."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(dsn, actor="bench")) for _ in range(TASKS)
        ]
        runner = uuid4()
        await clients[0].enroll(
            runner,
            host="bench",
            pid=1,
            process_start="1",
            boot_id="1",
            slots=boxes,
            lease_s=86_400,
        )
        for _ in range(boxes):
            await clients[0].spawn(Spawn(key=uuid4(), task="bench", budget=1, program={}))
        claimed = await clients[0].claim(runner, slots=boxes)
        yield Mailboxes(clients, [agent.id for agent in claimed])
