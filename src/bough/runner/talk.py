"""The words of a function for talking: send, reply, inbox, ack, broadcast, and asking a person.

Mail that was given to a function is in its recorded steps, so it is given again in every start;
the mailbox keeps it until it is acknowledged, which only `ack` does. `wait_for_mail` gives what it
has not given before, so a message that is never acknowledged wakes an agent once.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bough.client.errors import InvalidInput
from bough.client.mail_rows import Delivered, Mail
from bough.client.remote import RemoteClient
from bough.client.rows import Json
from bough.runner.journal import Journal, NotYet

_AT_ONCE = 50
"""So many messages of 10 KB fit into one step."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a request for approval: approved or rejected, and the person's text."""

    approved: bool
    answer: str | None


def _payload(said: str | Json) -> Json:
    return {"text": said} if isinstance(said, str) else said


class Talk:
    """The part of a context that is about mail and approvals."""

    def __init__(self, client: RemoteClient, journal: Journal) -> None:
        self.agent_id = journal.agent_id
        self._client = client
        self._do = journal.do
        self._park = journal.park
        self._given: set[UUID] = set()

    async def send(
        self,
        to: UUID | str,
        payload: str | Json,
        *,
        type: str = "message",  # noqa: A002 - the word of the field
        priority: str = "normal",
        reply_within_s: int | None = None,
        expires_s: int | None = None,
    ) -> UUID:
        """Write to an agent of the tree, or to "parent", "root" or "operator"; the mail's id."""

        async def act(key: UUID) -> UUID:
            recipient = await self._client.find(to) if isinstance(to, str) else to
            sent = await self._client.send(
                key,
                sender_id=self.agent_id,
                recipient_id=recipient,
                payload=_payload(payload),
                type=type,
                priority=priority,
                reply_within_s=reply_within_s,
                expires_s=expires_s,
            )
            return sent.id

        return await self._do("send", str(to)[:8], act, UUID)

    async def reply(self, mail: Mail | UUID, payload: str | Json) -> UUID:
        """Answer a message, which stays in the mailbox until `ack`; the answer's id."""
        to = mail.id if isinstance(mail, Mail) else mail

        async def act(key: UUID) -> UUID:
            sent = await self._client.send(
                key,
                sender_id=self.agent_id,
                recipient_id=None,
                payload=_payload(payload),
                reply_to=to,
            )
            return sent.id

        return await self._do("reply", str(to)[:8], act, UUID)

    async def broadcast(
        self,
        payload: str | Json,
        *,
        below: UUID | None = None,
        type: str = "message",  # noqa: A002 - the word of the field
        priority: str = "normal",
    ) -> int:
        """Write to every living agent below this one, or below another; to how many it went."""

        async def act(_: UUID) -> list[Delivered]:
            return await self._client.broadcast(
                sender_id=self.agent_id,
                ancestor_id=below or self.agent_id,
                payload=_payload(payload),
                type=type,
                priority=priority,
            )

        return len(await self._do("broadcast", None, act, list[Delivered]))

    async def inbox(self, most: int = _AT_ONCE) -> list[Mail]:
        """What is not acknowledged, first to last, at most 50."""
        if not 1 <= most <= _AT_ONCE:
            raise InvalidInput(f"an inbox is read by 1 to {_AT_ONCE} messages")

        async def act(_: UUID) -> list[Mail]:
            return await self._client.inbox(self.agent_id, page=most)

        return await self._do("inbox", None, act, list[Mail])

    async def wait_for_mail(self, *, ack: bool = False) -> list[Mail]:
        """Wait for mail that this has not given before; `ack`: and acknowledge it."""

        async def act(_: UUID) -> list[Mail]:
            # Received now and looked at below, so that parking is only for what comes after.
            while await self._client.receive(self.agent_id, epoch=0, most=100):
                pass
            page = await self._client.inbox(self.agent_id, page=len(self._given) + _AT_ONCE)
            found = [m for m in page if m.id not in self._given][:_AT_ONCE]
            if not found:
                raise NotYet(for_messages=True)
            return found

        mail: list[Mail] = await self._do("wait_for_mail", None, act, list[Mail])
        self._given |= {m.id for m in mail}
        if ack:
            await self._acknowledge([m.id for m in mail], follows=True)
        return mail

    async def ack(self, *mail: Mail | UUID) -> None:
        """Done with these messages; the mailbox does not give them again."""
        if mail:
            await self._acknowledge([m.id if isinstance(m, Mail) else m for m in mail])

    async def _acknowledge(self, ids: list[UUID], *, follows: bool = False) -> None:
        async def act(_: UUID) -> None:
            await self._client.acknowledge(self.agent_id, epoch=0, message_ids=ids)

        name = " ".join(sorted(str(i)[:8] for i in ids))
        await self._do("ack", name, act, None, follows=follows)

    async def request_approval(
        self, question: str, *, expires_s: int = 3600, on_expiry: str = "rejected"
    ) -> Decision:
        """Ask a person and wait for the decision, or for the time after which it is on_expiry."""

        async def act(key: UUID) -> Decision:
            more: dict[str, Any] = {"expires_s": expires_s, "on_expiry": on_expiry}
            await self._client.request_approval(
                key, self.agent_id, epoch=0, question=question, **more
            )
            [found] = await self._client.approvals(key, pending=False)
            if found.status == "pending":
                raise NotYet(for_approval=str(key))
            return Decision(found.status == "approved", found.answer)

        return await self._do("request_approval", question, act, Decision)
