"""Calls about mail, waiting, approvals and the tokens of programs.

Payloads are JSON objects of at most 10 KB; times are seconds. `recipient_id` None is the operator
of the sender's tree, `sender_id` None the operator. Calls with an epoch are an agent's own and
raise StaleLease when another runner has taken it over.
"""

from collections.abc import Sequence
from uuid import UUID

from psycopg.types.json import Jsonb

from bough.client import mail_rows as rows
from bough.client.caller import Caller
from bough.client.rows import Json

OPERATOR = UUID(int=0)
"""The recipient id of the operator's mailbox of a tree."""


class MailCalls(Caller):
    """The part of a client that is about talking and waiting."""

    async def send(
        self,
        key: UUID,
        *,
        sender_id: UUID | None,
        recipient_id: UUID | None,
        payload: Json,
        type: str = "message",  # noqa: A002 - the word of the field
        priority: str = "normal",
        reply_to: UUID | None = None,
        reply_within_s: int | None = None,
        expires_s: int | None = None,
    ) -> rows.Sent:
        """Put a message into a mailbox, once for each key.

        With reply_to and no recipient it goes to whoever sent that message. With reply_within_s
        the sender is told when nobody has replied by then. Raises AgentNotFound, AgentEnded (the
        recipient), MailboxFull, MessageNotFound, InvalidInput.
        """
        return await self._one(
            rows.Sent,
            "select * from bough_api.send(%(key)s, %(sender)s, %(recipient)s, %(type)s,"
            " %(payload)s, %(priority)s, %(reply_to)s, %(within)s::integer,"
            " %(expires)s::integer)",
            {
                "key": key,
                "sender": sender_id,
                "recipient": recipient_id,
                "type": type,
                "payload": Jsonb(payload),
                "priority": priority,
                "reply_to": reply_to,
                "within": reply_within_s,
                "expires": expires_s,
            },
        )

    async def send_many(
        self,
        *,
        sender_id: UUID | None,
        recipient_id: UUID,
        payloads: Sequence[Json],
        type: str = "message",  # noqa: A002 - the word of the field
        priority: str = "normal",
    ) -> rows.SentMany:
        """Put 1 to 1000 messages into one mailbox, in order, all or none. Raises as `send`."""
        return await self._one(
            rows.SentMany,
            "select * from bough_api.send_many(%(sender)s, %(recipient)s, %(type)s,"
            " %(payloads)s::jsonb[], %(priority)s)",
            {
                "sender": sender_id,
                "recipient": recipient_id,
                "type": type,
                "payloads": [Jsonb(p) for p in payloads],
                "priority": priority,
            },
        )

    async def broadcast(
        self,
        *,
        sender_id: UUID | None,
        ancestor_id: UUID,
        payload: Json,
        type: str = "message",  # noqa: A002 - the word of the field
        priority: str = "normal",
    ) -> list[rows.Delivered]:
        """A message to every living agent below one; to whom it went. Raises as `send`."""
        return await self._all(
            rows.Delivered,
            "select * from bough_api.broadcast(%(sender)s, %(ancestor)s, %(type)s, %(payload)s,"
            " %(priority)s)",
            {
                "sender": sender_id,
                "ancestor": ancestor_id,
                "type": type,
                "payload": Jsonb(payload),
                "priority": priority,
            },
        )

    async def receive(self, agent_id: UUID, *, epoch: int, most: int = 100) -> list[rows.Message]:
        """The next messages, higher lanes first, each once in a lease until acknowledged.

        What an earlier lease was given and did not acknowledge comes again, in the same order.
        """
        return await self._all(
            rows.Message,
            "select * from bough_api.receive(%(id)s, %(epoch)s, %(most)s::integer)",
            {"id": agent_id, "epoch": epoch, "most": most},
        )

    async def acknowledge(self, agent_id: UUID, *, epoch: int, message_ids: Sequence[UUID]) -> None:
        """Done with these messages; they never come again. Raises MessageNotFound."""
        await self._do(
            "select bough_api.acknowledge(%(id)s, %(epoch)s, %(messages)s::uuid[])",
            {"id": agent_id, "epoch": epoch, "messages": list(message_ids)},
        )

    async def acknowledge_as_operator(self, message_ids: Sequence[UUID]) -> None:
        """A person is done with messages to the operator. Raises MessageNotFound."""
        await self._do(
            "select bough_api.acknowledge_as_operator(%(messages)s::uuid[])",
            {"messages": list(message_ids)},
        )

    async def inbox(self, agent_id: UUID | None, *, page: int = 1000) -> list[rows.Mail]:
        """What is not acknowledged, first to last; None: the operator's, of all trees."""
        return await self._all(
            rows.Mail,
            "select * from bough_api.inbox(%(id)s, %(page)s::integer)",
            {"id": agent_id, "page": page},
        )

    async def thread(self, message_id: UUID) -> list[rows.Said]:
        """A conversation, oldest first; empty when there is no such message."""
        return await self._all(
            rows.Said, "select * from bough_api.thread(%(id)s)", {"id": message_id}
        )

    async def purge_mail(self, *, older_than_s: int, most: int = 10_000) -> int:
        """Delete old mail that is done with; how many messages went."""
        found = await self._one(
            rows.Count,
            "select * from bough_api.purge_mail(%(age)s::integer, %(most)s::integer)",
            {"age": older_than_s, "most": most},
        )
        return found.count

    async def park(
        self,
        agent_id: UUID,
        *,
        epoch: int,
        for_messages: bool = False,
        for_children: str | None = None,
        children: Sequence[UUID] = (),
        for_tokens: int | None = None,
        for_approval: UUID | None = None,
        seconds: int | None = None,
    ) -> rows.Parked:
        """Set an agent to waiting, with no process; or say what has happened already.

        for_children is any or all (of `children`, or of all that live). Raises StaleLease,
        IllegalTransition, InvalidInput, MessageNotFound (it asked for no such approval).
        """
        return await self._one(
            rows.Parked,
            "select * from bough_api.park(%(id)s, %(epoch)s, %(messages)s, %(how)s,"
            " %(children)s::uuid[], %(tokens)s::bigint, %(approval)s, %(seconds)s::integer)",
            {
                "id": agent_id,
                "epoch": epoch,
                "messages": for_messages,
                "how": for_children,
                "children": list(children),
                "tokens": for_tokens,
                "approval": for_approval,
                "seconds": seconds,
            },
        )

    async def request_approval(
        self,
        key: UUID,
        agent_id: UUID,
        *,
        epoch: int,
        question: str,
        expires_s: int,
        on_expiry: str = "rejected",
    ) -> rows.Requested:
        """Ask a person, once for each key; unanswered it becomes on_expiry.

        Raises StaleLease, AgentEnded, InvalidInput.
        """
        return await self._one(
            rows.Requested,
            "select * from bough_api.request_approval(%(key)s, %(id)s, %(epoch)s, %(question)s,"
            " %(expires)s::integer, %(on_expiry)s)",
            {
                "key": key,
                "id": agent_id,
                "epoch": epoch,
                "question": question,
                "expires": expires_s,
                "on_expiry": on_expiry,
            },
        )

    async def approvals(
        self, only_id: UUID | None = None, *, pending: bool = True
    ) -> list[rows.Approval]:
        """What agents have asked, soonest to expire first; pending: what needs a person."""
        return await self._all(
            rows.Approval,
            "select * from bough_api.approvals(%(id)s, %(pending)s)",
            {"id": only_id, "pending": pending},
        )

    async def decide(self, approval_id: UUID, *, approve: bool, answer: str | None) -> rows.Decided:
        """Approve or reject. Raises MessageNotFound (no such approval), ApprovalDecided.

        An answer has at most 8,000 bytes; a longer one raises InvalidInput.
        """
        return await self._one(
            rows.Decided,
            "select * from bough_api.decide(%(id)s, %(approve)s, %(answer)s)",
            {"id": approval_id, "approve": approve, "answer": answer},
        )

    async def issue_token(self, agent_id: UUID, *, epoch: int, token_hash: bytes) -> None:
        """Give this attempt a token by its SHA-256; it dies with it. Raises StaleLease."""
        await self._do(
            "select bough_api.issue_token(%(id)s, %(epoch)s, %(hash)s)",
            {"id": agent_id, "epoch": epoch, "hash": token_hash},
        )

    async def admit(self, token_hash: bytes, target_id: UUID | None = None) -> rows.Admitted:
        """Whose token this is. Raises TokenInvalid; NotYours when the target is not below it."""
        return await self._one(
            rows.Admitted,
            "select * from bough_api.admit(%(hash)s, %(target)s)",
            {"hash": token_hash, "target": target_id},
        )

    async def finish(
        self,
        agent_id: UUID,
        *,
        epoch: int,
        result: Json | None,
        error_message: str | None,
        error_code: str | None = None,
    ) -> None:
        """What the agent says of its end; it holds once its program has ended.

        error_code: like budget_exceeded; without one a failure is agent_failed.

        Raises StaleLease, AgentEnded, InvalidInput.
        """
        await self._do(
            "select bough_api.finish(%(id)s, %(epoch)s, %(result)s, %(error)s, %(code)s)",
            {
                "id": agent_id,
                "epoch": epoch,
                "result": None if result is None else Jsonb(result),
                "error": error_message,
                "code": error_code,
            },
        )
