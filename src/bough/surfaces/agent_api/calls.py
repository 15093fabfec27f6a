"""What a program inside an agent may ask, and for whom: the methods of the client, its own subtree.

Who asks is filled in from the token, never taken from the request: the sender of mail, the agent
of a report, the lease. Named agents must be the asker itself or below it, those that are changed
strictly below it. Mail goes to anybody in its tree, and to the operator.
"""

from typing import Any
from uuid import UUID

from bough.client import wire
from bough.client.client import Spawn
from bough.client.errors import AgentNotFound, AmbiguousId, InvalidInput, MessageNotFound, NotYours
from bough.client.hints import listening, mail_channel, tree_channel
from bough.client.mail import OPERATOR
from bough.client.mail_rows import Admitted
from bough.client.remote import ALLOWED, HINT_S
from bough.client.rows import Agent
from bough.client.tools import TOOL_OF_CALL
from bough.runner.runner import Runner

_OWN = {"acknowledge", "charge", "finish", "inbox", "receive", "release", "report"} | {
    "append_conversation",
    "conversation",
    "record_step",
    "request_approval",
    "reserve",
    "settle",
    "steps",
}
"""Only for the agent itself."""
_BELOW = {"grant_budget", "freeze_budget", "unfreeze_budget", "terminate", "pause", "resume"}
"""Only for what the agent has spawned."""


