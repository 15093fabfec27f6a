"""Verbs that start agents: run, spawn, runner."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from bough.client.client import Spawn
from bough.client.database import open_client, operator
from bough.client.embedded import default_home
from bough.client.errors import AgentEnded, AgentNotFound, NotYours
from bough.client.hints import listening
from bough.client.insist import insist
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner.drivers import DRIVERS
from bough.runner.plan import Order, plan
from bough.runner.runner import Runner
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    AnyCommand,
    Duration,
    Tokens,
    asynchronous,
    chosen_address,
    connected,
    inside,
    json_option,
    named,
)
from bough.surfaces.cli.watch import follow, summarize
from bough.surfaces.models_wanted import Models, models_wanted

_OPTIONS = [
    click.argument("task"),
    click.argument("command", metavar="[-- CMD …]", nargs=-1, type=click.UNPROCESSED),
    click.option("--role", help="Its prompt and its usual options; see bough role list."),
    click.option("--budget", type=Tokens(), help="Tokens: 2000, 30k, 1.5M.  [a root: 100k]"),
    click.option(
        "--repo",
        type=click.Path(path_type=Path),
        default=".",
        help="The git repository.  [the current one]",
    ),
    click.option(
        "--base",
        multiple=True,
        metavar="REF",
        help="Start from this branch, commit or agent; several: from their merge.",
    ),
    click.option("--ports", type=click.IntRange(0, 100), help="Ports of its own: BOUGH_PORTS."),
    click.option("--scratch", is_flag=True, help="A directory outside git: BOUGH_SCRATCH."),
    click.option("--driver", help=f"{', '.join(DRIVERS)}.  [command]"),
    click.option("--model", help="The model that an agent program shall use."),
    click.option("--timeout", type=Duration(), help="Stop it after this time: 90s, 15m, 2h."),
    click.option("--max-depth", type=click.IntRange(0), help="Levels allowed below it."),
    click.option("--max-children", type=click.IntRange(0), help="Children of each agent below."),
    click.option("--max-running", type=click.IntRange(1), help="Running at once in its subtree."),
    json_option,
]


def _spawn_options(command: AnyCommand) -> AnyCommand:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


async def _plan(client: RunnerClient, parent: Agent | None, options: dict[str, Any]) -> Spawn:
    """Everything checked that can be before anything is made."""
    told = dict(options)
    order = Order(words=told.pop("command"), timeout_s=told.pop("timeout"), **told)
    return await plan(client, parent, order, render.hint)


@click.command(
    epilog="\b\nExamples:\n"
    '  bough run "tidy the code" -- ruff format .\n'
    '  bough run "make the tests pass" --budget 200k --timeout 30m -- ./agent.sh {task}\n'
    '  bough run "fix the failing test" --driver claude --budget 200k\n'
    '  bough run "plan the move to v2" --role architect --driver codex\n'
    '  bough run "write the tests" --driver llm --model anthropic:claude-sonnet-4-5\n'
    '  bough run "sum it up" --driver function -- mypackage.team:coordinator\n\n'
    "The program finds its task in BOUGH_TASK and its role's text in BOUGH_ROLE_FILE; {task}, "
    "{prompt} and {role_file} in its arguments stand for them too."
)
@_spawn_options
@asynchronous
async def run(as_json: bool, **options: Any) -> int:
    """Start an agent here, show its progress, and wait for its end."""
    if inside():
        raise NotYours("inside an agent, spawn a child and wait for it: bough spawn; bough wait")
    _log_for_people()
    # First of all: what is started from here on must not inherit a provider's key.
    models = models_wanted(os.environ)
    dsn = await chosen_address()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(dsn, actor=operator(), pooled=8))
        what = await _plan(client, None, options)
        # The root's id is ours, so the runner can be told its tree before it exists.
        runner = Runner(client, dsn, home=default_home(), slots=8, root_id=what.key)
        await stack.enter_async_context(_doors(runner, dsn, models))
        await runner.enroll()
        task = asyncio.current_task()
        if task:
            _on_signals(task.cancel, signal.SIGTERM, signal.SIGHUP)
        driving = asyncio.create_task(runner.run())
        interrupted = False
        try:
            await client.spawn(replace(what, runner_id=runner.id))
            await _until_ended(client, dsn, what.key)
        except asyncio.CancelledError:
            interrupted = True
            await _end(client, what.key)
        finally:
            runner.stop()
            await asyncio.gather(driving, return_exceptions=True)
        agent = await insist(lambda: client.show(what.key))
        work = await insist(lambda: client.subtree_work(what.key))
    if as_json:
        render.print_json(render.agent_json(agent, work))
    else:
        summarize(agent)
    return 130 if interrupted else 0 if agent.status == "completed" else 1


@asynccontextmanager
async def _doors(runner: Runner, dsn: str, models: Models) -> AsyncGenerator[None]:
    # Starting a server is slow to import, and most commands start none.
    from bough.surfaces.agent_api.server import open_door
    from bough.surfaces.model_door import open_models

    async with open_models(runner, dsn, models), open_door(runner, dsn):
        yield


def _log_for_people(*, level: int = logging.WARNING) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    # It says once more, and longer, what the runner says.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _on_signals(callback: Callable[[], object], *numbers: signal.Signals) -> None:
    for number in numbers:
        # nohup has SIGHUP ignored, and so it stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, callback)


async def _until_ended(client: RunnerClient, dsn: str, agent_id: UUID) -> None:
    agent = await insist(lambda: client.show(agent_id))
    render.hint(f"agent {str(agent.id)[:8]} in {agent.repo_path}; stop it with Ctrl-C")
    await follow(client, partial(listening, dsn), agent, to_stderr=True)


async def _end(client: RunnerClient, agent_id: UUID) -> None:
    task = asyncio.current_task()
    if task:
        task.uncancel()
    try:
        await client.terminate(agent_id, reason="interrupted")
    except AgentEnded:
        return
    except AgentNotFound as never_made:
        raise click.Abort from never_made


@click.command(
    epilog="\b\nExamples:\n"
    '  id=$(bough spawn "write the parser" --budget 30k -- ./impl.sh)\n'
    '  bough spawn "test it" --parent $id --budget 10k -- ./test.sh\n\n'
    "A runner starts it: bough runner"
)
@_spawn_options
@click.option("--parent", metavar="ID", help="Make it a child of this agent, from its budget.")
@asynchronous
async def spawn(as_json: bool, parent: str | None, **options: Any) -> None:
    """Create an agent for a runner; inside an agent, a child. Prints its id."""
    async with connected() as client:
        me = inside()
        above = await named(client, parent or str(me)) if parent or me else None
        what = await _plan(client, above, options)
        await client.spawn(what)
        if as_json:
            render.print_json(render.agent_json(await client.show(what.key)))
        else:
            click.echo(str(what.key))
            if not me and not any(r.alive for r in await client.runners()):
                render.hint("no runner is running; start one: bough runner")


@click.command(epilog="\b\nExamples:\n  bough runner\n  bough runner --slots 20")
@click.option("--slots", default=8, show_default=True, type=click.IntRange(1, 1000))
@json_option
@asynchronous
async def runner(slots: int, as_json: bool) -> int:
    """Claim and run agents until stopped; what is interrupted, the next runner resumes."""
    _log_for_people(level=logging.INFO)
    models = models_wanted(os.environ)
    dsn = await chosen_address()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            open_client(dsn, actor=operator(), pooled=min(slots, 10) + 4)
        )
        worker = Runner(client, dsn, home=default_home(), slots=slots)
        task = asyncio.current_task()

        def stop() -> None:
            worker.stop()
            if task:
                # Asked again, it leaves at once; whatever is not recorded is resumed elsewhere.
                _on_signals(task.cancel, *signals)

        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        _on_signals(stop, *signals)
        await stack.enter_async_context(_doors(worker, dsn, models))
        await worker.enroll()
        if as_json:
            render.print_json({"id": worker.id, "slots": slots})
        click.echo(f"runner {str(worker.id)[:8]} waits for agents, {slots} at once", err=True)
        await worker.run()
        left = worker.handed_back
        if left:
            click.echo(f"handed back {left} agents; the next runner resumes them", err=True)
    return 0
