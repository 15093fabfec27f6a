"""What goes wrong at the provider, in the request and in the set-up: each has one defined answer.

Nothing is unaccounted: after each the ledger equals what the provider billed, or is above it.
"""

import asyncio
import gzip
import json
import socket
from typing import Any

import httpx2
import pytest
from conftest import Sessions
from gateways import AMPLE, STOPS, WIRES, Gate, body_for, gated, settings_for
from provider import KEY, provided

from bough.gateway.settings import Settings

pytest_plugins = ["gateways"]

every_wire = pytest.mark.parametrize("wire", WIRES)
either_way = pytest.mark.parametrize("stream", [False, True])


@every_wire
@either_way
async def test_an_error_of_the_provider_is_passed_on_and_costs_nothing(
    gate: Gate, wire: str, stream: bool
) -> None:
    agent = await gate.agent()
    for status in (400, 403, 429, 500, 529):
        called = await agent.asks(wire, f"m?status={status}", stream=stream)
        assert (called.status, called.error["message"]) == (status, f"scripted {status}")
        assert called.headers["retry-after"] == "7"
        assert "x-should-retry" not in called.headers
    assert [r.status for r in await agent.rows()] == ["released"] * 5
    assert (await agent.account()).available == AMPLE
    assert gate.provider.billed == 0


@every_wire
async def test_a_key_that_the_provider_refuses_is_the_operators_affair(
    sessions: Sessions, wire: str
) -> None:
    async with provided() as provider:
        settings = settings_for(provider.url)
        wrong = {"x-api-key": "sk-wrong", "authorization": "Bearer sk-wrong"}
        for upstream in settings.upstreams.values():
            upstream.headers.update(wrong)
        async with gated(sessions, settings) as gate:
            agent = await gate.agent()
            called = await agent.asks(wire)
            assert called.status == (400 if wire == "responses" else 403)
            assert called.headers["x-should-retry"] == "false"
            assert "check its key" in called.error["message"]
            # The provider's own text holds a part of the key.
            assert KEY[:8].encode() not in called.raw
            assert (await agent.account()).available == AMPLE


@every_wire
async def test_a_redirection_is_not_followed_and_costs_nothing(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, "m?status=307")
    assert called.status == (400 if wire == "responses" else 403)
    assert "answers 307 to the gateway" in called.error["message"]
    assert len(gate.provider.received) == 1
    assert [r.status for r in await agent.rows()] == ["released"]


@every_wire
async def test_without_an_upstream_the_variable_to_set_is_named(
    sessions: Sessions, wire: str
) -> None:
    async with gated(sessions, Settings(upstreams={})) as gate:
        agent = await gate.agent()
        called = await agent.asks(wire)
        assert called.status == (400 if wire == "responses" else 403)
        assert called.headers["x-should-retry"] == "false"
        provider = "ANTHROPIC" if wire == "messages" else "OPENAI"
        assert f"set {provider}_API_KEY, or BOUGH_{provider}_URL" in called.error["message"]


