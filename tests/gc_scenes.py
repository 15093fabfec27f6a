"""Agents that ended long ago, and what must be true after their worktrees were collected.

PYTEST_DONT_REWRITE: imported as a module.
"""

import json
from pathlib import Path

from cli import Shell


def work(shell: Shell, script: str = "echo new > new", *options: object, code: int = 0) -> str:
    """An agent that has done something and ended."""
    done = shell("run", "t", *options, "--json", "--", "sh", "-c", script, code=code)
    return str(json.loads(done.out)["id"])


def worktree(shell: Shell, agent: str) -> Path:
    return Path(shell.column("worktree_path", agent))


def unused_for(shell: Shell, agent: str, days: float) -> None:
    """Let the last use of an agent's worktree be so many days ago."""
    with shell.ago(days * 86_400):
        for update in (
            "update bough.workspaces set updated_at = bough.now() where agent_id = %s",
            "update bough.agents set completed_at = bough.now() where id = %s",
        ):
            shell.look.execute(update.encode(), (agent,))


def status(shell: Shell, *agents: str) -> list[str]:
    return [shell.column("isolation_status", agent) for agent in agents]


def everything_reached(shell: Shell) -> set[str]:
    """Every file's content and every commit that a ref reaches."""
    return {line[:40] for line in shell.git("rev-list", "--objects", "--all").splitlines()}


def blob(shell: Shell, text: str) -> str:
    """The id of a file with this content."""
    place = shell.place / "content"
    place.write_text(text)
    return shell.git("hash-object", str(place))
