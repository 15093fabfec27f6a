"""What the gateway's process is told: where the providers are, their keys, and its own limits.

Everything is read once, from the environment of the process that runs the gateway or from key
files it names; a number that makes no sense refuses to start. Taking the settings removes the keys
from the environment, so that nothing started afterwards inherits them. Raises BadConfiguration.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from bough.client.errors import BadConfiguration

Provider = Literal["anthropic", "openai"]
_OFFICIAL: dict[Provider, str] = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}
SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where calls of one provider go; `headers` holds the key and is never shown."""

    provider: Provider
    url: str
    headers: dict[str, str] = field(repr=False)

    @property
    def official(self) -> bool:
        """Whether it is the provider itself, whose price list is known."""
        return urlsplit(self.url).hostname == urlsplit(_OFFICIAL[self.provider]).hostname


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Upstreams by provider, and limits: tokens, seconds."""

    upstreams: dict[Provider, Upstream]
    max_output_tokens: int = 32_000
    queue_s: int = 60
    call_s: int = 900
    drain_s: int = 30
    image_tokens: dict[Provider, int] = field(
        default_factory=lambda: {"anthropic": 5_000, "openai": 10_000}
    )
    chat_max_field: str = "max_completion_tokens"

    def upstream(self, provider: Provider) -> Upstream | None:
        """Where calls of a provider go; None when nothing was set."""
        return self.upstreams.get(provider)


def taken(environ: MutableMapping[str, str]) -> Settings:
    """The settings of this environment, which has no provider's key afterwards."""
    upstreams: dict[Provider, Upstream] = {}
    for found in (_anthropic(environ), _openai(environ)):
        if found:
            upstreams[found.provider] = found
    limits = {
        "max_output_tokens": _number(environ, "BOUGH_MAX_OUTPUT_TOKENS", 32_000, 16),
        "queue_s": _number(environ, "BOUGH_QUEUE_S", 60, 0),
        "call_s": _number(environ, "BOUGH_CALL_S", 900, 1),
        "drain_s": _number(environ, "BOUGH_DRAIN_S", 30, 0),
    }
    images: dict[Provider, int] = {
        "anthropic": _number(environ, "BOUGH_ANTHROPIC_IMAGE_TOKENS", 5_000, 1),
        "openai": _number(environ, "BOUGH_OPENAI_IMAGE_TOKENS", 10_000, 1),
    }
    field_name = environ.get("BOUGH_CHAT_MAX_FIELD", "max_completion_tokens")
    if field_name not in ("max_completion_tokens", "max_tokens"):
        raise BadConfiguration(
            f"BOUGH_CHAT_MAX_FIELD is '{field_name}'; give max_completion_tokens or max_tokens"
        )
    for name in SECRETS:
        environ.pop(name, None)
    return Settings(upstreams=upstreams, image_tokens=images, chat_max_field=field_name, **limits)


def _anthropic(environ: MutableMapping[str, str]) -> Upstream | None:
    key = _key(environ, "ANTHROPIC")
    bearer = environ.get("ANTHROPIC_AUTH_TOKEN", "").strip()
    url = _url(environ, "anthropic", "ANTHROPIC_BASE_URL", keyed=bool(key or bearer))
    if url is None:
        return None
    headers = {"x-api-key": key} if key else {}
    if bearer and not key:
        headers["authorization"] = f"Bearer {bearer}"
    return Upstream("anthropic", url.removesuffix("/v1"), headers)


def _openai(environ: MutableMapping[str, str]) -> Upstream | None:
    key = _key(environ, "OPENAI")
    url = _url(environ, "openai", "OPENAI_BASE_URL", keyed=bool(key))
    if url is None:
        return None
    return Upstream("openai", url, {"authorization": f"Bearer {key}"} if key else {})


def _key(environ: MutableMapping[str, str], name: str) -> str:
    path = environ.get(f"BOUGH_{name}_KEY_FILE")
    if not path:
        return environ.get(f"{name}_API_KEY", "").strip()
    try:
        key = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"BOUGH_{name}_KEY_FILE: {path} cannot be read ({error})") from error
    if not key:
        raise BadConfiguration(f"BOUGH_{name}_KEY_FILE: {path} is empty; put the key into it")
    return key


def _url(
    environ: MutableMapping[str, str], provider: Provider, usual: str, *, keyed: bool
) -> str | None:
    """Where to forward to; None when neither an address nor a key was given."""
    name = f"BOUGH_{provider.upper()}_URL"
    given = environ.get(name, "").strip()
    if not given and not keyed:
        return None
    # Whom the program would have asked without us.
    url = (given or environ.get(usual, "").strip() or _OFFICIAL[provider]).rstrip("/")
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise BadConfiguration(f"{name} is '{url}'; give an address like {_OFFICIAL[provider]}")
    return url


def _number(environ: MutableMapping[str, str], name: str, usual: int, least: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return usual
    if not text.isascii() or not text.isdecimal() or not least <= int(text) <= 1_000_000:
        raise BadConfiguration(f"{name} is '{text}'; give a whole number from {least} to 1000000")
    return int(text)
