"""The agent's mail on its way into the conversation: recorded and acknowledged in one transaction.

Guarantees: a message is in the conversation once, or still in the mailbox. It is taken between
answers and while the agent waits, never while a tool works.
"""

import json
from uuid import UUID

from bough.client.mail_rows import Mail
from bough.client.remote import RemoteClient
from bough.runner.llm import entry
from bough.runner.llm.conversation import Conversation

_AT_ONCE = 20
"""So many of 10 KB, and what marks them, fit into one entry."""
_OF_KERNEL = ("child.", "budget.")


def shown(mail: Mail) -> str:
    """A message as the model reads it."""
    nobody = "the operator" if mail.type == "message" else "Bough"
    sender = f"agent {str(mail.sender_id)[:8]}" if mail.sender_id else nobody
    body = mail.payload.get("text") if mail.payload.keys() == {"text"} else None
    text = body if isinstance(body, str) else json.dumps(mail.payload, ensure_ascii=False)
    kind = "" if mail.type == "message" else f", {mail.type}"
    return f"[mail {str(mail.id)[:8]} from {sender}{kind}] {text}"


class Mailbox:
    """What was sent to one agent."""

    def __init__(self, client: RemoteClient, agent_id: UUID, talk: Conversation) -> None:
        self._client = client
        self._agent_id = agent_id
        self._talk = talk

    async def waiting(self) -> list[Mail]:
        """What is not acknowledged, first to last, at most 20."""
        # Received too, so that parking is only for what comes after.
        while await self._client.receive(self._agent_id, epoch=0, most=100):
            pass
        return await self._client.inbox(self._agent_id, page=_AT_ONCE)

    async def take(self) -> int:
        """Put all mail into the conversation; how many messages."""
        count = 0
        while mail := await self.waiting():
            told = entry.said(
                "\n".join(map(shown, mail)),
                mail=[str(m.id) for m in mail],
                news=any(not m.type.startswith(_OF_KERNEL) for m in mail),
            )
            await self._talk.append(told, acknowledged=[m.id for m in mail])
            count += len(mail)
        return count

    @property
    def has_news(self) -> bool:
        """Whether somebody has written since the last answer; the ends of children do not count."""
        return any(e.get("news") for e in self._talk.since_answer)
