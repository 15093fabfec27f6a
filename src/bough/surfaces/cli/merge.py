"""The verb merge: what agents did goes into branches, alone or in a batch, or is handed on.

Exit codes: 0 all landed, 1 a gate failed, 5 a conflict or a refusal, 8 a resolver is at work on
the conflict. With several, that of the first that did not land.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from bough.client.errors import InvalidInput
from bough.client.merges import Merge
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner.drivers import program_of
from bough.runner.merging import Wish, error_of, forecast, merge_agents, wishes_of, work_queue
from bough.runner.plan import ROOT_BUDGET
from bough.runner.presets.preset import UnknownProgram
from bough.runner.resolving import Means, spawn_resolver
from bough.runner.workspaces.batch import GateFailed
from bough.runner.workspaces.git import GitError, open_repository
from bough.runner.workspaces.settings import STRATEGIES
from bough.runner.workspaces.trees import MergeConflict
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    Tokens,
    asynchronous,
    attached,
    id_argument,
    json_option,
    named,
)

_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class _Told:
    """One merge as it is shown: how it went, or would go."""

    agent: Agent
    into: str
    strategy: str
    status: str
    previous: str | None
    commit: str | None
    error: GitError | None
    dry_run: bool
    resolver: UUID | None = None

    @property
    def kinds(self) -> dict[str, str]:
        if not isinstance(self.error, MergeConflict):
            return {}
        return {path: self.error.kinds.get(path, "") for path in self.error.paths}

    def json(self) -> dict[str, Any]:
        return {
            "id": self.agent.id,
            "into": self.into,
            "strategy": self.strategy,
            "status": self.status,
            "commit": self.commit,
            "previous": self.previous,
            "conflicts": list(self.kinds),
            "kinds": {path: kind for path, kind in self.kinds.items() if kind},
            "reason": str(self.error) if self.error else None,
            "gate_output": self.error.output if isinstance(self.error, GateFailed) else None,
            "resolver_id": self.resolver,
            "dry_run": self.dry_run,
        }

    def line(self, *, alone: bool) -> str:
        short = str(self.agent.id)[:8]
        if self.commit == self.previous:
            return f"{self.into} has {'it' if alone else short} already"
        verb = "would merge" if self.dry_run else "merged"
        what = render.changed(self.agent) if self.agent.files_changed is not None else "its work"
        return f"{verb} {short} ({what}) into {self.into} as {str(self.commit)[:10]}"


class _WithProgram(click.Command):
    """A command whose words after `--` are a program, not more ids."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the program aside."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta["program"] = args[place + 1 :]
        return super().parse_args(ctx, args[:place])


@dataclass(frozen=True, slots=True)
class _Resolving:
    """Whether and with what a conflict is handed on."""

    wanted: bool
    budget: int | None
    words: list[str] = field(default_factory=list[str])

    def means(self, agent: Agent) -> Means:
        """What the resolver of an agent's conflict gets. Raises InvalidInput."""
        if self.budget is None and agent.parent_id:
            raise InvalidInput(
                "say how much of the parent's tokens the resolver gets: --budget 30k"
            )
        driver, program = agent.driver, agent.program
        if self.words:
            try:
                driver, program = "command", program_of("command", self.words)
            except UnknownProgram as error:
                raise InvalidInput(str(error)) from error
        return Means(self.budget or ROOT_BUDGET, driver, program)


