"""What a provider says a call used, read from an answer or from a stream as it passes.

None means unknown, which is charged in full: no usage, numbers that make no sense, a stream that
broke before its end. What was read from or written into a cache is told apart from other input.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from bough.client.rows import Json

_MOST = 10**12


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of one call, each in one of the four parts only."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    model: str | None = None

    @property
    def input_total(self) -> int:
        """All that the model read."""
        return self.input + self.cache_read + self.cache_write

    @property
    def total(self) -> int:
        """What is charged."""
        return self.input_total + self.output


class Meter(Protocol):
    """Reads the events of one stream."""

    ended: bool
    """The event that ends the stream has been seen."""

    def read(self, event: bytes) -> bool:
        """Take one whole event in; False when the program is not to get it."""
        ...

    @property
    def used(self) -> Used | None:
        """The use, once it is final."""
        ...


def as_object(value: Any) -> Json:
    """A JSON object, or an empty one in place of anything else."""
    return cast("Json", value) if isinstance(value, dict) else {}


def _number(found: Json, name: str) -> int:
    """A number of tokens, 0 when absent. Raises ValueError for what is none."""
    value = found.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise ValueError(f"{name} is no number of tokens")
    return value


def _checked(read: Callable[[Json, str | None], Used | None]) -> Callable[[Json], Used | None]:
    def used(answer: Json) -> Used | None:
        model = answer.get("model")
        try:
            found = read(as_object(answer.get("usage")), model if isinstance(model, str) else None)
        except ValueError:
            return None
        # Nobody reads nothing: some servers report zeros when they do not count.
        return found if found and found.input_total > 0 else None

    return used


def _of_messages(usage: Json, model: str | None) -> Used | None:
    if usage.get("output_tokens") is None:
        return None
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    given, output, read = (_number(usage, name) for name in names)
    written = _number(usage, "cache_creation_input_tokens")
    # Rounds that the provider added by itself stand in none of the numbers above.
    rounds: Any = usage.get("iterations")
    for entry in cast("list[Any]", rounds if isinstance(rounds, list) else []):
        extra = as_object(entry)
        if extra.get("type", "message") != "message":
            given += _number(extra, "input_tokens")
            output += _number(extra, "output_tokens")
            read += _number(extra, "cache_read_input_tokens")
            written += _number(extra, "cache_creation_input_tokens")
    return Used(given, output, read, written, model)


def _of_openai(
    usage: Json, model: str | None, *, given: str, output: str, details: str
) -> Used | None:
    if usage.get(given) is None or usage.get(output) is None:
        return None
    parts = as_object(usage.get(details))
    read, written = _number(parts, "cached_tokens"), _number(parts, "cache_write_tokens")
    rest = _number(usage, given) - read - written
    if rest < 0:
        raise ValueError("more was cached than was read")
    return Used(rest, _number(usage, output), read, written, model)


def _of_chat(usage: Json, model: str | None) -> Used | None:
    return _of_openai(
        usage, model, given="prompt_tokens", output="completion_tokens",
        details="prompt_tokens_details",
    )  # fmt: skip


def _of_responses(usage: Json, model: str | None) -> Used | None:
    return _of_openai(
        usage, model, given="input_tokens", output="output_tokens", details="input_tokens_details"
    )


used_by_messages = _checked(_of_messages)
used_by_chat = _checked(_of_chat)
used_by_responses = _checked(_of_responses)


def data_of(event: bytes) -> bytes:
    """The data of one server-sent event."""
    lines = [
        line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")
    ]
    return b"\n".join(lines)


def object_of(event: bytes) -> Json:
    """The JSON object in one server-sent event, or an empty one."""
    try:
        return as_object(json.loads(data_of(event)))
    except (ValueError, RecursionError):
        return {}


class MessagesMeter:
    """Messages: input in message_start, cumulative numbers in every message_delta."""

    def __init__(self, asked: bool = True) -> None:
        del asked
        self.ended = False
        self._model: str | None = None
        self._usage: Json = {}
        self._counted = False

    def read(self, event: bytes) -> bool:
        """Take one whole event in; the program gets them all."""
        if b'"usage"' not in event and b"message_stop" not in event:
            return True
        found = object_of(event)
        kind = found.get("type")
        if kind == "message_start":
            message = as_object(found.get("message"))
            self._model = message.get("model")
            self._take(as_object(message.get("usage")))
        elif kind == "message_delta" and found.get("usage"):
            usage = as_object(found["usage"])
            self._counted = self._counted or usage.get("output_tokens") is not None
            self._take(usage)
        elif kind == "message_stop":
            self.ended = True
        return True

    def _take(self, usage: Json) -> None:
        for name, value in usage.items():
            before = self._usage.get(name)
            if isinstance(value, int) and isinstance(before, int):
                value = max(before, value)
            if value is not None:
                self._usage[name] = value

    @property
    def used(self) -> Used | None:
        """The use, once the stream has come to its end."""
        if not self.ended or not self._counted:
            return None
        return used_by_messages({"usage": self._usage, "model": self._model})


class ChatMeter:
    """Chat: a last chunk without choices, which only those get who asked for it."""

    def __init__(self, asked: bool) -> None:
        self.ended = False
        self._asked = asked
        self._found: Json = {}
        self._last = False

    def read(self, event: bytes) -> bool:
        """Take one whole event in; False for the usage that we asked for."""
        if b"[DONE]" in event and data_of(event).strip() == b"[DONE]":
            self.ended = True
        if b'"usage"' not in event or b'"usage":null' in event or b'"usage": null' in event:
            return True
        found = object_of(event)
        if not found.get("usage"):
            return True
        self._found = {"usage": found["usage"], "model": found.get("model")}
        self._last = not found.get("choices")
        return self._asked or not self._last

    @property
    def used(self) -> Used | None:
        """The use, once it is final: some servers count on in every chunk."""
        return used_by_chat(self._found) if self.ended or self._last else None


class ResponsesMeter:
    """Responses: the whole answer, with its usage, in the event that ends the stream."""

    def __init__(self, asked: bool = True) -> None:
        del asked
        self.ended = False
        self._found: Json = {}

    def read(self, event: bytes) -> bool:
        """Take one whole event in; the program gets them all."""
        if b'"usage"' in event:
            found = object_of(event)
            kind = found.get("type")
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self._found = as_object(found.get("response"))
                self.ended = True
        return True

    @property
    def used(self) -> Used | None:
        """The use, once the answer is whole."""
        return used_by_responses(self._found)
