"""Much mail at once: many senders, many messages, everything at the same time; order and count."""

import asyncio
import random
from collections import Counter, defaultdict
from typing import Any
from uuid import UUID, uuid4

import psycopg
from conftest import Kernel, Sessions, enroll_runner, run_agent, spawn_agent
from locks import assert_sound, outcome
from parking import LONG_S, start

from bough.client.errors import (
    AgentEnded,
    ApprovalDecided,
    BoughError,
    IllegalTransition,
    MailboxFull,
    StaleLease,
)
from bough.client.mail_rows import Message

SENDERS, EACH, MANY = 50, 20, 100_000
SESSIONS, OPERATIONS, AGENTS = 8, 3_000, 12
EXPECTED = (AgentEnded, ApprovalDecided, IllegalTransition, StaleLease)


async def test_fifty_senders_at_once_and_each_is_heard_in_its_own_order(
    sessions: Sessions,
) -> None:
    client = await sessions.client(pooled=SENDERS)
    root = await spawn_agent(client)
    senders = [(await spawn_agent(client, root.id, budget=1)).id for _ in range(SENDERS)]
    recipients = [await run_agent(client), await run_agent(client)]

    async def speak(sender: UUID) -> None:
        for n in range(EACH):
            for agent in recipients:
                await client.send(
                    uuid4(), sender_id=sender, recipient_id=agent.id, payload={"n": n}
                )

    async with asyncio.TaskGroup() as group:
        for sender in senders:
            group.create_task(speak(sender))
    for agent in recipients:
        got = await client.receive(agent.id, epoch=1, most=1000)
        assert [m.seq for m in got] == list(range(1, SENDERS * EACH + 1))
        heard: defaultdict[UUID | None, list[int]] = defaultdict(list)
        for message in got:
            heard[message.sender_id].append(message.payload["n"])
        assert heard == {sender: list(range(EACH)) for sender in senders}


async def test_a_hundred_thousand_messages_through_one_mailbox_arrive_once_and_in_order(
    sessions: Sessions,
) -> None:
    """Its bound holds the sender up, who goes on when the receiver has read some."""
    sender, receiver = await sessions.client(), await sessions.client()
    agent = await run_agent(sender)
    read, full = asyncio.Event(), asyncio.Event()

    async def send() -> None:
        n = 0
        while n < MANY:
            read.clear()
            payloads = [{"n": i} for i in range(n, n + 1000)]
            try:
                await sender.send_many(sender_id=None, recipient_id=agent.id, payloads=payloads)
                n += 1000
            except MailboxFull:
                full.set()
                await read.wait()

    async def receive() -> None:
        n = 0
        await full.wait()
        while n < MANY:
            got = await receiver.receive(agent.id, epoch=1, most=1000)
            assert [m.payload["n"] for m in got] == list(range(n, n + len(got)))
            n += len(got)
            await receiver.acknowledge(agent.id, epoch=1, message_ids=[m.id for m in got])
            read.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        group.create_task(receive())
    assert await receiver.receive(agent.id, epoch=1) == []
    assert await receiver.inbox(agent.id) == []
    kernel = Kernel(await sessions.connection())
    count = "select count(*) from bough.messages where recipient_id = %s"
    assert await kernel.value(count, agent.id) == MANY


