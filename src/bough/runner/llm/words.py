"""Tools for the tree: spawn, wait, merge, send, inbox, request_approval, report, finish.

Each does what the verb of the same name does at the command line, for this agent alone. What is
done in the kernel has the key of its call, so that doing it again after a crash changes nothing.
What has not happened yet raises NotYet: the agent parks, and the call is done once more when it is
woken.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from bough.client.amounts import seconds_of, tokens_of
from bough.client.errors import InvalidInput
from bough.client.mail_rows import Mail
from bough.client.remote import RemoteClient
from bough.client.rows import Agent, Json
from bough.runner.journal import NotYet
from bough.runner.lineage import workspace_of
from bough.runner.llm.mailbox import Mailbox, shown
from bough.runner.llm.tool import Arguments, Gave, Tool
from bough.runner.merging import merge_agents, merged_of, wishes_of
from bough.runner.plan import Order, plan
from bough.runner.workplace import commit_work

AgentId = Annotated[str, Field(description="An agent's id, or its first digits.")]


class Spawn(Arguments):
    """Arguments of spawn."""

    task: Annotated[str, Field(description="All that it must know.", min_length=1)]
    budget: Annotated[str, Field(description="Tokens from your own: 2000, 30k, 1.5M.")]
    role: Annotated[str, Field(description="One that the project has; empty: none.")] = ""
    command: Annotated[
        list[str], Field(description="A program to run instead of a model, as words.")
    ] = Field(default_factory=list[str])
    timeout: Annotated[str, Field(description="Like 15m; empty: none.")] = ""


class Wait(Arguments):
    """Arguments of wait."""

    agents: Annotated[list[str], Field(description="Ids of agents that you spawned.", min_length=1)]
    any: Annotated[bool, Field(description="Until one of them has ended, not all.")] = False


class Merge(Arguments):
    """Arguments of merge."""

    agent: AgentId


class Send(Arguments):
    """Arguments of send."""

    to: Annotated[str, Field(description="parent, root, operator (a person), or an agent's id.")]
    text: Annotated[str, Field(description="At most 10 KB.")]
    priority: Literal["critical", "high", "normal", "low"] = "normal"


class Inbox(Arguments):
    """Arguments of inbox."""

    wait: Annotated[bool, Field(description="If there is no mail, wait for some.")] = False


class RequestApproval(Arguments):
    """Arguments of request_approval."""

    question: Annotated[str, Field(description="What you want to do, and why.", min_length=1)]
    expires: Annotated[str, Field(description="Like 10m; then it is rejected.")] = "1h"


class Report(Arguments):
    """Arguments of report."""

    text: Annotated[str, Field(description="One line.")]
    progress: Annotated[float | None, Field(description="0 to 1.", ge=0, le=1)] = None


class Finish(Arguments):
    """Arguments of finish."""

    result: Annotated[
        dict[str, Any], Field(description='What came out, like {"summary": "tests pass"}.')
    ] = Field(default_factory=dict[str, Any])
    error: Annotated[str, Field(description="Why you could not do it; empty: you did.")] = ""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one agent."""

    client: RemoteClient
    agent_id: UUID
    root: Path
    mailbox: Mailbox

    async def _saved(self) -> Agent:
        """This agent, with its files committed, so that others can start from them."""
        me = await self.client.show(self.agent_id)
        if me.worktree_path:
            await commit_work(workspace_of(me), me)
        return me

    async def spawn(self, told: Spawn, key: UUID) -> Gave:
        """A child, and its id."""
        hints: list[str] = []
        me = await self._saved()
        order = Order(
            task=told.task,
            words=told.command,
            role=told.role or None,
            budget=_amount(tokens_of, told.budget),
            repo=self.root,
            timeout_s=_amount(seconds_of, told.timeout) if told.timeout else None,
            usual="llm",
        )
        made = await self.client.spawn(
            replace(await plan(self.client, me, order, hints.append), key=key)
        )
        found: Json = {"id": str(made.id), "budget": order.budget}
        return Gave(_json(found | ({"hints": hints} if hints else {})))

    async def wait(self, told: Wait, key: UUID) -> Gave:
        """How agents have ended."""
        del key
        agents = [await self._child(name) for name in dict.fromkeys(told.agents)]
        over = [a.has_ended for a in agents]
        if all(over) or (told.any and any(over)):
            return Gave(_json([_brief(a) for a in agents]))
        await self.mailbox.take()
        if self.mailbox.has_news:
            brief = [_brief(a) for a in agents]
            return Gave(_json({"not yet": brief, "why": "mail has come, see below"}))
        raise NotYet(
            for_children="any" if told.any else "all",
            children=[str(a.id) for a in agents],
            for_messages=True,
        )

    async def _child(self, name: str) -> Agent:
        agent = await self.client.show(await self.client.find(name))
        if agent.parent_id != self.agent_id:
            raise InvalidInput(f"agent {name} is no child of yours; wait for it by inbox")
        return agent

    async def merge(self, told: Merge, key: UUID) -> Gave:
        """A child's work in this agent's branch."""
        del key
        await self._saved()
        agent = await self.client.show(await self.client.find(told.agent))
        [wish] = await wishes_of([agent], None, None)
        [merge] = await merge_agents(self.client, self.client.listening, [wish])
        done = await merged_of(wish, merge)
        found = {"into": done.target, "commit": done.commit, "was_there": done.already_contained}
        counts = {"files": agent.files_changed, "added": agent.lines_added}
        return Gave(_json(found | counts))

    async def send(self, told: Send, key: UUID) -> Gave:
        """A message in a mailbox."""
        to = await self.client.find(told.to)
        await self.client.send(
            key,
            sender_id=self.agent_id,
            recipient_id=to,
            payload={"text": told.text},
            priority=told.priority,
        )
        return Gave("sent")

    async def inbox(self, told: Inbox, key: UUID) -> Gave:
        """Mail, which is done with when this is recorded."""
        del key
        mail: list[Mail] = await self.mailbox.waiting()
        if not mail and told.wait:
            raise NotYet(for_messages=True)
        if not mail:
            return Gave("(no mail)")
        return Gave("\n".join(map(shown, mail)), [m.id for m in mail])

    async def request_approval(self, told: RequestApproval, key: UUID) -> Gave:
        """What a person has decided."""
        await self.client.request_approval(
            key,
            self.agent_id,
            epoch=0,
            question=told.question,
            expires_s=_amount(seconds_of, told.expires),
        )
        [found] = await self.client.approvals(key, pending=False)
        if found.status == "pending":
            raise NotYet(for_approval=str(key))
        return Gave(_json({"status": found.status, "answer": found.answer}))

    async def report(self, told: Report, key: UUID) -> Gave:
        """How far it is."""
        del key
        await self.client.report(self.agent_id, epoch=0, progress=told.progress, note=told.text)
        return Gave("noted")

    async def finish(self, told: Finish, key: UUID) -> Gave:
        """The result, which holds when the program has ended."""
        del key
        await self.client.finish(
            self.agent_id, epoch=0, result=told.result, error_message=told.error or None
        )
        return Gave("ended")

    def tools(self) -> list[Tool]:
        """The tools, in the order in which they are shown."""
        return [
            Tool(name="spawn", text="Start an agent below you, with your model unless its role has"
                 " another; it begins with your files as they are now. Gives its id.",
                 arguments=Spawn, act=self.spawn, needs="spawn"),
            Tool(name="wait", text="Wait until agents have ended; gives their results. Costs"
                 " nothing meanwhile. Returns early when other mail comes.",
                 arguments=Wait, act=self.wait),
            Tool(name="merge", text="Bring the work of an agent that has ended into your branch and"
                 " files. A conflict changes nothing and names the paths.",
                 arguments=Merge, act=self.merge, needs="merge"),
            Tool(name="send", text="Write to an agent or a person.", arguments=Send,
                 act=self.send, needs="send"),
            Tool(name="inbox", text="Read your mail now; what comes between your answers is shown"
                 " to you anyway.", arguments=Inbox, act=self.inbox),
            Tool(name="request_approval", text="Ask a person and wait for the decision.",
                 arguments=RequestApproval, act=self.request_approval, needs="request_approval"),
            Tool(name="report", text="Say how far you are.", arguments=Report, act=self.report),
            Tool(name="finish", text="End your work, with its result.", arguments=Finish,
                 act=self.finish),
        ]  # fmt: skip


def _amount(read: Any, text: str) -> int:
    try:
        return read(text)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _brief(agent: Agent) -> Json:
    found: Json = {"id": str(agent.id), "status": agent.status, "result": agent.result}
    if agent.error_code:
        found["error"] = f"{agent.error_code}: {agent.error_message}"
    return found | {"files_changed": agent.files_changed, "tokens_used": agent.subtree_used}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
