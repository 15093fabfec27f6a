"""Scripts for the built-in agent: what a scripted provider answers, turn by turn.

PYTEST_DONT_REWRITE: it is imported as a module as well as loaded as a plugin. No model is asked;
the provider speaks real HTTP on loopback, in a thread of the test. A script is found by a word of
the agent's task, and its turn by the number of answers that the request shows already.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import provider_wires as wires
import pytest
from cli import Shell
from provider import KEY, Bill, tokens_of
from provider_wires import Call, Said
from psycopg.types.json import Jsonb

MODEL = "anthropic:claude-sonnet-4-5"


@dataclass
class Asked:
    """A request as a script sees it."""

    body: Any

    @property
    def messages(self) -> list[Any]:
        return self.body.get("messages") or self.body["input"]

    @property
    def turn(self) -> int:
        answers = [m.get("role") == "assistant" or "arguments" in m for m in self.messages]
        # In Responses an answer can be several items in a row.
        return sum(
            1 for one, before in zip(answers, [False, *answers], strict=False) if one > before
        )

    @property
    def system(self) -> str:
        found = self.body.get("system") or self.body.get("instructions")
        if found is None:
            return self.messages[0]["content"]
        return found if isinstance(found, str) else "".join(part["text"] for part in found)

    @property
    def task(self) -> str:
        """What the agent was told first."""
        return _text(next(m for m in self.messages if m.get("role") == "user"))

    @property
    def tools(self) -> set[str]:
        return {(t.get("function") or t)["name"] for t in self.body["tools"]}

    def text(self, message: int = -1) -> str:
        """All the text of one message, results of tools too."""
        return _text(self.messages[message])

    @property
    def whole(self) -> str:
        return "\n".join(_text(m) for m in self.messages)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(v) for v in cast("list[Any]", value))
    found = cast("dict[str, Any]", value)
    return "\n".join(_text(found[k]) for k in ("text", "content", "output") if found.get(k))


Turn = str | tuple[str, Any] | list[tuple[str, Any]] | Callable[[Asked], Any]


@dataclass
class Script:
    """What the provider answers, and what it was asked and has billed. A turn may block."""

    url: str = ""
    status: int = 0
    cuts: bool = False
    plays: dict[str, list[Turn]] = field(default_factory=dict[str, list[Turn]])
    asked: list[Asked] = field(default_factory=list[Asked])
    bills: list[Bill] = field(default_factory=list[Bill])
    strange: list[str] = field(default_factory=list[str])

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """What a call gets, and it is billed."""
        wire: Any = wires.of(path)
        if wire is None:
            return 404, {"error": {"message": "no such path"}}
        if self.status:
            return self.status, wire.error(self.status)
        asked = Asked(body)
        self.asked.append(asked)
        bill = Bill(body["model"], tokens_of(body), 0)
        said = self._said(asked)
        bill.output = said.tokens
        self.bills.append(bill)
        return 200, wire.whole(body, said, wire.usage(bill.input, bill.output, 0, 0))

    def _said(self, asked: Asked) -> Said:
        found = [turns for word, turns in self.plays.items() if word in asked.task]
        if len(found) != 1 or asked.turn >= len(found[0]):
            self.strange.append(f"turn {asked.turn} of {asked.task[-200:]}")
            return Said(text=["(the script has no such turn)"])
        turn: Any = found[0][asked.turn]
        if callable(turn):
            turn = turn(asked)
        if isinstance(turn, str):
            return Said(text=[f"{word} " for word in turn.split()])
        turns = cast("list[Any]", turn if isinstance(turn, list) else [turn])
        calls = [Call(*one) for one in turns]
        return Said(call=calls[0], more=calls[1:])

    @property
    def billed(self) -> int:
        return sum(bill.tokens for bill in self.bills)

    def of(self, word: str) -> list[Asked]:
        """The requests of the agent with this word in its task."""
        return [a for a in self.asked if word in a.task]


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        keys = (self.headers["x-api-key"], (self.headers["authorization"] or "")[7:])
        if self.script.cuts:
            self.close_connection = True
            return
        status, found = self.script.answer(self.path.partition("?")[0], body)
        if KEY not in keys:
            status, found = 401, {"error": {"message": "wrong key"}}
        raw = json.dumps(found).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
        del format, args


@pytest.fixture
def script(shell: Shell) -> Iterator[Script]:
    """A provider that plays scripts, and a shell whose gateway leads to it."""
    one = Script()
    answering = type("Answering", (_Answering,), {"script": one})
    with ThreadingHTTPServer(("127.0.0.1", 0), answering) as server:
        server.daemon_threads = True
        one.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        shell.env |= {
            "ANTHROPIC_API_KEY": KEY,
            "OPENAI_API_KEY": KEY,
            "BOUGH_ANTHROPIC_URL": one.url,
            "BOUGH_OPENAI_URL": f"{one.url}/v1",
            "BOUGH_QUEUE_S": "1",
        }
        yield one
        server.shutdown()
        thread.join(10)
    assert one.strange == []


def start(
    shell: Shell,
    task: str,
    *,
    budget: int = 200_000,
    model: str = MODEL,
    tools: list[str] | None = None,
) -> str:
    """A root agent of the driver llm, without the command line; its id."""
    program: dict[str, Any] = {"argv": [], "model": model}
    program |= {"tools": tools} if tools else {}
    return shell.value(
        "select id::text from bough_api.spawn(key => gen_random_uuid(), parent_id => null,"
        " task => %s, role => 'agent', budget => %s, driver => 'llm', program => %s,"
        " repo_path => %s, base_commit => %s, target_branch => 'main', runner_id => null,"
        " timeout_s => null, max_depth => null, max_children => null, max_running => null)",
        task,
        budget,
        Jsonb(program),
        str(shell.repo),
        shell.git("rev-parse", "main"),
    )


def used(shell: Shell) -> int:
    """What all agents were charged."""
    return shell.value("select coalesce(sum(tokens_used), 0)::bigint from bough.reservations")


def overdraft(shell: Shell) -> int:
    return shell.value("select coalesce(sum(overdraft), 0)::bigint from bough.budgets")


def entries(shell: Shell, agent: str) -> list[Any]:
    """The recorded conversation."""
    sql = "select entry from bough.conversations where agent_id = %s order by number"
    return [row[0] for row in shell.look.execute(sql, (agent,)).fetchall()]
