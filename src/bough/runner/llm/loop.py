"""The loop: ask, do what was called, record, until the agent has ended or waits.

Where it stands follows from the conversation alone: a program that was killed is started again and
goes on at the first thing that is not recorded. A model is never asked again for what it has
answered, unless the answer was lost before it was recorded; then both are paid.
"""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bough.client.errors import BoughError, ServerUnavailable, StaleLease, TokenInvalid
from bough.client.remote import RemoteClient
from bough.client.rows import Json
from bough.runner.llm import entry, money, trace
from bough.runner.llm.conversation import Conversation, OpenCall
from bough.runner.llm.mailbox import Mailbox
from bough.runner.llm.model import Failed, Model, Refused
from bough.runner.llm.prompt import system_prompt
from bough.runner.llm.tools import Tools

_MOST_MALFORMED = 5
_MOST_NUDGES = 3
_MOST_RESULT_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class End:
    """How the agent ends; error and code None: it did its task."""

    result: Json | None
    error: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One agent at work."""

    client: RemoteClient
    agent_id: UUID
    talk: Conversation
    mailbox: Mailbox
    tools: Tools
    model: Model

    async def begin(self, *, role: str, task: str, root: Path) -> None:
        """Record what everything begins with, unless it is there."""
        account = await self.client.account(self.agent_id)
        names = frozenset(tool.name for tool in self.tools.mine)
        if not self.talk.entries:
            text = system_prompt(role, account.allocated, root, names)
            await self.talk.append(entry.made("system", text=text))
        if len(self.talk.entries) == 1:
            now = money.left(account.allocated, account.available, last_call=0)
            told = entry.said(f"{now.text}\n\n{task}", left=now.left, little=now.little)
            await self.talk.append(told)

    async def run(self) -> End:
        """Work to the end. Raises NotYet when the agent waits, and what cannot be recorded."""
        try:
            while True:
                for call in self._in_order():
                    await self.tools.do(call)
                ended = await self._ended()
                if ended:
                    return ended
                await self.mailbox.take()
                await self._tell_budget()
                answer = await self.model.ask(self.talk.entries)
                await self.talk.append(answer)
                left = (await self.client.account(self.agent_id)).available
                trace.answered(answer, left)
        except Refused as error:
            trace.line(f"! {error}")
            return self._failed("budget_exceeded", str(error))
        except Failed as error:
            trace.line(f"! {error}")
            return self._failed("model_failed", str(error))
        except (ServerUnavailable, StaleLease, TokenInvalid):
            raise
        except BoughError as error:
            return self._failed("agent_failed", str(error))

    def _in_order(self) -> list[OpenCall]:
        """Open calls as they were asked for, the end last."""
        return sorted(self.talk.open_calls(), key=lambda call: call.tool == "finish")

    async def _ended(self) -> End | None:
        """The end, when the last answer was one."""
        number = self.talk.answer
        if not number:
            return None
        answer = self.talk.entries[number - 1]
        later = self.talk.since_answer
        if any(e["from"] == "tool" and e["tool"] == "finish" and e["ok"] for e in later):
            return self._finished(answer)
        if self.talk.malformed_in_a_row() >= _MOST_MALFORMED:
            told = f"the model called tools wrongly {_MOST_MALFORMED} times in a row"
            return self._failed("model_failed", told)
        if entry.calls(answer) or any(e["from"] == "bough" for e in later):
            return None
        return await self._stopped(answer)

    def _finished(self, answer: Json) -> End:
        """The end that the model asked for, as its arguments say."""
        for call in entry.calls(answer):
            if call["tool"] == "finish":
                told = self.tools.finish_of(call["arguments"])
                return End(told.result, told.error or None)
        raise AssertionError

    async def _stopped(self, answer: Json) -> End | None:
        """The model called nothing: an end, unless it cannot have meant one."""
        if await self.mailbox.take():
            return None
        text = entry.text_of(answer)
        why = ""
        if answer["stop"] == "length":
            why = "Your answer was cut because it was too long. Go on in smaller steps."
        elif not text:
            why = "Your answer was empty. Go on, or call finish."
        else:
            me = await self.client.show(self.agent_id)
            alive = [c for c in me.children if not (await self.client.show(c)).has_ended]
            if alive:
                names = ", ".join(str(c)[:8] for c in alive)
                why = f"These agents of yours still run and would end with you: {names}. Wait for"
                why += " them, or call finish to end them."
        if not why:
            return End({"text": text[:_MOST_RESULT_CHARS]})
        if self.talk.nudges_in_a_row() >= _MOST_NUDGES:
            if text:
                return End({"text": text[:_MOST_RESULT_CHARS]})
            return self._failed("model_failed", "the model gives only empty answers")
        await self.talk.append(entry.said(f"[{why}]", nudge=True))
        return None

    def _failed(self, code: str, message: str) -> End:
        words = self.talk.last_words()[:_MOST_RESULT_CHARS]
        return End({"text": words} if words else None, message, code)

    async def _tell_budget(self) -> None:
        account = await self.client.account(self.agent_id)
        told = self.talk.told("left")
        number = self.talk.answer
        usage: Json = self.talk.entries[number - 1]["usage"] if number else {}
        now = money.note(
            account.allocated,
            account.available,
            told=told if isinstance(told, int) else account.allocated,
            told_little=self.talk.told("little") is True,
            last_call=usage.get("input", 0) + usage.get("output", 0),
        )
        if now:
            await self.talk.append(entry.said(now.text, left=now.left, little=now.little))
