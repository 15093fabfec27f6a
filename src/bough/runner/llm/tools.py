"""The tools of one agent: those that its role leaves it, done call by call.

A tool that changes things is marked as begun before it is done. Found begun and without a result,
it is not done again: its model is told to look. Everything else is simply done again.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast
from uuid import UUID

from bough.client.errors import BoughError, ServerUnavailable, StaleLease, TokenInvalid
from bough.client.remote import RemoteClient
from bough.client.tools import KINDS
from bough.runner.llm import entry
from bough.runner.llm.conversation import Conversation, OpenCall
from bough.runner.llm.files import Files
from bough.runner.llm.mailbox import Mailbox
from bough.runner.llm.shell import Shells
from bough.runner.llm.start import PROVIDERS
from bough.runner.llm.tool import Gave, Malformed, Refusal, Tool
from bough.runner.llm.trace import brief, line
from bough.runner.llm.words import Finish, Words
from bough.runner.workspaces.git import GitError

_INTERRUPTED = (
    "interrupted before its result was known: it may be done, in part or not at all; look before"
    " you repeat it"
)


class Tools:
    """The tools by name, and how calls of them are done."""

    def __init__(
        self,
        client: RemoteClient,
        agent_id: UUID,
        talk: Conversation,
        mailbox: Mailbox,
        *,
        root: Path,
        env: Mapping[str, str],
        granted: Collection[str] | None,
    ) -> None:
        self._talk = talk
        words = Words(client, agent_id, root, mailbox)
        all_ = [*Files(root).tools(), *Shells(root, _without_keys(env)).tools(), *words.tools()]
        self._all = {tool.name: tool for tool in all_}
        self.mine = [t for t in all_ if granted is None or t.needs is None or t.needs in granted]
        self._names = {tool.name for tool in self.mine}

    async def do(self, call: OpenCall) -> bool:
        """Do a call and record what it gave; whether it was done. Raises NotYet."""
        facts = {"malformed": False}
        gave = Gave("")
        known = self._all.get(call.tool)
        shown = brief(call.arguments, list(known.arguments.model_fields) if known else ())
        try:
            tool = self._tool(call)
            told = tool.understood(call.arguments)
            if tool.changes:
                if call.begun:
                    raise Refusal(_INTERRUPTED)
                mark = entry.made("begun", answer=call.answer, call=call.index)
                await self._talk.append(mark)
            gave, ok = await tool.act(told, call.key), True
        except Malformed as error:
            gave, ok, facts["malformed"] = Gave(str(error)), False, True
        except (ServerUnavailable, StaleLease, TokenInvalid):
            # Not about the call: nothing can be recorded any more.
            raise
        except (Refusal, BoughError, GitError, OSError) as error:
            gave, ok = Gave(" ".join(str(error).split())), False
        given = entry.gave(call.answer, call.index, call.tool, gave.text, ok=ok, **facts)
        await self._talk.append(given, acknowledged=gave.acknowledged)
        size = f"{len(gave.text):,} characters" if ok else f"refused: {gave.text[:200]}"
        if call.tool == "shell" and ok:
            size = f"{gave.text.partition(']')[0].lstrip('[')}, {size}"
        line(f"· {call.tool} {shown} → {size}")
        return ok

    def finish_of(self, arguments: object) -> Finish:
        """What a call of finish said."""
        return cast("Finish", self._all["finish"].understood(arguments))

    def _tool(self, call: OpenCall) -> Tool:
        if call.tool in self._names:
            return self._all[call.tool]
        known = ", ".join(sorted(self._names))
        if call.tool in self._all:
            needs = self._all[call.tool].needs
            what = "kind of tool" if needs in KINDS else "tool"
            raise Refusal(f"the role of this agent does not have the {what} {needs}; use {known}")
        raise Malformed(f"there is no tool '{call.tool[:100]}'; there is: {known}")


def _without_keys(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of commands: a provider's own key would spend what nobody counts."""
    keys = {p.key for p in PROVIDERS.values()} | {"ANTHROPIC_AUTH_TOKEN"}
    return {k: v for k, v in env.items() if k not in keys or v == env.get("BOUGH_TOKEN")}
