"""One role: a prompt, and what an agent with it gets unless told otherwise.

`role_of` makes it from a file, whichever program the file was written for. Keys of other programs
are tolerated; those below `x-bough` are checked: what is of the wrong kind is left out and named in
`warnings`. When a key that holds back (tools, limits, gates) cannot be understood, the role is
`broken` and nobody starts with it: left out, it would give more than its author meant to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from bough.client.amounts import seconds_of, tokens_of
from bough.client.tools import KINDS, TOOLS
from bough.runner.roles import front_matter

MOST_BYTES = 65_536
_NATIVE = {
    "edit": {"edit", "write", "multiedit", "notebookedit", "patch"},
    "read": {"read", "grep", "glob", "ls", "list"},
    "shell": {"bash", "shell"},
    "web": {"webfetch", "websearch", "fetch"},
}
"""What other programs call the tools of each kind, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role. budget in tokens, timeout_s in seconds; allow None: all tools but those of deny.

    origin: whose file it is (bough, claude, agents, opencode, built-in); native_model is the model
    that the file names for that program alone.
    """

    name: str
    description: str = ""
    prompt: str
    source: str
    origin: str
    budget: int | None = None
    driver: str | None = None
    model: str | None = None
    native_model: str | None = None
    timeout_s: int | None = None
    max_depth: int | None = None
    max_children: int | None = None
    max_running: int | None = None
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    broken: str | None = None


class _Keys:
    """Reads keys of one file and collects what is wrong with them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.warnings: list[str] = []
        self.broken: str | None = None

    def take(
        self,
        found: Mapping[str, Any],
        path: str,
        read: Callable[[Any], Any],
        *,
        holds_back: bool = False,
    ) -> Any:
        """A value as `read` makes it; None when it is not there, or wrong and so left out."""
        value = found.get(path.rpartition(".")[2])
        if value is None:
            return None
        try:
            return read(value)
        except ValueError as error:
            self._wrong(f"{self.source}: {path} {error}", holds_back=holds_back)
            return None

    def section(
        self, found: Mapping[str, Any], path: str, known: str, *, holds_back: bool = False
    ) -> Mapping[str, Any]:
        """The keys below a key; {} when there are none."""
        inner: Mapping[str, Any] = self.take(found, path, _mapping, holds_back=holds_back) or {}
        for name in sorted(inner.keys() - set(known.split())):
            self._wrong(
                f"{self.source}: {path}.{name} is not known; there is: {known}",
                holds_back=holds_back,
            )
        return inner

    def _wrong(self, message: str, *, holds_back: bool) -> None:
        self.warnings.append(message)
        if holds_back:
            self.broken = self.broken or message


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is no list of keys and values")
    return {str(k): v for k, v in cast("dict[object, Any]", value).items()}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is no text")
    return value.strip()


def _tokens(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("is no number of tokens, like 30000 or 30k")
    return tokens_of(str(value))


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("is no duration, like 90s or 15m")
    return seconds_of(str(value))


def _at_least(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
            raise ValueError(f"is no whole number from {least}")
        return value

    return read


def _texts(value: Any) -> tuple[str, ...]:
    items: list[object] = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise ValueError("is no list of texts")
    return tuple(str(item).strip() for item in items)


def _tools(value: Any) -> tuple[str, ...]:
    names = _texts(value)
    unknown = sorted(set(names) - TOOLS)
    if unknown:
        raise ValueError(f"names {', '.join(unknown)}; there is: {', '.join(sorted(TOOLS))}")
    return names


def _kinds_named(names: set[str]) -> set[str]:
    lower = {name.partition("(")[0].strip().lower() for name in names}
    return {kind for kind, native in _NATIVE.items() if native & lower}


def _denied_natively(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of tools that a file of another program takes away, in its own words."""
    tools: object = found.get("tools")
    denied: set[str] = set()
    if isinstance(tools, str):
        tools = tools.split(",")
    if isinstance(tools, list):
        names = {str(t) for t in cast("list[object]", tools)}
        denied |= set() if "*" in names else set(KINDS) - _kinds_named(names)
    elif isinstance(tools, dict):
        off = {str(k) for k, v in cast("dict[object, object]", tools).items() if v is False}
        denied |= set(KINDS) if "*" in off else _kinds_named(off)
    permission: object = found.get("permission")
    if isinstance(permission, dict):
        pairs = cast("dict[object, object]", permission).items()
        denied |= _kinds_named({str(k) for k, v in pairs if v == "deny"})
    banned: object = found.get("disallowedTools") or []
    if isinstance(banned, str):
        banned = banned.split(",")
    if isinstance(banned, list):
        denied |= _kinds_named({str(t) for t in cast("list[object]", banned)})
    return tuple(sorted(denied))


def role_of(text: str, *, stem: str, source: str, origin: str) -> Role:
    """The role that a file holds; stem names it unless the file does. Raises ValueError."""
    if len(text.encode("utf-8", "surrogateescape")) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("it is no UTF-8 text")
    found, prompt = front_matter.split(text)
    keys = _Keys(source)
    ours = keys.section(
        found,
        "x-bough",
        "budget driver preset model timeout limits tools gates",
        holds_back=True,
    )
    limits = keys.section(
        ours, "x-bough.limits", "max_depth max_children max_running", holds_back=True
    )
    tools = keys.section(ours, "x-bough.tools", "allow deny", holds_back=True)
    allow = keys.take(tools, "x-bough.tools.allow", _tools, holds_back=True)
    deny = keys.take(tools, "x-bough.tools.deny", _tools, holds_back=True)
    native = _denied_natively(found) if origin != "bough" and "tools" not in ours else ()
    name = keys.take(found, "name", _text) or stem
    if len(name) > 200 or any(ord(c) < 32 for c in name):
        raise ValueError("its name is longer than 200 characters, or no single line")
    model = found.get("model")
    return Role(
        name=name,
        description=" ".join((keys.take(found, "description", _text) or "").split()),
        prompt=prompt,
        source=source,
        origin=origin,
        budget=keys.take(ours, "x-bough.budget", _tokens),
        driver=keys.take(ours, "x-bough.driver", _text) or keys.take(ours, "x-bough.preset", _text),
        model=keys.take(ours, "x-bough.model", _text),
        native_model=model if isinstance(model, str) and model != "inherit" else None,
        timeout_s=keys.take(ours, "x-bough.timeout", _seconds),
        max_depth=keys.take(limits, "x-bough.limits.max_depth", _at_least(0), holds_back=True),
        max_children=keys.take(
            limits, "x-bough.limits.max_children", _at_least(0), holds_back=True
        ),
        max_running=keys.take(limits, "x-bough.limits.max_running", _at_least(1), holds_back=True),
        allow=allow,
        deny=(*(deny or ()), *native),
        gates=keys.take(ours, "x-bough.gates", _texts, holds_back=True) or (),
        warnings=tuple(keys.warnings),
        broken=keys.broken,
    )