@click.command(
    cls=_WithProgram,
    epilog="\b\nExamples:\n  bough merge a7f2                   into the branch it came from\n"
    "  bough merge a7f2 b91c c03d         in this order, gates run once for all\n"
    "  bough merge a7f2 --into release --dry-run\n"
    "  bough merge a7f2 --resolve --budget 30k -- ./agent.sh {task}\n"
    "  bough merge --queue                finish what others left in line\n\n"
    "A conflict changes nothing and exits with 5. Strategy, hooks, signing and gates come from "
    "[merge] in bough.toml of the branch that takes it.",
)
@id_argument("agent_ids", many=True, required=False)
@click.option("--into", metavar="BRANCH", help="The branch that takes it.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="[bough.toml, or merge]")
@click.option("--dry-run", is_flag=True, help="Only say whether it would work; runs no gate.")
@click.option("--resolve", is_flag=True, help="Hand a conflict to a new agent; prints its id.")
@click.option("--budget", type=Tokens(), help="Tokens of the resolver.  [a root: 100k]")
@click.option("--queue", is_flag=True, help="Do what waits in this repository, whoever asked.")
@json_option
@asynchronous
async def merge(agent_ids: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Merge the work of agents into the branch they came from, or another."""
    if bool(agent_ids) == options["queue"]:
        raise click.UsageError("give the ids of agents, or --queue")
    resolving = _Resolving(
        options["resolve"], options["budget"], click.get_current_context().meta["program"]
    )
    async with attached() as (client, listen):
        if options["queue"]:
            return _show(await _queue(client), as_json=as_json, alone=False)
        agents = [await named(client, prefix) for prefix in agent_ids]
        if resolving.wanted:
            for agent in agents:
                resolving.means(agent)
        wishes = await wishes_of(agents, options["into"], options["strategy"])
        if options["dry_run"]:
            told = await _forecast(wishes)
        else:
            merges = await merge_agents(client, listen, wishes, tell=render.hint)
            told = [await _told(client, m, w, resolving) for m, w in _paired(merges, wishes)]
    return _show(told, as_json=as_json, alone=len(agents) == 1)


def _paired(merges: list[Merge], wishes: list[Wish]) -> list[tuple[Merge, Wish]]:
    # Both are in the order in which they were queued.
    return list(zip(merges, wishes, strict=True))


async def _told(client: RunnerClient, merge: Merge, wish: Wish, resolving: _Resolving) -> _Told:
    error = error_of(merge)
    resolver = None
    if resolving.wanted and merge.status == "conflicted":
        means = resolving.means(wish.agent)
        resolver = await spawn_resolver(client, wish, merge, means)
    return _of_row(merge, wish.agent, error, resolver)


def _of_row(merge: Merge, agent: Agent, error: GitError | None, resolver: UUID | None) -> _Told:
    ends = (merge.previous_commit, merge.merged_commit)
    how = (merge.branch, merge.strategy, merge.status)
    return _Told(agent, *how, *ends, error, dry_run=False, resolver=resolver)


async def _forecast(wishes: list[Wish]) -> list[_Told]:
    return [
        _Told(
            wish.agent,
            wish.target,
            outcome.strategy,
            outcome.status,
            outcome.previous or None,
            outcome.commit or None,
            outcome.error,
            dry_run=True,
        )
        for wish, outcome in zip(wishes, await forecast(wishes), strict=True)
    ]


async def _queue(client: RunnerClient) -> list[_Told]:
    repository = await open_repository(Path.cwd())
    done = await work_queue(client, repository, str(repository.root), tell=render.hint)
    return [_of_row(m, await client.show(m.agent_id), error_of(m), None) for m in done]


def _show(told: list[_Told], *, as_json: bool, alone: bool) -> int:
    if as_json:
        render.print_json(told[0].json() if alone else [one.json() for one in told])
    codes = [_show_one(one, as_json=as_json, alone=alone) for one in told]
    return next(filter(None, codes), 0)


def _show_one(one: _Told, *, as_json: bool, alone: bool) -> int:
    """Say how one went; its exit code. Raises what kept it from landing when it is alone."""
    short = str(one.agent.id)[:8]
    if not as_json:
        _print(one, alone=alone)
    if one.resolver:
        new = str(one.resolver)[:8]
        render.hint(f"{one.error}; then: bough wait {new} && bough merge {new}")
        return 8
    if one.error is None:
        return 0
    if alone:
        raise one.error
    if not as_json:
        click.echo(f"bough: {short}: {one.error}", err=True)
    return 1 if isinstance(one.error, GateFailed) else 5


def _print(one: _Told, *, alone: bool) -> None:
    """What there is beside the error: the outcome, paths, the resolver's id, a gate's output."""
    short = str(one.agent.id)[:8]
    if one.error is None:
        click.echo(one.line(alone=alone))
    if one.dry_run:
        for path, kind in one.kinds.items():
            shown = path if path.isprintable() else repr(path)
            click.echo("\t".join([*([short] * (not alone)), shown, kind]))
    if one.resolver:
        click.echo(str(one.resolver))
    if isinstance(one.error, GateFailed):
        tail = render.harmless(one.error.output).splitlines()[-_TAIL_LINES:]
        click.echo("\n".join(tail), err=True)
