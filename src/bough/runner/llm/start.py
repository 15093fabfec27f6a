"""The driver `llm`: how the built-in agent is started, checked before anything is made.

A model is named provider:name. Whether its provider can be reached is known when the program
starts: the variable of its key is there, or leads to the gateway. Raises UnknownProgram, NoKey.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets.preset import ROLE_FILE, NoKey, UnknownProgram, model_of
from bough.runner.roles.briefing import prompt_of

EXAMPLE = "anthropic:claude-sonnet-4-5"


@dataclass(frozen=True, slots=True)
class Provider:
    """The variables of a provider's key and address, and its name at the gateway."""

    key: str
    address: str
    name: str


_OPENAI = Provider("OPENAI_API_KEY", "OPENAI_BASE_URL", "openai")
PROVIDERS = {
    "anthropic": Provider("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "anthropic"),
    "openai": _OPENAI,
    "openai-responses": _OPENAI,
}


def parted(model: str) -> tuple[str, str]:
    """The provider and the name of a model. Raises UnknownProgram."""
    provider, _, name = model.partition(":")
    if provider not in PROVIDERS or not name.strip():
        known = ", ".join(PROVIDERS)
        raise UnknownProgram(
            f"'{model}' is no model of the driver llm; give provider:name like {EXAMPLE};"
            f" providers are {known}"
        )
    return provider, name


def check(program: Mapping[str, Any]) -> None:
    """Refuse at spawn what could never start."""
    if program.get("argv"):
        raise UnknownProgram("the driver llm takes no command; its task says what to do")
    model = program.get("model")
    if not isinstance(model, str) or not model:
        raise UnknownProgram(
            f"the driver llm needs a model; name one: --model {EXAMPLE}, or set BOUGH_MODEL"
        )
    parted(model)


def llm(agent: Claimed, own: Own) -> Launch:
    """The built-in agent, resumed when it is killed: its conversation is recorded."""
    check(agent.program)
    model = model_of(agent) or ""
    provider = PROVIDERS[parted(model)[0]]
    if not own.env.get(provider.key):
        raise NoKey(
            f"nothing leads to {provider.name} for {model}: set {provider.key}, or"
            f" BOUGH_{provider.name.upper()}_URL for a server that needs no key, where the runner"
            " starts"
        )
    # -P: no file of the worktree can take the place of a module that Bough itself needs.
    argv = [sys.executable, "-P", "-m", "bough.runner.llm"]
    env = {"BOUGH_MODEL": model, "BOUGH_ROLE_FILE": str(own.directory / ROLE_FILE)}
    return Launch(argv, env, {ROLE_FILE: prompt_of(agent)}, resumes=True)
