"""Agents that are functions: a module in the test's repository, and what became of an agent."""

from textwrap import dedent
from typing import Any

from cli import Shell, until
from psycopg.types.json import Jsonb

TEAM = """
    import asyncio, json, os
    from pathlib import Path

    PLACE = Path({place!r})

    def note(what):
        with (PLACE / "notes").open("a") as file:
            file.write(what + "\\n")

    async def gate(name="go"):
        while not (PLACE / name).exists():
            await asyncio.sleep(0.01)
"""


def team(shell: Shell, text: str) -> None:
    """A module `team` in the repository, with `note`, `gate` and what a test adds."""
    lead = dedent(TEAM).format(place=str(shell.place))
    (shell.repo / "team.py").write_text(lead + dedent(text))
    shell.commit("a team")


def start(shell: Shell, name: str = "main", *, budget: int = 100_000, task: str = "t") -> str:
    """A root agent that is the function `name` of the module, or the one at a path."""
    return shell.value(
        "select id::text from bough_api.spawn(key => gen_random_uuid(), parent_id => null,"
        " task => %s, role => 'agent', budget => %s, driver => 'function', program => %s,"
        " repo_path => %s, base_commit => %s, target_branch => 'main', runner_id => null,"
        " timeout_s => null, max_depth => null, max_children => null, max_running => null)",
        task,
        budget,
        Jsonb({"function": name if ":" in name else f"team:{name}"}),
        str(shell.repo),
        shell.git("rev-parse", "main"),
    )


def notes(shell: Shell) -> list[str]:
    path = shell.place / "notes"
    return path.read_text().splitlines() if path.exists() else []


def waits(shell: Shell, agent: str) -> None:
    """The agent is parked, and no process is left of it."""
    shell.reaches(agent, "waiting")
    until(lambda: shell.programs() == [], "no process is left")


def result(shell: Shell, agent: str) -> Any:
    until(lambda: shell.column("completed_at", agent), f"{agent} ends")
    told = (shell.column("error_message", agent), shell("logs", agent).out)
    assert shell.column("status", agent) == "completed", told
    return shell.column("result", agent)


def error(shell: Shell, agent: str) -> str:
    shell.reaches(agent, "failed")
    assert shell.column("error_code", agent) == "agent_failed"
    return shell.column("error_message", agent)
