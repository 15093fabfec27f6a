"""How a program reaches models: by the gateway, with its own token, and by nothing else.

A program that knows nothing of Bough finds the gateway where its provider's library looks. What
would lead it past the gateway (keys, other addresses, other clouds) is withheld for each provider
that the gateway serves; the rest of the environment is left as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_WITHHELD = {
    "anthropic": """
        ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_BEDROCK_BASE_URL
        ANTHROPIC_CUSTOM_HEADERS ANTHROPIC_FOUNDRY_API_KEY ANTHROPIC_FOUNDRY_BASE_URL
        ANTHROPIC_UNIX_SOCKET ANTHROPIC_VERTEX_BASE_URL CLAUDE_CODE_OAUTH_TOKEN
        CLAUDE_CODE_USE_BEDROCK CLAUDE_CODE_USE_FOUNDRY CLAUDE_CODE_USE_VERTEX
        """.split(),  # noqa: SIM905 - a list of quoted words would be read by nobody
    "openai": """
        AZURE_OPENAI_API_KEY CODEX_API_KEY OPENAI_API_BASE OPENAI_API_KEY OPENAI_BASE_URL
        OPENAI_ORGANIZATION OPENAI_ORG_ID OPENAI_PROJECT OPENAI_PROJECT_ID
        """.split(),  # noqa: SIM905 - as above
}


@dataclass(frozen=True, slots=True)
class ModelDoor:
    """Where programs ask models: the gateway's address, whom it forwards to, its cap on output."""

    url: str
    providers: frozenset[str]
    max_output_tokens: int | None = None


def withheld(door: ModelDoor | None) -> frozenset[str]:
    """Names of variables that no program may have while the gateway serves it."""
    providers = door.providers if door else frozenset[str]()
    return frozenset(name for provider in providers for name in _WITHHELD[provider])


def variables(door: ModelDoor, token: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that lead a program to the gateway, beside those of its environment."""
    found = {"BOUGH_GATEWAY_URL": door.url}
    if "anthropic" in door.providers:
        found |= {
            "ANTHROPIC_BASE_URL": door.url,
            "ANTHROPIC_API_KEY": token,
            "ANTHROPIC_AUTH_TOKEN": token,
        }
        if door.max_output_tokens and "CLAUDE_CODE_MAX_OUTPUT_TOKENS" not in environment:
            # It asks for what it can get, instead of being cut.
            found["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(door.max_output_tokens)
    if "openai" in door.providers:
        address = f"{door.url}/v1"
        found |= {
            "OPENAI_BASE_URL": address,
            "OPENAI_API_BASE": address,
            "OPENAI_API_KEY": token,
        }
    for name in ("NO_PROXY", "no_proxy"):
        kept = environment.get(name, "")
        found[name] = ",".join(part for part in (kept, "127.0.0.1", "localhost") if part)
    return found
