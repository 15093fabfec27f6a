"""The recorded conversation of one agent: read when its program starts, appended to, never changed.

Guarantees: what is in memory is in the database, in the same order. Where the program stands
follows from the entries alone, so that another one can go on from any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from bough.client.errors import StaleLease
from bough.client.remote import RemoteClient
from bough.client.rows import Json
from bough.runner.llm import entry

OLD_VERSION = "the conversation has entries of version {}, this program knows {}; update Bough"


class UnknownShape(Exception):
    """The conversation was written by a newer program."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call without a result; `begun` when it was started before, nobody knows how far."""

    answer: int
    index: int
    tool: str
    arguments: object
    key: UUID
    begun: bool


class Conversation:
    """The entries of an agent, by number from 1."""

    def __init__(self, client: RemoteClient, agent_id: UUID, entries: list[Json]) -> None:
        self._client = client
        self._agent_id = agent_id
        self.entries = entries

    @classmethod
    async def read(cls, client: RemoteClient, agent_id: UUID) -> "Conversation":
        """All that was recorded. Raises UnknownShape."""
        entries: list[Json] = []
        while page := await client.conversation(agent_id, after_number=len(entries)):
            entries += [row.entry for row in page]
        for found in entries:
            if found.get("v") != entry.VERSION:
                raise UnknownShape(OLD_VERSION.format(found.get("v"), entry.VERSION))
        return cls(client, agent_id, entries)

    async def append(self, added: Json, *, acknowledged: Sequence[UUID] = ()) -> None:
        """Record an entry, and be done with mail in the same moment. Raises as the client does."""
        done = await self._client.append_conversation(
            self._agent_id,
            epoch=0,
            number=len(self.entries) + 1,
            entry=added,
            acknowledged=acknowledged,
        )
        if not done.is_new and done.recorded != added:
            raise StaleLease("another program of this agent has gone on with its conversation")
        self.entries.append(done.recorded)

    @property
    def answer(self) -> int:
        """The number of the last answer; 0 when there is none."""
        for number in range(len(self.entries), 0, -1):
            if self.entries[number - 1]["from"] == "model":
                return number
        return 0

    @property
    def since_answer(self) -> list[Json]:
        """What came after the last answer."""
        return self.entries[self.answer :]

    def open_calls(self) -> list[OpenCall]:
        """Calls of the last answer that have no result, in order."""
        number = self.answer
        if not number:
            return []
        later = self.since_answer
        done = {e["call"] for e in later if e["from"] == "tool"}
        begun = {e["call"] for e in later if e["from"] == "begun"}
        return [
            OpenCall(number, i, call["tool"], call["arguments"], self.key_of(number, i), i in begun)
            for i, call in enumerate(entry.calls(self.entries[number - 1]))
            if i not in done
        ]

    def key_of(self, answer: int, index: int) -> UUID:
        """The key of what a call does in the kernel: the same whenever it is done."""
        return uuid5(self._agent_id, f"call {answer} {index}")

    def last_words(self) -> str:
        """The last text of the model; empty when it has said nothing."""
        for found in reversed(self.entries):
            if found["from"] == "model" and entry.text_of(found):
                return entry.text_of(found)
        return ""

    def told(self, fact: str) -> object:
        """The latest value of a fact among what the model was told; None when there is none."""
        for found in reversed(self.entries):
            if found["from"] == "bough" and fact in found:
                return found[fact]
        return None

    def malformed_in_a_row(self) -> int:
        """How many of the last answers had nothing but calls that could not be understood."""
        count = 0
        good = False
        for found in reversed(self.entries):
            if found["from"] == "tool":
                good = good or not found.get("malformed")
            elif found["from"] == "model":
                if good or not entry.calls(found):
                    break
                count += 1
        return count

    def nudges_in_a_row(self) -> int:
        """How many of the last answers called nothing and were told to go on."""
        count = 0
        for found in reversed(self.entries):
            if found["from"] == "tool":
                break
            count += bool(found["from"] == "bough" and found.get("nudge"))
        return count
