"""The shape of a conversation's entries, version 1: one JSON object for each message.

    {"v": 1, "from": "system", "text": T}           once, first: role, rules, the project's notes
    {"v": 1, "from": "bough",  "text": T, …}        the task, mail, what is left of the budget
    {"v": 1, "from": "model",  "parts": […], …}     an answer: text, thinking, calls of tools
    {"v": 1, "from": "begun",  "answer": N, "call": I}              a tool that changes things
    {"v": 1, "from": "tool",   "answer": N, "call": I, "text": T, "ok": B}        what it gave

A call is named by the number of its answer's entry and its place among the calls there: what a
provider calls it need not be unique. Text is made such that PostgreSQL can hold it.
"""

from typing import Any, cast

from bough.client.rows import Json

VERSION = 1
_MOST_CHARS = 100_000


def clean(value: Any) -> Any:
    """A value without what PostgreSQL cannot hold: NUL, halves of surrogate pairs."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, dict):
        found = cast("dict[object, Any]", value)
        return {str(clean(str(k))): clean(v) for k, v in found.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in cast("list[Any]", value)]
    return value


def cut(text: str, most: int = _MOST_CHARS) -> str:
    """A text of bounded length: its beginning and its end."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters are left out …]\n{text[-half:]}"


def made(sender: str, **facts: Any) -> Json:
    """An entry."""
    return clean({"v": VERSION, "from": sender, **facts})


def said(text: str, **facts: Any) -> Json:
    """What the program tells its model."""
    return made("bough", text=text, **facts)


def gave(answer: int, call: int, tool: str, text: str, *, ok: bool, **facts: Any) -> Json:
    """What a tool gave for a call."""
    return made("tool", answer=answer, call=call, tool=tool, text=cut(text), ok=ok, **facts)


def calls(answer: Json) -> list[Json]:
    """The calls of an answer, in order."""
    return [part for part in answer["parts"] if part["type"] == "call"]


def text_of(answer: Json) -> str:
    """What an answer says besides its calls."""
    return "\n".join(p["text"] for p in answer["parts"] if p["type"] == "text").strip()
