"""Tools for talking: send, reply, inbox, ack; an agent's own: report, finish, request_approval,
charge; a person's: approvals, approve, reject.

Each does what the verb of the same name does at the command line. Raises BoughError, which becomes
the result.
"""

import json
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import Field

from bough.client.amounts import seconds_of
from bough.client.budgets import Usage
from bough.client.errors import InvalidInput, NotYours
from bough.client.hints import OPERATOR_CHANNEL, mail_channel
from bough.client.mail_rows import Mail
from bough.surfaces.cli.mail import address, approval_json, mail_json, one_of
from bough.surfaces.mcp.acting import Acting, Call, Who, answer, until

Text = Annotated[str, Field(description="The message, at most 10 KB.")]
Seconds = Annotated[int, Field(description="Wait so long, 0 to 45.")]
_MOST_MAIL = 50


class TalkTools:
    """Tools for everybody."""

    def __init__(self, who: Who) -> None:
        self._who = who

    async def send(
        self,
        ctx: Call,
        to: Annotated[str, Field(description="An id; for an agent also parent, root, operator.")],
        text: Text,
        priority: Literal["critical", "high", "normal", "low"] = "normal",
        below: Annotated[bool, Field(description="To all alive below it instead.")] = False,
    ) -> str:
        """Put a message into an agent's mailbox; it is read when the agent looks. Example:
        {"to": "parent", "text": "Which of the two formats?"}."""
        acting = await self._who(ctx)
        whom = await address(acting.client, to)
        words: dict[str, Any] = {"sender_id": acting.me, "payload": {"text": text}}
        if below:
            sent = await acting.client.broadcast(ancestor_id=whom, priority=priority, **words)
            return answer({"sent_to": len(sent)})
        key = uuid4()
        await acting.client.send(key, recipient_id=whom, priority=priority, **words)
        return answer({"id": key})

    async def reply(self, ctx: Call, message: str, text: Text) -> str:
        """Answer a message of your inbox, and be done with it. message: its id or first digits."""
        acting = await self._who(ctx)
        key, to = uuid4(), (await self._known(acting, [message]))[0]
        words: dict[str, Any] = {"sender_id": acting.me, "payload": {"text": text}}
        await acting.client.send(key, recipient_id=None, reply_to=to, **words)
        await _acknowledge(acting, [to])
        return answer({"id": key, "reply_to": to})

    async def inbox(self, ctx: Call, seconds: Seconds = 0) -> str:
        """Read your mail that is not acknowledged, first to last, at most 50; it comes again until
        you ack it. With seconds: wait so long if there is none."""
        acting = await self._who(ctx)
        mail: list[Mail] = []

        async def arrived() -> bool:
            mail[:] = await acting.client.inbox(acting.me, page=_MOST_MAIL)
            return bool(mail)

        channel = mail_channel(acting.me) if acting.me else OPERATOR_CHANNEL
        await until(acting, ctx, seconds, arrived, channel)
        return answer([mail_json(m) for m in mail])

    async def ack(
        self, ctx: Call, messages: Annotated[list[str], Field(description="Ids, from inbox.")]
    ) -> str:
        """Be done with messages: inbox does not give them again."""
        acting = await self._who(ctx)
        done = await self._known(acting, messages)
        await _acknowledge(acting, done)
        return answer({"acknowledged": done})

    async def _known(self, acting: Acting, typed: list[str]) -> list[UUID]:
        known = [m.id for m in await acting.client.inbox(acting.me)]
        return [one_of(t, known, "message") for t in typed]


