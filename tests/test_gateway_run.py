"""Programs that know nothing of Bough, run by `bough run`, metered by the gateway it opens."""

import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import Shell, until
from live import Live
from provider import KEY

pytest_plugins = ["cli"]

ASK = """
import json, os, sys, urllib.error, urllib.request
wire, model, *more = sys.argv[1:]
said = [{"role": "user", "content": os.environ["BOUGH_TASK"]}]
if wire == "anthropic":
    url, body = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", {"max_tokens": 50}
    headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}
else:
    url, body = os.environ["OPENAI_BASE_URL"] + "/chat/completions", {}
    headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
body |= {"model": model, "messages": said, "stream": "stream" in more}
headers["content-type"] = "application/json"
asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
try:
    with urllib.request.urlopen(asked) as answer:
        while piece := answer.read1(1000):
            print(piece.decode(), flush=True)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
    sys.exit(3)
"""


class Scripted:
    """The scripted provider in a process of its own."""

    def __init__(self, live: Live) -> None:
        self.url = live.says("\n").strip()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path) as answer:
            return json.load(answer)

    @property
    def billed(self) -> int:
        return sum(given + output for _, given, output in self.get("/bills"))


@pytest.fixture
def scripted(shell: Shell) -> Iterator[Scripted]:
    here = str(Path(__file__).parent)
    live = Live([sys.executable, "-m", "provider"], shell.repo, {"PYTHONPATH": here})
    provider = Scripted(live)
    shell.env |= {
        "ANTHROPIC_API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
        "BOUGH_ANTHROPIC_URL": provider.url,
        "BOUGH_OPENAI_URL": f"{provider.url}/v1",
    }
    (shell.repo / "ask.py").write_text(ASK)
    shell.commit("a program")
    yield provider
    live.close()


def used(shell: Shell, agent_id: str | None = None) -> int:
    sql = "select coalesce(sum(tokens_used), 0)::bigint from bough.reservations"
    return shell.value(f"{sql} where %s::uuid is null or agent_id = %s", agent_id, agent_id)


@pytest.mark.parametrize("wire", ["anthropic", "openai"])
def test_a_program_that_knows_nothing_of_bough_is_metered(
    shell: Shell, scripted: Scripted, wire: str
) -> None:
    program = [sys.executable, "ask.py", wire, "claude-sonnet-4-5", "stream"]
    done = shell("run", "hello", "--budget", "200k", "--", *program)
    assert "w19 " in done.err
    assert used(shell) == scripted.billed > 20
    assert f"{scripted.billed} of 200k tokens used" in done.out


def test_a_program_whose_budget_is_gone_is_told_to_stop(shell: Shell, scripted: Scripted) -> None:
    program = [sys.executable, "ask.py", "openai", "m"]
    done = shell("run", "hello", "--budget", "500", "--", *program, code=1)
    assert "403" in done.err
    assert "budget_exhausted" in done.err
    assert "500 available" in done.err
    assert scripted.billed == 0


