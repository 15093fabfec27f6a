"""A model that answers by a script on loopback, streamed, over the wires of three APIs.

It is a script and says so; it stands for no provider. A script is a list of turns: a text, a
command for the program's shell, or a call of a tool of the server `bough`. Which tools the request
offers decides how a turn is put; a request without tools (a title, a summary) gets a text and uses
no turn.
"""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHELLS: dict[str, Callable[[str], dict[str, object]]] = {
    "Bash": lambda command: {"command": command, "description": "run"},
    "exec_command": lambda command: {"cmd": command},
    "shell_command": lambda command: {"command": command},
    "shell": lambda command: {"command": ["bash", "-lc", command]},
    "bash": lambda command: {"command": command, "description": "run"},
    "run_shell_command": lambda command: {"command": command, "is_background": False},
    "terminal": lambda command: {"command": command},
}


@dataclass(frozen=True, slots=True)
class Say:
    """The model says this, and its turn ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """The model runs this in the program's shell."""

    command: str


@dataclass(frozen=True, slots=True)
class Use:
    """The model calls this tool of the server `bough`."""

    tool: str
    input: dict[str, Any]


Turn = Say | Run | Use
_IDS = itertools.count(1)


@dataclass(slots=True)
class Asked:
    """One request: its path, the key it came with, its body."""

    path: str
    key: str
    body: dict[str, Any]

    def text(self) -> str:
        return json.dumps(self.body)


@dataclass(slots=True)
class Model:
    """Answers turn after turn; when they are used up it says that it is done."""

    turns: list[Turn]
    asked: list[Asked] = field(default_factory=list[Asked])
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> tuple[str, str, dict[str, Any]]:
        """The kind of answer (text or tool), its name, and what is in it."""
        with self._lock:
            self.asked.append(asked)
            offered = tools_of(asked.body)
            if not offered:
                return "text", "", {"text": "a title"}
            turn = self.turns.pop(0) if self.turns else Say("done")
        if isinstance(turn, Say):
            return "text", "", {"text": turn.text}
        if isinstance(turn, Run):
            name = next(n for n in SHELLS if n in offered)
            return "tool", name, SHELLS[name](turn.command)
        name = next(n for n in offered if "bough" in n and n.endswith(turn.tool))
        return "tool", name, turn.input


def tools_of(body: dict[str, Any]) -> dict[str, str]:
    """Names of the tools that a request offers, and the namespace that each is in."""
    found: dict[str, str] = {}
    offered: list[Any] = body.get("tools") or []
    for tool in offered:
        name = str(tool.get("name") or tool.get("function", {}).get("name") or "")
        if tool.get("type") == "namespace":
            found |= {f"{name}.{inner['name']}": name for inner in tool["tools"]}
        else:
            found[name] = ""
    return found


