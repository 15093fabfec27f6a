"""How the scripted provider speaks the three wires: whole answers, streams, usage and errors."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Usage = Callable[[], Any]
Events = Iterator[tuple[bytes, int]]
"""Events of a stream, and how many tokens each says."""


@dataclass
class Call:
    """A tool that the script calls; custom ones take plain text."""

    name: str
    arguments: dict[str, Any] | str


@dataclass
class Said:
    """What the script says: text, one piece a token, then a call that counts as one.

    Only an answer that is no stream has more calls.
    """

    text: list[str] = field(default_factory=list[str])
    call: Call | None = None
    more: list[Call] = field(default_factory=list[Call])

    @property
    def tokens(self) -> int:
        return len(self.text) + bool(self.call) + len(self.more)


def sse(data: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class Messages:
    broken = sse({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "error")

    def most(self, body: Any) -> int:
        return body["max_tokens"]

    def usage(self, rest: int, output: int, cache: int, wrote: int) -> Any:
        return {
            "input_tokens": rest,
            "output_tokens": output,
            "cache_read_input_tokens": cache,
            "cache_creation_input_tokens": wrote,
        }

    def error(self, status: int) -> Any:
        kinds = {429: "rate_limit_error", 529: "overloaded_error", 404: "not_found_error"}
        error = {"type": kinds.get(status, "api_error"), "message": f"scripted {status}"}
        return {"type": "error", "error": error}

    def _blocks(self, said: Said) -> list[Any]:
        blocks: list[Any] = [{"type": "text", "text": "".join(said.text)}] if said.text else []
        for number, call in enumerate([said.call, *said.more] if said.call else [], 1):
            use: Any = {"type": "tool_use", "id": f"toolu_{number}", "name": call.name}
            blocks.append(use | {"input": call.arguments})
        return blocks

    def whole(self, body: Any, said: Said, usage: Any) -> Any:
        return {
            **self._message(body),
            "content": self._blocks(said),
            "stop_reason": "tool_use" if said.call else "end_turn",
        } | ({} if usage is None else {"usage": usage})

    def _message(self, body: Any) -> Any:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def events(self, body: Any, said: Said, given: int, usage: Usage) -> Events:
        del given
        start = usage()
        message = self._message(body) | ({} if start is None else {"usage": start})
        yield sse({"type": "message_start", "message": message}, "message_start"), 0
        yield sse({"type": "ping"}, "ping"), 0
        index = -1
        for piece in said.text:
            if index < 0:
                index = 0
                yield self._begin(0, {"type": "text", "text": ""}), 0
            yield self._delta(0, {"type": "text_delta", "text": piece}), 1
        if index == 0:
            yield self._stop(0), 0
        if said.call:
            index += 1
            use: Any = {"type": "tool_use", "id": "toolu_1", "name": said.call.name, "input": {}}
            yield self._begin(index, use), 0
            arguments = json.dumps(said.call.arguments)
            yield self._delta(index, {"type": "input_json_delta", "partial_json": arguments}), 1
            yield self._stop(index), 0
        reason = "tool_use" if said.call else "end_turn"
        last: Any = {"type": "message_delta", "delta": {"stop_reason": reason}}
        final = usage()
        if final is not None:
            last["usage"] = final
        yield sse(last, "message_delta"), 0
        yield sse({"type": "message_stop"}, "message_stop"), 0

    def _begin(self, index: int, block: Any) -> bytes:
        data = {"type": "content_block_start", "index": index, "content_block": block}
        return sse(data, "content_block_start")

    def _delta(self, index: int, delta: Any) -> bytes:
        data = {"type": "content_block_delta", "index": index, "delta": delta}
        return sse(data, "content_block_delta")

    def _stop(self, index: int) -> bytes:
        return sse({"type": "content_block_stop", "index": index}, "content_block_stop")


class Chat:
    broken = sse({"error": {"message": "scripted", "type": "server_error"}})

    def most(self, body: Any) -> int:
        return body.get("max_completion_tokens") or body["max_tokens"]

    def usage(self, rest: int, output: int, cache: int, wrote: int) -> Any:
        given = rest + cache + wrote
        return {
            "prompt_tokens": given,
            "completion_tokens": output,
            "total_tokens": given + output,
            "prompt_tokens_details": {"cached_tokens": cache, "cache_write_tokens": wrote},
        }

    def error(self, status: int) -> Any:
        return {"error": {"message": f"scripted {status}", "type": "x", "code": None}}

    def whole(self, body: Any, said: Said, usage: Any) -> Any:
        message: Any = {"role": "assistant", "content": "".join(said.text)}
        if said.call:
            message["tool_calls"] = [self._call(call) for call in (said.call, *said.more)]
        choice = {"index": 0, "message": message, "finish_reason": _finish(said)}
        return {
            "id": "c-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
        } | ({} if usage is None else {"usage": usage})

    def _call(self, call: Call) -> Any:
        given = call.arguments
        text = given if isinstance(given, str) else json.dumps(given)
        function = {"name": call.name, "arguments": text}
        return {"index": 0, "id": "call_1", "type": "function", "function": function}

    def events(self, body: Any, said: Said, given: int, usage: Usage) -> Events:
        del given
        options: Any = body.get("stream_options") or {}
        wanted: Any = options.get("include_usage")

        def chunk(choices: list[Any], **more: Any) -> bytes:
            found: Any = {"id": "c-1", "object": "chat.completion.chunk", "created": 1}
            extra = {"usage": None} if wanted else {}
            return sse({**found, "model": body["model"], "choices": choices, **extra, **more})

        def delta(delta: Any, reason: str | None = None) -> bytes:
            return chunk([{"index": 0, "delta": delta, "finish_reason": reason}])

        yield delta({"role": "assistant"}), 0
        for piece in said.text:
            yield delta({"content": piece}), 1
        if said.call:
            yield delta({"tool_calls": [self._call(said.call)]}), 1
        yield delta({}, _finish(said)), 0
        final = usage()
        if wanted and final is not None:
            yield chunk([], usage=final), 0
        yield b"data: [DONE]\n\n", 0


def _finish(said: Said) -> str:
    return "tool_calls" if said.call else "stop"


class Responses:
    broken = sse({"type": "error", "code": "server_error", "message": "scripted"}, "error")

    def most(self, body: Any) -> int:
        return body["max_output_tokens"]

    def usage(self, rest: int, output: int, cache: int, wrote: int) -> Any:
        given = rest + cache + wrote
        return {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": cache, "cache_write_tokens": wrote},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + output,
        }

    error = Chat.error

    def _response(self, body: Any, status: str, output: list[Any], usage: Any) -> Any:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": status,
            "model": body["model"],
            "output": output,
            "usage": usage,
        }

    def _items(self, said: Said) -> list[Any]:
        items: list[Any] = []
        if said.text:
            part: Any = {"type": "output_text", "text": "".join(said.text), "annotations": []}
            items.append({"type": "message", "id": "m_1", "role": "assistant", "content": [part]})
        if said.call and isinstance(said.call.arguments, str):
            call = {"type": "custom_tool_call", "id": "f_1", "call_id": "call_1"}
            items.append(call | {"name": said.call.name, "input": said.call.arguments})
        elif said.call:
            call = {"type": "function_call", "id": "f_1", "call_id": "call_1"}
            arguments = json.dumps(said.call.arguments)
            items.append(call | {"name": said.call.name, "arguments": arguments})
        return [{**item, "status": "completed"} for item in items]

    def whole(self, body: Any, said: Said, usage: Any) -> Any:
        return self._response(body, "completed", self._items(said), usage)

    def events(self, body: Any, said: Said, given: int, usage: Usage) -> Events:
        del given
        created = self._response(body, "in_progress", [], None)
        yield sse({"type": "response.created", "response": created}, "response.created"), 0
        for index, item in enumerate(self._items(said)):
            where: Any = {"output_index": index, "item_id": item["id"]}
            added: Any = {"type": "response.output_item.added", "output_index": index, "item": item}
            yield sse(added, added["type"]), 0
            if item["type"] == "message":
                for piece in said.text:
                    delta: Any = {"type": "response.output_text.delta", "content_index": 0, **where}
                    yield sse(delta | {"delta": piece}, delta["type"]), 1
            done: Any = {"type": "response.output_item.done", "output_index": index, "item": item}
            yield sse(done, done["type"]), int(item["type"] != "message")
        final = self._response(body, "completed", self._items(said), usage())
        yield sse({"type": "response.completed", "response": final}, "response.completed"), 0


def of(path: str) -> Messages | Chat | Responses | None:
    """The wire of a path."""
    if path.endswith("/messages"):
        return Messages()
    if path.endswith("/chat/completions"):
        return Chat()
    return Responses() if path.endswith("/responses") else None