class AgentTools:
    """Tools of an agent about itself."""

    def __init__(self, who: Who) -> None:
        self._who = who

    async def report(
        self,
        ctx: Call,
        text: Annotated[str, Field(description="One line.")],
        progress: Annotated[
            float | None, Field(description="The fraction that is done, 0 to 1.")
        ] = None,
    ) -> str:
        """Tell how far you are. Example: {"text": "parser done, tests next", "progress": 0.5}."""
        acting, me = await self._me(ctx)
        await acting.client.report(me, epoch=0, progress=progress, note=text)
        return "noted"

    async def finish(
        self,
        ctx: Call,
        result: Annotated[
            dict[str, Any] | None, Field(description="What came out, at most 1 MB.")
        ] = None,
        error: Annotated[str, Field(description="Why it failed; empty: it did not.")] = "",
    ) -> str:
        """Say what the result of your task is, once, at the end; then stop. Example: {"result":
        {"summary": "tests pass", "files": 3}}."""
        acting, me = await self._me(ctx)
        await acting.client.finish(me, epoch=0, result=result, error_message=error or None)
        return "noted; it holds when your program ends, so stop now"

    async def request_approval(
        self,
        ctx: Call,
        question: Annotated[str, Field(description="What you want to do, and why.")],
        expires: Annotated[str, Field(description="Like 10m or 1h; then it is rejected.")] = "1h",
        seconds: Seconds = 45,
    ) -> str:
        """Ask a person before what cannot be undone. If status is pending, ask again with approval
        and the id; do it only when it is approved."""
        acting, me = await self._me(ctx)
        key = uuid4()
        try:
            expires_s = seconds_of(expires)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        await acting.client.request_approval(
            key, me, epoch=0, question=question, expires_s=expires_s
        )
        return await self._decided(acting, ctx, key, seconds)

    async def approval(self, ctx: Call, id: str, seconds: Seconds = 45) -> str:
        """Wait for the decision on what you asked with request_approval."""
        acting, _ = await self._me(ctx)
        known = [a.id for a in await acting.client.approvals(pending=False)]
        return await self._decided(acting, ctx, one_of(id, known, "approval"), seconds)

    async def _decided(self, acting: Acting, ctx: Call, key: UUID, seconds: int) -> str:
        found: list[Any] = []

        async def decided() -> bool:
            found[:] = await acting.client.approvals(key, pending=False)
            return found[0].status != "pending"

        await until(acting, ctx, seconds, decided, mail_channel(acting.me or key))
        return answer({"id": key, "status": found[0].status, "answer": found[0].answer})

    async def charge(
        self,
        ctx: Call,
        tokens: Annotated[int, Field(description="Tokens that a call used.")],
        model: Annotated[str, Field(description="Which model; empty: unknown.")] = "",
    ) -> str:
        """Say what a call to a model used that did not go through Bough; returns what is left."""
        acting, me = await self._me(ctx)
        done = await acting.client.charge(uuid4(), me, Usage(tokens=tokens, model=model or None))
        return answer({"available": done.available, "overdraft": done.overdraft})

    async def _me(self, ctx: Call) -> tuple[Acting, UUID]:
        acting = await self._who(ctx)
        if acting.me is None:
            raise NotYours("this is for the program of an agent")
        return acting, acting.me


class OperatorTools:
    """Tools of a person: decide what agents ask."""

    def __init__(self, who: Who) -> None:
        self._who = who

    async def approvals(self, ctx: Call) -> str:
        """List what agents ask you to allow, soonest to expire first."""
        acting = await self._who(ctx)
        return answer([approval_json(a) for a in await acting.client.approvals()])

    async def approve(self, ctx: Call, id: str, text: str = "") -> str:
        """Allow what an agent asked; text is for the agent."""
        return await self._decide(ctx, id, text, approve=True)

    async def reject(self, ctx: Call, id: str, text: str = "") -> str:
        """Refuse what an agent asked; text is for the agent."""
        return await self._decide(ctx, id, text, approve=False)

    async def _decide(self, ctx: Call, typed: str, text: str, *, approve: bool) -> str:
        acting = await self._who(ctx)
        known = [a.id for a in await acting.client.approvals(pending=False)]
        found = one_of(typed, known, "approval")
        done = await acting.client.decide(found, approve=approve, answer=text or None)
        return json.dumps({"id": str(done.id), "status": done.status})


async def _acknowledge(acting: Acting, done: list[UUID]) -> None:
    if not done:
        raise InvalidInput("say which messages, by their ids; see inbox")
    if acting.me:
        # The runner knows the lease.
        await acting.client.acknowledge(acting.me, epoch=0, message_ids=done)
    else:
        await acting.client.acknowledge_as_operator(done)
