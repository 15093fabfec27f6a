"""What a preset is: how one program is started headless as an agent, and what is known of it.

Guarantees: nothing of a preset is written into the worktree or the person's real home; the token of
the agent is in no command line. Raises UnknownProgram for an agent that cannot be started so.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bough.client.rows import Claimed
from bough.client.tools import KINDS
from bough.runner.launch import Launch, Own
from bough.runner.lineage import email_of
from bough.runner.roles.briefing import prompt_of

BRIEFING = "briefing.md"
ROLE_FILE = "role.md"
_GO_ON = (
    "You were interrupted or have waited, and are started again where you were. Look at your mail"
    " and at the agents below you, then go on with your task:\n\n"
)


class UnknownProgram(Exception):
    """The agent's program is not what its driver needs; one line that says what to give."""


class NoKey(UnknownProgram):
    """No variable that opens a model is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One program.

    install: how to get it. wires: the APIs it speaks to models. keys: variables of which one must
    be set. limit: "hard" when every call can go through the gateway, "none" when none can, so
    nothing is metered. exits: what is false about its exit code, empty when nothing is known.
    deniable: the kinds of tools that it can go without. launch: makes its command line.
    """

    name: str
    program: str
    install: str
    wires: tuple[str, ...]
    keys: tuple[str, ...]
    limit: str = "hard"
    needs_model: bool = False
    mcp: bool = False
    resumes: bool = False
    exits: str = ""
    deniable: frozenset[str]
    launch: Callable[[Claimed, Own], Launch]

    def __call__(self, agent: Claimed, own: Own) -> Launch:
        """The command line of an agent, checked. Raises UnknownProgram, NoKey."""
        self.check(agent.program)
        if not any(own.env.get(key) for key in self.keys):
            raise NoKey(
                f"{self.name} needs a model: set {' or '.join(self.keys)} where the runner starts"
            )
        made = self.launch(agent, own)
        prompt = prompt_of(agent)
        if prompt:
            made.files[ROLE_FILE] = prompt
            made.env["BOUGH_ROLE_FILE"] = str(own.directory / ROLE_FILE)
        extra = [str(word) for word in cast("list[object]", agent.program.get("argv") or [])]
        return Launch([*made.argv, *extra], made.env, made.files)

    def check(self, program: Mapping[str, Any]) -> None:
        """Refuse at spawn what could never start. Raises UnknownProgram."""
        if self.needs_model and not program.get("model"):
            raise UnknownProgram(f"{self.name} has no model of its own; name one: --model NAME")
        stuck = denied(program) - self.deniable
        if stuck:
            raise UnknownProgram(
                f"{self.name} cannot go without the tools {', '.join(sorted(stuck))}, which its "
                "role denies; take another driver or another role"
            )


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a program asks its model: "anthropic" or "openai", the URL, the variable of the key."""

    kind: str
    url: str
    key: str


def denied(program: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of tools that an agent does not have."""
    tools = program.get("tools")
    if not isinstance(tools, list):
        return frozenset()
    return frozenset(KINDS) - {str(tool) for tool in cast("list[object]", tools)}


def model_of(agent: Claimed) -> str | None:
    """The model that the agent asks for; None: the program's own choice."""
    model = agent.program.get("model")
    return model if isinstance(model, str) and model else None


def said(agent: Claimed, *, again: bool = False) -> str:
    """The task as an argument that no program takes for an option; again: it goes on."""
    task = _GO_ON + agent.task if again else agent.task
    return f" {task}" if task.startswith("-") else task


def upstream(own: Own, model: str | None) -> Upstream:
    """For a program that speaks both: Anthropic's for its models or when only its key is set."""
    env = own.env
    anthropic = bool(env.get("ANTHROPIC_API_KEY"))
    if anthropic and (not env.get("OPENAI_API_KEY") or str(model).startswith("claude")):
        base = env.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        return Upstream("anthropic", base.rstrip("/"), "ANTHROPIC_API_KEY")
    base = env.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    return Upstream("openai", base.rstrip("/"), "OPENAI_API_KEY")


def mcp_url(own: Own) -> str | None:
    """Where the agent's tools are; None when no door is open."""
    base = own.env.get("BOUGH_URL")
    return f"{base}/mcp" if base and own.env.get("BOUGH_TOKEN") else None


def moved_home(own: Own) -> dict[str, str]:
    """A home of the agent's own for a program that has no variable for its files; see home_files.

    What a person's roles are found by stays where it is.
    """
    return {"HOME": str(own.home), "BOUGH_USER_HOME": _real_home(own)}


def home_files(agent: Claimed, own: Own) -> dict[str, str]:
    """git's settings for a moved home: the person's, with a name for those who have set none.

    Without a name some programs write one into the repository.
    """
    path = json.dumps(f"{_real_home(own)}/.gitconfig", ensure_ascii=False)
    name = json.dumps(f"bough {' '.join(agent.role.split())}", ensure_ascii=False)
    text = f"[user]\n\tname = {name}\n\temail = {email_of(agent.id)}\n[include]\n\tpath = {path}\n"
    return {"home/.gitconfig": text}


def _real_home(own: Own) -> str:
    return own.env.get("HOME") or str(Path.home())


def is_root() -> bool:
    """Whether programs will run as root, which some refuse."""
    return os.geteuid() == 0


def document(value: Any) -> str:
    """A settings file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
