"""A call as a wire has read it: what may go on to the provider, and what its size is made of.

A wire lets through what it knows. Fields and tools that it does not know are left out (`dropped`);
what would spend elsewhere or refers to what is not in the request is refused: its size could not
be bounded. Images are counted, everything else is text whose bytes bound its tokens.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from bough.client.rows import Json
from bough.gateway.refusals import Refused, Shape
from bough.gateway.settings import Provider
from bough.gateway.usage import Meter, Used, as_object


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of a conversation: its text for counting and comparing, and its images."""

    text: str
    images: int


@dataclass(slots=True, kw_only=True)
class Asked:
    """One call. `body` is what will be sent; `wanted` the most output it asks for, each `times`.

    usage_wanted is false when the program must not see the usage in its stream: it did not ask.
    goes_on is false when the provider may cut the input to what fits: its count bounds nothing.
    """

    body: Json
    model: str
    stream: bool
    head: str
    items: list[Item]
    images: int = 0
    extra_tokens: int = 0
    wanted: int | None = None
    times: int = 1
    dropped: list[str] = field(default_factory=list[str])
    usage_wanted: bool = True
    goes_on: bool = True


@dataclass(frozen=True, slots=True)
class Wire:
    """One way of asking models; `counter` is the path that counts input without charge.

    `countable` is what of a body the counter takes; `meter` makes a meter for a stream, of which
    the program sees the usage or not; `limit` sets the most output, by a field where that is open.
    """

    shape: Shape
    provider: Provider
    path: str
    counter: str | None
    countable: Callable[[Json], Json]
    read: Callable[[Json], Asked]
    limit: Callable[[Asked, int, str], None]
    used: Callable[[Json], Used | None]
    meter: Callable[[bool], Meter]


class Seen:
    """Collects, while a conversation is checked, what its size is made of."""

    def __init__(self) -> None:
        self.images = 0

    def image(self, block: Json) -> Json:
        """Count an image; what stands for it when conversations are compared."""
        self.images += 1
        return {"image": hashlib.sha256(canonical(block).encode(*_UTF8)).hexdigest()}


_UTF8 = ("utf-8", "surrogatepass")


def canonical(value: Any) -> str:
    """A value as compact JSON, each character as itself."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def sendable(body: Json) -> bytes:
    """A body as it goes to the provider; what UTF-8 cannot hold is escaped."""
    try:
        return canonical(body).encode()
    except UnicodeEncodeError:
        return json.dumps(body).encode()


def refuse(message: str) -> Refused:
    """A refusal of what was asked."""
    return Refused("input", message)


def model_of(body: Json) -> str:
    """The model that is asked. Raises Refused."""
    model = body.get("model")
    if (
        isinstance(model, str)
        and model.isprintable()
        and 0 < len(model.strip()) <= 200 >= len(model)
    ):
        return model
    raise refuse("model: give the name of a model, of at most 200 printable characters")


def flag(body: Json, name: str) -> bool:
    """A field that is true or false, false when absent. Raises Refused."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise refuse(f"{name}: give true or false")
    return bool(value)


def count(body: Json, name: str) -> int | None:
    """A field that is a whole number from 1 on, None when absent. Raises Refused."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise refuse(f"{name}: give a whole number of at least 1")
    return value


def keep(body: Json, known: frozenset[str], forbidden: dict[str, str], dropped: list[str]) -> None:
    """Leave out fields that are not known; refuse those whose loss would change the meaning."""
    for name in list(body):
        if name in known:
            continue
        value = body.pop(name)
        if name in forbidden and value not in (None, False, [], {}):
            raise refuse(f"{name}: {forbidden[name]}")
        if value is not None:
            dropped.append(name)


def tier(body: Json, allowed: tuple[str, ...]) -> None:
    """Refuse a service tier whose price differs."""
    value = body.get("service_tier")
    if value is not None and value not in allowed:
        raise refuse(f"service_tier: give {' or '.join(allowed)}; others are priced differently")


def objects(value: Any, name: str) -> list[Json]:
    """A list of JSON objects. Raises Refused."""
    if not isinstance(value, list):
        raise refuse(f"{name}: give a list")
    found = cast("list[object]", value)
    if not all(isinstance(entry, dict) for entry in found):
        raise refuse(f"{name}: give a list of objects")
    return cast("list[Json]", found)


def tools(body: Json, is_ours: Callable[[Json], bool], dropped: list[str]) -> None:
    """Leave out tools that the provider runs: each of their rounds reads the context anew."""
    if body.get("tools") is None:
        body.pop("tools", None)
        return
    given = objects(body["tools"], "tools")
    kept = [tool for tool in given if is_ours(tool)]
    dropped += [str(t.get("type", "tool")) for t in given if not is_ours(t)]
    if len(kept) == len(given):
        return
    body["tools"] = kept
    if not kept:
        del body["tools"]
    if not kept or _names_a_lost_tool(body.get("tool_choice"), kept):
        body.pop("tool_choice", None)


def _names_a_lost_tool(choice: Any, kept: list[Json]) -> bool:
    found = as_object(choice)
    if not found:
        return False
    if "tools" in found or "allowed_tools" in found:
        return True
    names = {_name(t) for t in kept}
    name = _name(found)
    ordinary = found.get("type") in ("auto", "any", "none", "tool", "function", "custom")
    return not ordinary or (name is not None and name not in names)


def _name(tool: Json) -> object:
    return tool.get("name") or as_object(tool.get("function")).get("name")
