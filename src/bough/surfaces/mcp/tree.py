"""Tools about agents: spawn, wait, ps, tree, show, logs, diff, merge, budget, kill, pause, resume.

Each does what the verb of the same name does at the command line, by the same client and the same
plan of a spawn. Raises BoughError and GitError, which become the result.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bough.client.amounts import seconds_of, tokens_of
from bough.client.errors import InvalidInput, NotYours
from bough.client.hints import tree_channel
from bough.client.rows import Agent
from bough.runner.lineage import workspace_of
from bough.runner.llm.entry import cut
from bough.runner.merging import forecast, merge_agents, merged_of, wishes_of
from bough.runner.plan import Order, plan
from bough.runner.workspaces.changes import diff as diff_of
from bough.surfaces.cli.render import agent_json
from bough.surfaces.mcp.acting import Acting, Call, Who, answer, until

Id = Annotated[str, Field(description="An agent's id, or its first digits, like a7f2.")]
Tokens = Annotated[str, Field(description="Tokens: 2000, 30k or 1.5M; empty: the usual.")]
_MOST_AGENTS = 100


def brief(agent: Agent) -> dict[str, Any]:
    """What one needs to know of an agent among others; budgets in tokens."""
    task = agent.task.strip()
    found: dict[str, Any] = {
        "id": agent.id,
        "role": agent.role,
        "status": agent.status,
        "task": task if len(task) <= 200 else f"{task[:200]}…",
        "used": agent.subtree_used,
        "allocated": agent.allocated,
    }
    more = {
        "parent_id": agent.parent_id,
        "reason": agent.status_reason,
        "progress": agent.progress,
        "note": agent.progress_note,
        "files_changed": agent.files_changed,
        "merged_into": agent.merged_into,
        "result": cut(answer(agent.result), 4000) if agent.result else None,
        "error": agent.error_message,
    }
    return found | {name: value for name, value in more.items() if value is not None}


class TreeTools:
    """The tools, for whoever calls."""

    def __init__(self, who: Who) -> None:
        self._who = who

    async def spawn(
        self,
        ctx: Call,
        task: Annotated[str, Field(description="All that the agent must know; it sees no more.")],
        budget: Tokens = "",
        role: Annotated[str, Field(description="Like implementer; empty: none.")] = "",
        driver: Annotated[str, Field(description="Like claude or codex; empty: by role.")] = "",
        command: Annotated[
            list[str] | None, Field(description='A program instead, like ["make", "test"].')
        ] = None,
        model: Annotated[str, Field(description="The model to use; empty: the usual.")] = "",
        timeout: Annotated[str, Field(description="Like 90s, 15m, 2h; empty: none.")] = "",
        max_depth: Annotated[int | None, Field(description="Levels allowed below it.")] = None,
        parent: Annotated[str, Field(description="Whose child it is; empty: yours.")] = "",
        repo: Annotated[str, Field(description="Only for a person: the git repository.")] = "",
    ) -> str:
        """Start an agent below you, paid from your tokens, in a worktree of its own that begins
        with your last commit. Example: {"task": "Write tests for src/parse.py; run pytest", "role":
        "tester", "budget": "30k"}. Returns its id; then use wait, diff and merge."""
        acting = await self._who(ctx)
        above = await acting.named(parent or str(acting.me)) if parent or acting.me else None
        if acting.me and (repo or not (above and above.repo_path)):
            raise NotYours("an agent's children start from its own commit; leave repo out")
        try:
            order = Order(
                task=task,
                words=command or (),
                role=role or None,
                budget=tokens_of(budget) if budget else None,
                driver=driver or None,
                model=model or None,
                timeout_s=seconds_of(timeout) if timeout else None,
                max_depth=max_depth,
                repo=Path(repo or "."),
            )
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        hints: list[str] = []
        what = await plan(acting.client, above, order, hints.append)
        made = await acting.client.spawn(what)
        found: dict[str, Any] = {"id": made.id, "status": made.status, "budget": what.budget}
        return answer(found | ({"hints": hints} if hints else {}))

    async def wait(
        self,
        ctx: Call,
        ids: Annotated[list[str], Field(description="Agents, by id or first digits.")],
        any: bool = False,
        seconds: Annotated[int, Field(description="0 to 45.")] = 45,
    ) -> str:
        """Wait until these agents have ended, or one of them with any. Returns after at most 45
        seconds: if done is false, call again. Example: {"ids": ["a7f2", "91c0"]}."""
        acting = await self._who(ctx)
        if not ids:
            raise InvalidInput("say which agents to wait for")
        agents = [await acting.named(i) for i in ids]

        async def ended() -> bool:
            agents[:] = [a if a.has_ended else await acting.client.show(a.id) for a in agents]
            over = [a.has_ended for a in agents]
            return all(over) or (any and True in over)

        channels = {tree_channel(a.root_id) for a in agents}
        done = await until(acting, ctx, seconds, ended, *channels)
        found: dict[str, Any] = {"done": done, "agents": [brief(a) for a in agents]}
        return answer(found if done else found | {"next": "still running, call again"})

    async def ps(
        self,
        ctx: Call,
        all: Annotated[bool, Field(description="Also those that have ended.")] = False,
    ) -> str:
        """List agents that live, you and what is below you, newest first; at most 100."""
        acting = await self._who(ctx)
        agents = await acting.client.ps(ended=all, limit=_MOST_AGENTS)
        return answer([brief(a) for a in agents[:_MOST_AGENTS]])

    async def tree(self, ctx: Call, id: Annotated[str, Field(description="Or empty.")] = "") -> str:
        """List the whole tree of an agent (yours if empty), each parent before its children."""
        acting = await self._who(ctx)
        agent = await acting.named(id or _mine(acting))
        found = await acting.client.tree(agent.root_id)
        cut = {"left_out": len(found) - _MOST_AGENTS} if len(found) > _MOST_AGENTS else {}
        return answer({"agents": [brief(a) for a in found[:_MOST_AGENTS]]} | cut)

    async def show(self, ctx: Call, id: Id) -> str:
        """Show all there is to know of one agent: state, budget in tokens, workspace, result."""
        acting = await self._who(ctx)
        return answer(agent_json(await acting.named(id)))

    async def logs(
        self,
        ctx: Call,
        id: Id,
        last: Annotated[int, Field(description="So many characters from the end.")] = 8000,
    ) -> str:
        """Read what an agent's program has printed, the end of it."""
        acting = await self._who(ctx)
        agent = await acting.named(id)
        pieces = [line.content for line in await acting.client.logs(agent.id, page=100_000)]
        text = "".join(pieces)
        return text[-max(1, last) :] if text else "(nothing was printed)"

    async def diff(self, ctx: Call, id: Id, stat: bool = False) -> str:
        """Show what an agent changed, with what is not committed yet; stat: only how much."""
        acting = await self._who(ctx)
        agent = await acting.named(id)
        text = await diff_of(workspace_of(agent), stat=stat, tip=agent.head_commit)
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") or "(no change)"

    async def merge(
        self,
        ctx: Call,
        id: Id,
        into: Annotated[str, Field(description="A branch; empty: where it came from.")] = "",
        dry_run: Annotated[bool, Field(description="Only say whether it would work.")] = False,
    ) -> str:
        """Merge the work of an agent that has ended into the branch it came from, yours if you
        spawned it. A conflict changes nothing and names the paths."""
        acting = await self._who(ctx)
        agent = await acting.named(id)
        wishes = await wishes_of([agent], into or None, None)
        if dry_run:
            [outcome] = await forecast(wishes)
            if outcome.error:
                raise outcome.error
            return answer({"into": wishes[0].target, "commit": outcome.commit, "dry_run": True})
        [merge] = await merge_agents(acting.client, acting.listen, wishes)
        done = await merged_of(wishes[0], merge)
        found = {"into": done.target, "commit": done.commit, "dry_run": False}
        return answer(found | {"it_was_there": done.already_contained})

    async def budget(
        self, ctx: Call, id: Annotated[str, Field(description="Or empty.")] = ""
    ) -> str:
        """Show an account in tokens (yours if empty): available is what may still be spent."""
        acting = await self._who(ctx)
        agent = await acting.named(id or _mine(acting))
        names = "allocated used reserved available overdraft subtree_used frozen_at"
        return answer({"id": agent.id} | {name: getattr(agent, name) for name in names.split()})

    async def grant(self, ctx: Call, id: Id, tokens: Tokens) -> str:
        """Give an agent below you more tokens, from its parent's account."""
        acting = await self._who(ctx)
        try:
            count = tokens_of(tokens)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        done = await acting.client.grant_budget(await acting.client.find(id), count)
        return answer({"id": id, "allocated": done.allocated})

    async def kill(self, ctx: Call, id: Id, reason: str = "not needed any more") -> str:
        """End an agent below you and all below it; budgets come back, work stays on branches."""
        acting = await self._who(ctx)
        ended = await acting.client.terminate(await acting.client.find(id), reason=reason)
        return answer({"terminated": [e.id for e in ended]})

    async def pause(self, ctx: Call, id: Id, reason: str = "paused") -> str:
        """Hold an agent below you and all below it where they are, until resume."""
        acting = await self._who(ctx)
        held = await acting.client.pause(await acting.client.find(id), reason=reason)
        return answer({"paused": [h.id for h in held]})

    async def resume(self, ctx: Call, id: Id) -> str:
        """Let an agent that was paused, and all below it, go on."""
        acting = await self._who(ctx)
        going = await acting.client.resume(await acting.client.find(id))
        return answer({"resumed": [g.id for g in going]})


def _mine(acting: Acting) -> str:
    if acting.me is None:
        raise InvalidInput("say which agent: its id, or its first digits; see ps")
    return str(acting.me)