def test_a_provider_key_reaches_no_program_and_no_row(shell: Shell, scripted: Scripted) -> None:
    shell.env |= {"CLAUDE_CODE_USE_BEDROCK": "1", "OPENAI_ORG_ID": "o", "CODEX_API_KEY": KEY}
    look = f"env; {sys.executable} ask.py anthropic m"
    found = json.loads(shell("run", "x", "--budget", "200k", "--json", "--", "sh", "-c", look).out)
    logs = shell("logs", found["id"]).out
    env = dict(line.split("=", 1) for line in logs.splitlines() if "=" in line)
    assert env["ANTHROPIC_API_KEY"] == env["ANTHROPIC_AUTH_TOKEN"] == env["BOUGH_TOKEN"]
    assert env["OPENAI_API_KEY"] == env["BOUGH_TOKEN"]
    assert env["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert env["OPENAI_BASE_URL"] == env["OPENAI_API_BASE"] == env["ANTHROPIC_BASE_URL"] + "/v1"
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "32000"
    assert "127.0.0.1" in env["NO_PROXY"]
    assert not env.keys() & {"BOUGH_ANTHROPIC_URL", "BOUGH_OPENAI_URL"}
    # Other ways past the gateway.
    assert not env.keys() & {"CLAUDE_CODE_USE_BEDROCK", "OPENAI_ORG_ID", "CODEX_API_KEY"}
    assert used(shell) == scripted.billed > 0
    tables = shell.look.execute("select tablename from pg_tables where schemaname = 'bough'")
    rows = "".join(
        str(shell.value(f"select string_agg(t::text, '') from bough.{name} t"))
        for (name,) in tables.fetchall()
    )
    assert found["id"] in rows
    assert KEY not in rows + logs


def test_what_the_runner_starts_does_not_inherit_a_provider_key(
    shell: Shell, scripted: Scripted
) -> None:
    seen = shell.place / "seen"
    shim = shell.place / "bin" / "git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nenv >>{seen}\nexec {shutil.which("git")} "$@"\n')
    shim.chmod(0o755)
    runner = shell.begin("runner", env={"PATH": f"{shim.parent}:{shell.env['PATH']}"})
    runner.says("waits for agents", on="err")
    agent = shell.spawn("x", "--", "sh", "-c", f"until [ -e {shell.gate} ]; do sleep 0.05; done")
    shell.reaches(agent, "running")
    until(lambda: shell.program_of(agent), "the program runs")
    mine = {runner.process.pid}
    for pid in sorted(int(e.name) for e in Path("/proc").iterdir() if e.name.isdigit()):
        entry = Path("/proc") / str(pid)
        try:
            parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            known = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent in mine:
            mine.add(pid)
            assert KEY.encode() not in known, known
    assert len(mine) > 2
    assert "BOUGH_ANTHROPIC_URL" in seen.read_text()
    assert KEY not in seen.read_text()
    shell.gate.touch()
    shell.reaches(agent, "completed")
    assert scripted.billed == 0


def test_programs_keep_their_own_keys_when_nothing_is_metered(shell: Shell) -> None:
    shell.env |= {"ANTHROPIC_API_KEY": "mine", "BOUGH_GATEWAY_URL": "none"}
    done = shell("run", "x", "--", "sh", "-c", "env | grep ANTHROPIC")
    assert done.err.count("ANTHROPIC") == 1
    assert "ANTHROPIC_API_KEY=mine" in done.err
    shell.env.pop("BOUGH_GATEWAY_URL")
    shell.env |= {"ANTHROPIC_API_KEY": "", "OPENAI_BASE_URL": "http://local"}
    done = shell("run", "x", "--", "sh", "-c", "env | grep OPENAI")
    assert "OPENAI_BASE_URL=http://local" in done.err


def test_a_gateway_of_its_own_serves_runners_that_know_its_address(
    shell: Shell, scripted: Scripted
) -> None:
    serving = shell.begin("serve", "--port", "0", "--json")
    serving.says("BOUGH_GATEWAY_URL=", on="err")
    found = json.loads(serving.text("out"))
    assert found["providers"] == ["anthropic", "openai"]
    taken = shell.refused("serve", "--port", found["url"].rpartition(":")[2], code=78)
    assert "is taken; give another" in taken
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "BOUGH_ANTHROPIC_URL", "BOUGH_OPENAI_URL"):
        del shell.env[name]
    shell.env["BOUGH_GATEWAY_URL"] = found["url"]
    shell("run", "hello", "--", sys.executable, "ask.py", "anthropic", "m", "stream")
    assert used(shell) == scripted.billed > 0
    serving.signal(15)
    assert serving.ends().code == 0
    away = shell.refused("run", "x", "--", "true", code=69)
    assert f"no gateway answers at BOUGH_GATEWAY_URL, {found['url']}" in away
    shell.env["BOUGH_GATEWAY_URL"] = scripted.url
    assert "is no gateway" in shell.refused("run", "x", "--", "true", code=78)
    shell.env["BOUGH_GATEWAY_URL"] = "127.0.0.1:1"
    assert "give the address" in shell.refused("run", "x", "--", "true", code=78)
    assert shell.traces() != []


