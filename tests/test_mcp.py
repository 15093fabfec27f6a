"""Bough's words as MCP tools, asked by the SDK's own client, over stdio and over HTTP."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from cli import Shell, until
from mcp import Client, StdioServerParameters

from bough.runner.llm.entry import cut
from bough.surfaces.mcp.acting import LONGEST_WAIT_S

pytest_plugins = ["cli"]
ASKING = """
import asyncio, json, os, sys
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
import httpx2

async def main():
    calls = json.load(open(sys.argv[2]))
    if sys.argv[1] == "http":
        headers = {"Authorization": "Bearer " + os.environ["BOUGH_TOKEN"]}
        http = httpx2.AsyncClient(headers=headers, timeout=60)
        server = streamable_http_client(os.environ["BOUGH_URL"] + "/mcp", http_client=http)
    else:
        argv = [sys.executable, "-m", "bough", "mcp"]
        server = StdioServerParameters(command=argv[0], args=argv[1:], env=dict(os.environ))
    kept, progress = {}, []
    async def moved(done, total, message):
        progress.append(message)
    async with Client(server) as client:
        names = sorted(t.name for t in (await client.list_tools()).tools)
        print(json.dumps(["tools", False, names]), flush=True)
        for name, given in calls:
            given = json.loads(json.dumps(given).replace("$ID", kept.get("id", "")))
            found = await client.call_tool(name, given, progress_callback=moved)
            text = found.content[0].text
            if name == "spawn" and not found.is_error:
                kept |= json.loads(text)
            print(json.dumps([name, found.is_error, text]), flush=True)
    print(json.dumps(["progress", False, progress]), flush=True)