@every_wire
async def test_a_provider_that_cannot_be_reached_costs_nothing(
    sessions: Sessions, wire: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    async with gated(sessions, settings_for(f"http://127.0.0.1:{port}")) as gate:
        agent = await gate.agent()
        called = await agent.asks(wire)
        assert (called.status, called.headers.get("x-should-retry")) == (502, None)
        assert "cannot be reached; nothing was charged" in called.error["message"]
        assert [r.status for r in await agent.rows()] == ["released"]


@every_wire
async def test_a_stream_that_breaks_is_cut_for_the_program_too_and_charged_in_full(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    got: list[bytes] = []

    async def listen() -> None:
        async with agent.streams(wire, "m?out=30&cut=7", most=500) as response:
            async for chunk in response.aiter_raw():
                got.append(chunk)

    with pytest.raises(httpx2.RemoteProtocolError):
        await listen()
    assert b"w6 " in b"".join(got)
    (row,) = await agent.rows()
    assert (row.status, row.used) == ("settled", row.reserved)
    assert row.parts == (None,) * 4
    assert gate.provider.billed <= row.reserved
    await gate.is_sound()


@every_wire
async def test_a_connection_that_breaks_before_the_answer_is_charged_in_full(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, "m?cut=0")
    assert called.status == 502
    assert "charged in full" in called.error["message"]
    (row,) = await agent.rows()
    assert row.used == row.reserved >= gate.provider.billed > 0


@every_wire
@either_way
@pytest.mark.parametrize("usage", ["none", "zero"])
async def test_an_answer_without_usage_is_passed_on_and_charged_in_full(
    gate: Gate, wire: str, stream: bool, usage: str
) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, f"m?out=9&usage={usage}", stream=stream)
    assert called.status == 200
    assert b"w8 " in called.raw
    (row,) = await agent.rows()
    assert row.used == row.reserved >= gate.provider.billed > 0


@every_wire
async def test_an_error_in_the_middle_of_a_stream_is_passed_on_and_charged_in_full(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, "m?out=9&error=1", stream=True)
    assert (called.status, b"error" in called.raw) == (200, True)
    (row,) = await agent.rows()
    assert row.used == row.reserved >= gate.provider.billed


@every_wire
@either_way
async def test_a_provider_that_never_answers_is_given_up_and_charged_in_full(
    sessions: Sessions, wire: str, stream: bool
) -> None:
    async with gated(sessions, BOUGH_CALL_S="1") as slow:
        agent = await slow.agent()
        called = await agent.asks(wire, "m?hang=1", stream=stream)
        assert (called.status, called.headers["x-should-retry"]) == (504, "false")
        assert "within 1 s" in called.error["message"]
        (row,) = await agent.rows()
        assert row.used == row.reserved >= slow.provider.billed > 0
        await slow.is_sound()


@every_wire
@either_way
async def test_what_is_billed_beyond_the_bound_is_charged_and_stops_the_agent_when_all_is_gone(
    gate: Gate, wire: str, stream: bool
) -> None:
    agent = await gate.agent(3_000)
    called = await agent.asks(wire, "m?out=5&beyond=5000", stream=stream, most=50)
    assert called.status == 200
    account = await agent.account()
    assert (account.used, account.frozen_reason) == (gate.provider.billed, "overdraft")
    called = await agent.asks(wire)
    assert (called.status, "frozen (overdraft)" in called.error["message"]) == (STOPS[wire], True)
    assert len(gate.provider.bills) == 1
    await gate.is_sound()


@every_wire
async def test_a_request_that_makes_no_sense_is_refused_and_costs_nothing(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    good = body_for(wire, most=1)
    field = next(name for name in good if name.startswith("max_"))
    items = "input" if wire == "responses" else "messages"
    bodies: list[Any] = [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000]
    bodies += [good | {field: most} for most in (0, -1, 1.5, True, "many")]
    bodies += [good | {"model": model} for model in (1, "", " ", None, "m" * 201, "m\0", "\ud800")]
    bodies += [good | {items: value} for value in (None, [], 1, [1], {"role": "user"})]
    bodies += [good | {"stream": "yes"}, good | {"tools": "none"}, good | {"tools": [1]}]
    for body in bodies:
        called = await agent.asks(wire, body=body)
        assert (called.status, called.headers["x-should-retry"]) == (400, "false"), body
        assert called.error["message"]
    assert await agent.rows() == []


async def test_a_request_that_is_too_large_is_read_and_refused(gate: Gate) -> None:
    agent = await gate.agent()
    called = await agent.asks("messages", body=b"x" * 50_000_000)
    assert (called.status, called.error["type"]) == (413, "request_too_large")
    assert "50000000 bytes, at most 32000000" in called.error["message"]
    packed = gzip.compress(b"x" * 50_000_000)
    called = await agent.asks("chat", body=packed, headers={"content-encoding": "gzip"})
    assert (called.status, called.error["code"]) == (413, "request_too_large")
    assert await agent.rows() == []


async def test_a_packed_request_is_unpacked_and_an_unknown_packing_refused(gate: Gate) -> None:
    agent = await gate.agent()
    packed = gzip.compress(json.dumps(body_for("responses")).encode())
    called = await agent.asks("responses", body=packed, headers={"content-encoding": "gzip"})
    assert called.status == 200
    called = await agent.asks("responses", body=b"x", headers={"content-encoding": "zstd"})
    assert called.status == 415
    called = await agent.asks("responses", body=b"x", headers={"content-encoding": "gzip"})
    assert called.status == 400


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "same-site"}],
    ids=["host", "origin", "browser"],
)
async def test_a_page_in_a_browser_cannot_ask(gate: Gate, headers: dict[str, str]) -> None:
    agent = await gate.agent()
    called = await agent.asks("messages", headers=headers)
    assert (called.status, called.error["type"]) == (403, "permission_error")
    assert await agent.rows() == []


async def test_what_is_not_served_says_what_is(gate: Gate) -> None:
    agent = await gate.agent()
    for path in ("/v1/messages/batches", "/v1/batches", "/v1/responses/compact", "/v1/embeddings"):
        called = await agent.asks("messages", path=path)
        assert (called.status, "/v1/messages" in called.error["message"]) == (404, True)
    headers = {"authorization": f"Bearer {agent.token}"}
    gate.provider.received.clear()
    for name in ("..%2ffiles", "%2e%2e/files", "a/..%2f..%2ffiles", "a%3fb", "a/b/c/d", ""):
        found = await gate.http.get(f"{gate.url}/v1/models/{name}", headers=headers)
        assert found.status_code == 404, name
    assert gate.provider.received == []
    assert (await gate.http.get(gate.url)).json()["providers"] == ["anthropic", "openai"]


async def test_while_the_database_is_away_nothing_is_forwarded(gate: Gate) -> None:
    agent = await gate.agent()
    name = (await (await gate.look.execute("select current_database()")).fetchone())[0]
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        f" where datname = '{name}' and pid <> pg_backend_pid()"
    )
    statuses: set[int] = set()
    for _ in range(20):
        asking = [asyncio.create_task(agent.asks("messages", stream=True)) for _ in range(3)]
        await gate.look.execute(kill)
        statuses |= {(await task).status for task in asking}
    assert statuses <= {200, 503}
    async with asyncio.timeout(20):
        while (await agent.account()).open_calls:
            await asyncio.sleep(0.05)
    rows = await agent.rows()
    assert sum(row.used or 0 for row in rows) >= gate.provider.billed
    await gate.is_sound()