class Calls:
    """Does what agents ask, for the agents of one runner."""

    def __init__(self, runner: Runner, dsn: str) -> None:
        self._runner = runner
        self._client = runner.client
        self._dsn = dsn

    async def whose(self, token_hash: bytes) -> Admitted:
        """The agent of a token. Raises TokenInvalid."""
        return await self._client.admit(token_hash)

    async def do(self, verb: str, token_hash: bytes, values: dict[str, Any]) -> Any:
        """Answer one request as JSON. Raises BoughError."""
        who = await self._client.admit(token_hash)
        tool = TOOL_OF_CALL.get(verb)
        if tool and who.tools is not None and tool not in who.tools:
            raise NotYours(f"the role of this agent does not have the tool {tool}; ask its parent")
        special = getattr(self, f"_{verb}", None) if verb in _SPECIAL else None
        if special:
            return wire.plain(await special(who, values))
        if verb not in ALLOWED:
            raise InvalidInput(f"there is no call '{verb}'; there is: {', '.join(sorted(ALLOWED))}")
        method = getattr(self._client, verb)
        if verb in _OWN:
            values["agent_id"] = str(who.agent_id)
            if "epoch" in wire.hints(method):
                values["epoch"] = who.lease_epoch
        if "below" in wire.hints(method):
            # Merges of whole batches: the kernel sees that each is of an agent at or below it.
            values["below"] = str(who.agent_id)
        given = wire.arguments(method, values)
        await self._check(verb, who, token_hash, given)
        try:
            return wire.plain(await method(**given))
        except TypeError as error:
            raise InvalidInput(f"{verb}: {error}") from error

    async def _check(
        self, verb: str, who: Admitted, token_hash: bytes, given: dict[str, Any]
    ) -> None:
        """Refuse what concerns agents that are not the asker's. Raises NotYours."""
        if verb in ("send", "broadcast"):
            given["sender_id"] = who.agent_id
        if verb == "send":
            await self._check_mail(who, given)
        named = [given[n] for n in ("ancestor_id", "from_id", "to_id") if given.get(n)]
        if verb == "spawn" and "what" in given:
            named.append(_parent_of(given["what"]))
        if "agent_id" in given and verb not in _OWN:
            named.append(given["agent_id"] or who.agent_id)
            given["agent_id"] = named[-1]
        for target in set(named) - {who.agent_id}:
            await self._client.admit(token_hash, target)
        if verb in _BELOW and given["agent_id"] == who.agent_id:
            raise NotYours(f"an agent cannot {verb.partition('_')[0]} itself; its parent can")
        if verb == "statistics" and "agent_id" not in given:
            given["agent_id"] = who.agent_id

    async def _check_mail(self, who: Admitted, given: dict[str, Any]) -> None:
        kind = given.get("type", "message")
        if kind.startswith(("child.", "approval.", "request.", "budget.")):
            raise InvalidInput(f"only the kernel writes messages of type {kind}")
        to = given.get("recipient_id")
        if to and to != OPERATOR and (await self._client.show(to)).root_id != who.root_id:
            raise NotYours(f"agent {str(to)[:8]} is in another tree")
        if given.get("reply_to"):
            mine = await self._client.thread(given["reply_to"])
            if who.agent_id not in {x for m in mine for x in (m.sender_id, m.recipient_id)}:
                raise MessageNotFound(f"no message {str(given['reply_to'])[:8]} for you")

    async def _mine(self, who: Admitted) -> list[Agent]:
        """The asker and all below it, each parent before its children."""
        below = {who.agent_id}
        mine: list[Agent] = []
        for agent in await self._client.tree(who.root_id):
            if agent.id == who.agent_id or agent.parent_id in below:
                below.add(agent.id)
                mine.append(agent)
        return mine

    async def _find(self, who: Admitted, values: dict[str, Any]) -> UUID:
        typed = str(values.get("prefix", ""))
        named = {"parent": who.parent_id, "root": who.root_id, "operator": OPERATOR}
        if typed in named:
            found = named[typed]
            if found is None:
                raise AgentNotFound("the root has no parent; the operator is 'operator'")
            return found
        prefix = typed.replace("-", "").lower()
        fit = [a.id for a in await self._mine(who) if prefix and a.id.hex.startswith(prefix)]
        if len(fit) > 1:
            raise AmbiguousId(f"'{typed}' is ambiguous here; give more digits")
        if not fit:
            raise AgentNotFound(f"no agent {typed[:40]} at or below this one; see bough tree")
        return fit[0]

    async def _ps(self, who: Admitted, values: dict[str, Any]) -> list[Agent]:
        mine = await self._mine(who)
        return [a for a in reversed(mine) if values.get("ended") or not a.has_ended]

    async def _tree(self, who: Admitted, values: dict[str, Any]) -> list[Agent]:
        del values
        return await self._mine(who)

    async def _approvals(self, who: Admitted, values: dict[str, Any]) -> Any:
        given = wire.arguments(self._client.approvals, values)
        return [a for a in await self._client.approvals(**given) if a.agent_id == who.agent_id]

    async def _hint(self, who: Admitted, values: dict[str, Any]) -> str:
        """Wait for news beyond what was seen; whoever looks between two waits misses nothing."""
        seconds = values.get("seconds")
        seconds = min(float(seconds), HINT_S) if isinstance(seconds, int | float) else HINT_S
        with self._runner.blocked(who.agent_id):
            channels = (tree_channel(who.root_id), mail_channel(who.agent_id))
            async with listening(self._dsn, *channels) as hints:
                version = await self._client.news(who.agent_id)
                if version != values.get("seen"):
                    return version
                await hints.wait(max(seconds, 0.0))
            return await self._client.news(who.agent_id)

    async def _park(self, who: Admitted, values: dict[str, Any]) -> bool:
        """When its program ends with 0, the agent waits instead of being complete."""
        values = values | {"agent_id": str(who.agent_id), "epoch": who.lease_epoch}
        self._runner.park_at_end(who.agent_id, wire.arguments(self._client.park, values))
        return True

    async def _whoami(self, who: Admitted, values: dict[str, Any]) -> Admitted:
        del values
        return who


_SPECIAL = frozenset(["approvals", "find", "hint", "park", "ps", "tree", "whoami"])


def _parent_of(what: Spawn) -> UUID:
    if what.parent_id is None or what.runner_id is not None:
        raise NotYours("an agent spawns children: give parent_id, and no runner")
    return what.parent_id