def test_a_call_of_a_gateway_that_is_killed_is_charged_in_full_when_it_expires(
    shell: Shell, scripted: Scripted
) -> None:
    serving = shell.begin("serve", "--port", "0", "--json", env={"BOUGH_CALL_S": "1"})
    serving.says("BOUGH_GATEWAY_URL=", on="err")
    shell.env["BOUGH_GATEWAY_URL"] = json.loads(serving.text("out"))["url"]
    runner = shell.runner()
    program = [sys.executable, "ask.py", "anthropic", "m?gate=1", "stream"]
    agent = shell.spawn("x", "--budget", "50k", "--", *program)
    until(lambda: scripted.get("/bills"), "the call is under way")
    serving.signal(9)
    serving.ends()
    shell.reaches(agent, "failed")
    sql = "select tokens_reserved from bough.reservations where status = 'open' and agent_id = %s"
    reserved = shell.value(sql, agent)
    assert reserved > 0
    shell.look.execute("update bough.reservations set expires_at = bough.now()")
    until(lambda: used(shell, agent) == reserved, "a heart-beat charges it")
    assert reserved >= scripted.billed > 0
    runner.signal(15)


def test_a_call_of_an_agent_that_is_killed_is_settled(shell: Shell, scripted: Scripted) -> None:
    shell.runner()
    program = [sys.executable, "ask.py", "openai", "m?gate=1&out=40", "stream"]
    waits = f"until [ -e {shell.gate} ]; do sleep 0.05; done"
    parent = shell.spawn("p", "--budget", "100k", "--", "sh", "-c", waits)
    agent = shell.spawn("x", "--parent", parent, "--budget", "60k", "--", *program)
    until(lambda: scripted.get("/bills"), "the call is under way")
    shell("kill", agent)
    scripted.get("/open")
    until(lambda: used(shell, agent), "it is settled")
    assert used(shell, agent) == scripted.billed
    assert shell.json("budget", parent)["used"] == scripted.billed
    shell.gate.touch()
    shell.reaches(parent, "completed")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BOUGH_MAX_OUTPUT_TOKENS", "0", "give a whole number from 16"),
        ("BOUGH_CALL_S", "soon", "give a whole number from 1"),
        ("BOUGH_QUEUE_S", "-1", "give a whole number from 0"),
        ("BOUGH_ANTHROPIC_URL", "localhost", "give an address like https://api.anthropic.com"),
        ("BOUGH_OPENAI_KEY_FILE", "/nowhere", "/nowhere cannot be read"),
        ("BOUGH_CHAT_MAX_FIELD", "n", "give max_completion_tokens or max_tokens"),
    ],
)
def test_a_setting_that_makes_no_sense_refuses_to_start(
    shell: Shell, variable: str, value: str, said: str
) -> None:
    shell.env |= {"ANTHROPIC_API_KEY": KEY, variable: value}
    for command in (["serve"], ["run", "x", "--", "true"]):
        refused = shell.refused(*command, code=78)
        assert variable in refused
        assert said in refused
        assert KEY not in refused


def test_without_a_provider_serve_says_what_to_set_and_doctor_too(shell: Shell) -> None:
    assert "set ANTHROPIC_API_KEY or OPENAI_API_KEY" in shell.refused("serve", code=78)
    assert "models    not metered; set ANTHROPIC_API_KEY" in shell("doctor").out
    place = shell.place / "key"
    place.write_text(f"{KEY}\n")
    shell.env |= {"BOUGH_ANTHROPIC_KEY_FILE": str(place), "ANTHROPIC_BASE_URL": "http://proxy/v1/"}
    said = shell("doctor").out
    assert "models    metered: anthropic at http://proxy\n" in said
    assert KEY not in said