asyncio.run(main())
"""
Heard = tuple[str, bool, Any]


def asking(shell: Shell, how: str, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    """A program of an agent that asks for these tools and prints what it hears."""
    script, given = shell.place / "asking.py", shell.place / f"calls-{how}.json"
    script.write_text(ASKING)
    given.write_text(json.dumps(calls))
    return [sys.executable, str(script), how, str(given)]


def heard(shell: Shell, agent: str) -> list[Heard]:
    lines = shell("logs", agent).out.splitlines()
    return [tuple(json.loads(line)) for line in lines if line.startswith("[")]


@pytest.mark.parametrize("how", ["http", "stdio"])
def test_an_agent_spawns_waits_merges_talks_and_finishes_by_tools(shell: Shell, how: str) -> None:
    shell.runner()
    work = ["sh", "-c", "echo work > b.txt; bough finish --result '{\"n\": 1}'; echo said"]
    agent = shell.spawn(
        *("t", "--budget", "50k", "--"),
        *asking(
            shell,
            how,
            ("spawn", {"task": "w", "budget": "5k", "role": "worker", "command": work}),
            ("wait", {"ids": ["$ID"], "seconds": 30}),
            ("show", {"id": "$ID"}),
            ("logs", {"id": "$ID"}),
            ("diff", {"id": "$ID"}),
            ("merge", {"id": "$ID"}),
            ("budget", {}),
            ("send", {"to": "operator", "text": "merged"}),
            ("inbox", {}),
            ("report", {"text": "nearly", "progress": 0.9}),
            ("finish", {"result": {"merged": 1}}),
        ),
    )
    shell.reaches(agent, "completed")
    found = heard(shell, agent)
    assert [h for h in found if h[1]] == []
    texts = {name: text for name, _, text in found}
    assert {"spawn", "wait", "merge", "finish", "charge"} <= set(texts["tools"])
    assert not {"approve", "reject"} & set(texts["tools"])
    waited = json.loads(texts["wait"])
    assert waited["done"]
    assert (waited["agents"][0]["status"], waited["agents"][0]["role"]) == ("completed", "worker")
    assert json.loads(texts["show"])["result"] == {"n": 1}
    assert texts["logs"] == "said\n"
    assert "+work" in texts["diff"]
    assert json.loads(texts["budget"])["available"] == 50_000
    shown = shell.json("show", agent)
    assert shown["result"] == {"merged": 1}
    assert (shown["progress"], shown["progress_note"]) == (0.9, "nearly")
    assert "b.txt" in shell.git("ls-tree", "--name-only", shown["workspace"]["branch"])
    assert [m["payload"]["text"] for m in shell.json("inbox")] == ["merged"]
    assert json.loads(texts["inbox"])[0]["type"].startswith("child.")


@pytest.mark.parametrize("how", ["http", "stdio"])
def test_a_refusal_is_a_result_in_one_line_and_the_next_call_works(shell: Shell, how: str) -> None:
    shell.runner()
    other = shell.plant("true", key="00000000-0000-4000-8000-000000000001")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("spawn", {"task": "t", "budget": "6k", "command": ["true"]}),
        ("spawn", {"task": "t", "budget": "lots", "command": ["true"]}),
        ("spawn", {"task": "t", "budget": "10"}),
        ("spawn", {"task": "t", "budget": "10", "command": ["true"], "repo": "/"}),
        ("show", {"id": other}),
        ("kill", {"id": "parent"}),
        ("wait", {"ids": [], "seconds": 1}),
        ("inbox", {"seconds": 46}),
        ("ack", {"messages": ["77"]}),
        ("report", {"text": "fine"}),
    ]
    agent = shell.spawn("t", "--budget", "5k", "--", *asking(shell, how, *calls))
    shell.reaches(agent, "completed")
    told = [(wrong, text) for _, wrong, text in heard(shell, agent)[1:-1]]
    assert [wrong for wrong, _ in told] == [True] * 9 + [False]
    for text, part in zip(
        [text for _, text in told],
        [
            "6000 tokens required, 5000 may be given",
            "'lots' is no number of tokens",
            "say which program does the work",
            "leave repo out",
            "no agent 00000000",
            "the root has no parent",
            "say which agents to wait for",
            f"a tool waits 0 to {LONGEST_WAIT_S} seconds",
            "no message 77 here",
            "noted",
        ],
        strict=True,
    ):
        assert part.split(",")[0] in text
        assert "\n" not in text


def test_a_wait_gives_signs_of_life_then_says_to_call_again(shell: Shell) -> None:
    shell.runner()
    calls: list[tuple[str, dict[str, Any]]] = [
        ("spawn", {"task": "t", "budget": "1k", "command": ["sleep", "1000"]}),
        ("wait", {"ids": ["$ID"], "seconds": 6}),
        ("kill", {"id": "$ID"}),
        ("wait", {"ids": ["$ID"]}),
    ]
    agent = shell.spawn("t", "--budget", "5k", "--", *asking(shell, "http", *calls))
    shell.reaches(agent, "completed")
    found = heard(shell, agent)
    waited = json.loads(found[2][2])
    assert (waited["done"], waited["next"]) == (False, "still running, call again")
    assert json.loads(found[4][2])["agents"][0]["status"] == "terminated"
    assert found[-1][2] == ["still waiting"]


def test_a_role_that_takes_words_away_is_not_offered_their_tools(shell: Shell) -> None:
    role = shell.repo / ".bough/roles/quiet.md"
    role.parent.mkdir(parents=True)
    role.write_text("---\nx-bough:\n  tools:\n    deny: [spawn, budget]\n---\nBe quiet.\n")
    shell.commit("a role")
    shell.runner()
    agents = [
        shell.spawn("t", "--role", "quiet", "--", *asking(shell, how, ("spawn", {"task": "t"})))
        for how in ("stdio", "http")
    ]
    for agent in agents:
        shell.reaches(agent, "completed")
    stdio, http = (heard(shell, agent) for agent in agents)
    assert not {"spawn", "grant"} & set(stdio[0][2])
    assert {"send", "budget"} <= set(stdio[0][2])
    assert stdio[1][1]
    assert http[1][1]


async def test_a_person_spawns_talks_and_decides_from_an_editor(shell: Shell) -> None:
    shell.runner()
    env = shell.env | {"HOME": str(shell.place / "user")}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "bough", "mcp"], env=env, cwd=shell.repo
    )
    words = 'bough request-approval "drop?" --wait; bough inbox --wait 20s --json'
    async with Client(server) as client:

        async def call(name: str, **given: Any) -> Any:
            found = await client.call_tool(name, given)
            text: str = getattr(found.content[0], "text", "")
            assert not found.is_error, text
            return json.loads(text)

        tools = (await client.list_tools()).tools
        assert [t.name for t in tools if not t.description or "  " in t.description] == []
        reads = {t.name for t in tools if t.annotations and t.annotations.read_only_hint}
        assert reads >= {"ps", "show", "diff"}
        assert not reads & {"spawn", "merge", "kill", "approve"}
        names = {tool.name for tool in tools}
        assert "approve" in names
        assert not {"report", "finish", "charge"} & names
        made = await call("spawn", task="t", budget="4k", command=["sh", "-c", words])
        until(lambda: shell.json("approvals"), "the agent asks")
        [asked] = await call("approvals")
        await call("approve", id=asked["id"][:8], text="once")
        await call("send", to=made["id"], text="hello")
        waited = await call("wait", ids=[made["id"][:8]], seconds=30)
        assert waited["agents"][0]["status"] == "completed"
        assert (await call("budget", id=made["id"]))["allocated"] == 4000
        assert [a["id"] for a in (await call("tree", id=made["id"]))["agents"]] == [made["id"]]
        refused = await client.call_tool("budget", {})
        assert refused.is_error
    assert "once" in shell("logs", made["id"]).out
    assert "hello" in shell("logs", made["id"]).out


def test_the_door_asks_for_a_token_and_refuses_browsers(shell: Shell) -> None:
    shell.runner()
    ask = "curl -s -o /dev/null -w '%{http_code} ' -X POST $BOUGH_URL/mcp -d '{}'"
    good = "-H \"Authorization: Bearer $BOUGH_TOKEN\" -H 'Accept: text/event-stream'"
    words = (
        f"{ask}; {ask} -H 'Authorization: Bearer wrong'; {ask} {good} -H 'Origin: http://x';"
        f" {ask} {good} -H 'Host: evil.example'"
    )
    agent = shell.spawn("t", "--", "sh", "-c", words)
    shell.reaches(agent, "completed")
    assert shell("logs", agent).out.split() == ["401", "401", "403", "403"]


def test_no_command_but_mcp_imports_the_sdk() -> None:
    code = (
        "import sys, bough.surfaces.cli.main as m, importlib\n"
        "[importlib.import_module('bough.surfaces.cli.' + v) for v, _ in m._VERBS.values()]\n"
        "import bough.surfaces.agent_api.server\n"
        "assert 'mcp.server' not in sys.modules and 'pydantic' not in sys.modules\n"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.defpath}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_what_is_long_keeps_its_beginning_and_its_end() -> None:
    text = cut("a" * 100 + "b" * 100, most=20)
    assert text == "a" * 10 + "\n[… 180 characters are left out …]\n" + "b" * 10
    assert cut("short") == "short"
