"""What the program prints of what it does, for the agent's log: one line for each step."""

import json
from collections.abc import Sequence
from typing import Any, cast

from bough.client.rows import Json
from bough.runner.llm import entry

_MOST = 120


def line(text: str) -> None:
    """Print a line; what would move a cursor is left out."""
    print("".join(c if c.isprintable() else " " for c in text), flush=True)  # noqa: T201


def brief(arguments: object, order: Sequence[str] = ()) -> str:
    """Arguments of a call, short, those that are named first."""
    found: Any = arguments
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            return _short(str(arguments))
    if not isinstance(found, dict):
        return _short(str(found))
    given = cast("dict[str, Any]", found)
    names = [*(n for n in order if n in given), *(n for n in given if n not in order)]
    return _short(" ".join(f"{n}={_short(str(given[n]), 60)}" for n in names))


def answered(answer: Json, left: int | None) -> None:
    """What a model said, and what it cost."""
    for text in entry.text_of(answer).splitlines():
        line(f"  {text}")
    used = answer["usage"]
    rest = "" if left is None else f"; {left:,} tokens left"
    line(f"model: {used['input']:,} tokens in, {used['output']:,} out{rest}")


def _short(text: str, most: int = _MOST) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[:most]}…"
