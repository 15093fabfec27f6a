"""Calls about an agent's conversation with its model: append an entry, read what is there.

Entries are JSON objects of at most 1 MB, numbered from 1 without gaps, and stay as they are.
"""

from collections.abc import Sequence
from uuid import UUID

from psycopg.types.json import Jsonb

from bough.client import rows
from bough.client.caller import Caller
from bough.client.rows import Json


class ConversationCalls(Caller):
    """The part of a client that is about conversations."""

    async def append_conversation(
        self,
        agent_id: UUID,
        *,
        epoch: int,
        number: int,
        entry: Json,
        acknowledged: Sequence[UUID] = (),
    ) -> rows.Appended:
        """Add an entry, and be done with mail in the same moment; a repeat gives the first answer.

        Raises StaleLease; InvalidInput (too large, or the one before is missing);
        MessageNotFound, and then nothing was added.
        """
        return await self._one(
            rows.Appended,
            "select * from bough_api.append_conversation(%(id)s, %(epoch)s, %(number)s::integer,"
            " %(entry)s, %(messages)s::uuid[])",
            {
                "id": agent_id,
                "epoch": epoch,
                "number": number,
                "entry": Jsonb(entry),
                "messages": list(acknowledged),
            },
        )

    async def conversation(
        self, agent_id: UUID, *, after_number: int = 0, page: int = 50
    ) -> list[rows.Entry]:
        """Entries after a number, in order, at most `page`."""
        return await self._all(
            rows.Entry,
            "select * from bough_api.conversation(%(id)s, %(after)s::integer, %(page)s::integer)",
            {"id": agent_id, "after": after_number, "page": page},
        )
