"""Calls about the steps of durable functions: record what one gave, read what was recorded.

Results are JSON objects of at most 1 MB: {"value": V} or {"error": {…}}.
"""

from uuid import UUID

from psycopg.types.json import Jsonb

from bough.client import rows
from bough.client.caller import Caller
from bough.client.rows import Json


class StepCalls(Caller):
    """The part of a client that is about steps."""

    async def record_step(
        self,
        agent_id: UUID,
        *,
        epoch: int,
        number: int,
        word: str,
        name: str | None,
        result: Json,
    ) -> rows.StepRecorded:
        """Keep what a step gave; a repeat gives the first answer.

        Raises StaleLease; InvalidInput when it is too large, or was another step before.
        """
        return await self._one(
            rows.StepRecorded,
            "select * from bough_api.record_step(%(id)s, %(epoch)s, %(number)s::integer,"
            " %(word)s, %(name)s, %(result)s)",
            {
                "id": agent_id,
                "epoch": epoch,
                "number": number,
                "word": word,
                "name": name,
                "result": Jsonb(result),
            },
        )

    async def steps(
        self, agent_id: UUID, *, after_number: int = 0, page: int = 100
    ) -> list[rows.Step]:
        """Recorded steps after a number, in order, at most `page`."""
        return await self._all(
            rows.Step,
            "select * from bough_api.steps(%(id)s, %(after)s::integer, %(page)s::integer)",
            {"id": agent_id, "after": after_number, "page": page},
        )