def messages(kind: str, name: str, what: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    start: dict[str, Any] = {"type": "text", "text": ""}
    delta: dict[str, Any] = {"type": "text_delta", "text": what.get("text", "")}
    if kind == "tool":
        start = {"type": "tool_use", "id": f"toolu_{next(_IDS)}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(what)}
    usage = {"input_tokens": 10, "output_tokens": 5}
    message: dict[str, Any] = {"id": f"msg_{next(_IDS)}", "type": "message", "role": "assistant"}
    message |= {"model": "scripted", "content": [], "stop_reason": None, "usage": usage}
    yield "message_start", {"message": message}
    yield "content_block_start", {"index": 0, "content_block": start}
    yield "content_block_delta", {"index": 0, "delta": delta}
    yield "content_block_stop", {"index": 0}
    stop = "tool_use" if kind == "tool" else "end_turn"
    yield "message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage}
    yield "message_stop", {}


def responses(
    kind: str, name: str, what: dict[str, Any], spaces: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    content: list[dict[str, Any]] = [
        {"type": "output_text", "text": what.get("text", ""), "annotations": []}
    ]
    item: dict[str, Any] = {"type": "message", "role": "assistant", "content": content}
    if kind == "tool":
        item = {
            "type": "function_call",
            "call_id": f"call_{next(_IDS)}",
            "arguments": json.dumps(what),
        }
        item["name"] = name.rpartition(".")[2] if spaces[name] else name
        item |= {"namespace": spaces[name]} if spaces[name] else {}
    item |= {"id": f"item_{next(_IDS)}", "status": "completed"}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    whole: dict[str, Any] = {"id": f"resp_{next(_IDS)}", "object": "response", "model": "scripted"}
    yield "response.created", {"response": whole | {"status": "in_progress", "output": []}}
    yield "response.output_item.added", {"output_index": 0, "item": item}
    yield "response.output_item.done", {"output_index": 0, "item": item}
    done = whole | {"status": "completed", "output": [item], "usage": usage}
    yield "response.completed", {"response": done}


def chat(kind: str, name: str, what: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": what.get("text", "")}
    if kind == "tool":
        function = {"name": name, "arguments": json.dumps(what)}
        call = {"id": f"call_{next(_IDS)}", "index": 0, "type": "function", "function": function}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    why = "tool_calls" if kind == "tool" else "stop"
    choice = {"index": 0, "message": message, "finish_reason": why}
    made = {
        "id": f"chat_{next(_IDS)}",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
    }
    return made | {"choices": [choice], "usage": usage}


class Answering(BaseHTTPRequestHandler):
    """One connection of a program to the scripted model."""

    model: Model

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
        pass

    def do_GET(self) -> None:
        self._json({"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        key = self.headers.get("x-api-key") or self.headers.get("authorization") or ""
        path = self.path.partition("?")[0]
        if path.endswith("count_tokens"):
            self._json({"input_tokens": 10})
            return
        asked = Asked(path, key, body)
        kind, name, what = self.model.answer(asked)
        if path.endswith("/messages"):
            self._events(messages(kind, name, what))
        elif path.endswith("/responses"):
            self._events(responses(kind, name, what, tools_of(body)))
        else:
            self._chat(chat(kind, name, what), stream=bool(body.get("stream")))

    def _chat(self, whole: dict[str, Any], *, stream: bool) -> None:
        if not stream:
            self._json(whole)
            return
        [choice] = whole["choices"]
        delta: list[dict[str, Any]] = [
            {"index": 0, "delta": choice["message"], "finish_reason": None}
        ]
        last: list[dict[str, Any]] = [
            {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        ]
        head = whole | {"object": "chat.completion.chunk"}
        parts: list[dict[str, Any]] = [
            head | {"choices": delta, "usage": None},
            head | {"choices": last, "usage": None},
            head | {"choices": []},
        ]
        self._stream([f"data: {json.dumps(part)}\n\n" for part in parts] + ["data: [DONE]\n\n"])

    def _events(self, events: Iterator[tuple[str, dict[str, Any]]]) -> None:
        self._stream(
            [f"event: {n}\ndata: {json.dumps({'type': n} | data)}\n\n" for n, data in events]
        )

    def _stream(self, parts: list[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for part in parts:
            self.wfile.write(part.encode())
            self.wfile.flush()

    def _json(self, value: dict[str, Any]) -> None:
        sent = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


def serve(model: Model) -> ThreadingHTTPServer:
    """Let a model answer on a loopback port until the server is shut down."""
    made = type("Bound", (Answering,), {"model": model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server


if __name__ == "__main__":
    import sys
    import time

    spoken = Model([Run(sys.argv[1]), Say("scripted: done")] if len(sys.argv) > 1 else [])
    serve(spoken)
    print(spoken.url, flush=True)
    seen = 0
    while True:
        time.sleep(0.2)
        for one in spoken.asked[seen:]:
            print(one.path, one.key[:30], len(one.text()), sorted(tools_of(one.body)), flush=True)
        seen = len(spoken.asked)