class Storm:
    """A tree whose agents write, read, wait, ask and end; `said` and `heard` are its mail."""

    def __init__(self, root: UUID, runner: UUID) -> None:
        self.root, self.runner = root, runner
        self.epochs: dict[UUID, int] = {}
        self.left = OPERATIONS
        self.seen: Counter[str] = Counter()
        self.said: Counter[UUID] = Counter()
        self.heard: defaultdict[UUID, dict[UUID, Message]] = defaultdict(dict)
        self.reading: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def spawn(self, kernel: Kernel) -> None:
        await spawn_agent(kernel, self.root, budget=10, runner_id=self.runner)
        await self.claim(kernel)

    async def claim(self, kernel: Kernel) -> None:
        for claimed in await kernel.claim(self.runner, slots=4, root_id=self.root):
            self.epochs[claimed.id] = claimed.lease_epoch

    async def read(self, kernel: Kernel, agent: UUID, rng: random.Random) -> None:
        async with self.reading[agent]:
            epoch = self.epochs.get(agent, 0)
            got = await kernel.receive(agent, epoch=epoch, most=rng.randint(1, 20))
            self.heard[agent].update((m.id, m) for m in got if m.id not in self.heard[agent])
            done = [m.id for m in got if rng.random() < 0.8]
            await kernel.acknowledge(agent, epoch=epoch, message_ids=done)

    async def write(self, kernel: Kernel, agent: UUID, session: int, rng: random.Random) -> None:
        payload = {"by": session, "n": self.left}
        lane = rng.choice(["critical", "high", "normal", "low"])
        if rng.random() < 0.2:
            sent = await kernel.broadcast(
                sender_id=None, ancestor_id=self.root, payload=payload, priority=lane
            )
            self.said.update(d.recipient_id for d in sent)
            return
        within = rng.choice([None, None, 1])
        await kernel.send(
            uuid4(),
            sender_id=rng.choice(list(self.epochs)),
            recipient_id=agent,
            payload=payload,
            priority=lane,
            reply_within_s=within,
        )
        self.said[agent] += 1

    async def ask(self, kernel: Kernel, agent: UUID) -> None:
        for approval in await kernel.approvals():
            await kernel.decide(approval.id, approve=True, answer=None)
            return
        await kernel.request_approval(
            uuid4(), agent, epoch=self.epochs.get(agent, 0), question="?", expires_s=1
        )

    async def act(self, kernel: Kernel, session: int, rng: random.Random) -> str:
        """One random call; its name."""
        act = rng.choices(
            ["write", "read", "park", "claim", "beat", "ask", "terminate"], [8, 6, 5, 3, 2, 3, 1]
        )[0]
        agent = rng.choice(list(self.epochs))
        if act == "write":
            await self.write(kernel, agent, session, rng)
        elif act == "read":
            await self.read(kernel, agent, rng)
        elif act == "park":
            epoch = self.epochs.get(agent, 0)
            await kernel.park(agent, epoch=epoch, for_messages=True, seconds=rng.choice([1, 99]))
        elif act == "claim":
            await self.claim(kernel)
        elif act == "beat":
            await kernel.heartbeat(self.runner, wants_work=False)
        elif act == "ask":
            await self.ask(kernel, agent)
        else:
            await kernel.terminate(agent, reason="storm")
            self.epochs.pop(agent, None)
            await self.spawn(kernel)
        return act

    async def blow(self, kernel: Kernel, session: int) -> None:
        rng = random.Random(session)
        while self.left > 0:
            self.left -= 1
            answer: Any = await outcome(self.act(kernel, session, rng))
            if isinstance(answer, BoughError):
                cause = answer.__cause__
                state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
                # A deadlock (40P01) would arrive as ServerUnavailable.
                assert isinstance(answer, EXPECTED), (type(answer), answer, state)
            self.seen["refused" if isinstance(answer, BoughError) else answer] += 1


def in_order(messages: list[Message]) -> bool:
    """Each session counts down: in one lane it is never heard to count up."""
    last: dict[tuple[str, int], int] = {}
    for message in messages:
        if message.type != "message":
            continue
        key, n = (message.priority, message.payload["by"]), message.payload["n"]
        if n >= last.get(key, n + 1):
            return False
        last[key] = n
    return True


async def test_a_storm_of_mail_waits_and_ends_keeps_every_agents_mail_in_order(
    sessions: Sessions,
) -> None:
    kernels: list[Kernel] = []
    for n in range(SESSIONS):
        conn = await sessions.connection()
        await conn.set_autocommit(True)
        kernels.append(Kernel(conn))
        # Half of them live a minute later: to them all that was asked has expired.
        await kernels[-1].set_clock(60 * (n % 2))
    kernel = kernels[0]
    runner = await enroll_runner(kernel, lease_s=LONG_S)
    root = await start(kernel, runner, budget=1_000_000)
    storm = Storm(root, runner)
    for _ in range(AGENTS):
        await storm.spawn(kernel)
    async with asyncio.TaskGroup() as group:
        for n, each in enumerate(kernels):
            group.create_task(storm.blow(each, n))
    for act in ("write", "read", "park", "claim", "beat", "ask", "terminate"):
        assert storm.seen[act] > 30, storm.seen
    assert storm.seen["refused"] < OPERATIONS / 2, storm.seen
    for agent in storm.heard:
        assert in_order(list(storm.heard[agent].values()))
    stored = "select count(*) from bough.messages where recipient_id = %s and type = 'message'"
    for agent, count in storm.said.items():
        assert await kernel.value(stored, agent) == count
    await assert_sound(kernel)
