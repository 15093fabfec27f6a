"""An ordinary program asks a model through the gateway; the ledger equals the provider's bill."""

import asyncio
import json
from uuid import uuid4

import pytest
from gateways import AMPLE, STOPS, WIRES, Gate, body_for
from provider import KEY

pytest_plugins = ["gateways"]

every_wire = pytest.mark.parametrize("wire", WIRES)


@every_wire
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_answered_and_the_ledger_equals_the_bill(
    gate: Gate, wire: str, stream: bool
) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, "m?out=30&cache=3&wrote=2", stream=stream)
    assert called.status == 200
    assert b"w29 " in called.raw
    (bill,) = gate.provider.bills
    (row,) = await agent.rows()
    assert (row.status, row.used) == ("settled", bill.tokens)
    assert row.parts == (bill.input - 5, 30, 3, 2)
    assert (await agent.account()).available == AMPLE - bill.tokens
    await gate.is_sound()


@every_wire
async def test_the_bytes_of_a_stream_arrive_as_the_provider_sent_them(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    body = body_for(wire, "m?out=40", stream=True)
    if wire == "chat":
        body["stream_options"] = {"include_usage": True}
    through = await agent.asks(wire, body=body)
    sent = gate.provider.received[-1]
    direct = await gate.http.post(
        gate.provider.url + sent.path, json=sent.body, headers={"x-api-key": KEY}
    )
    assert through.raw == direct.content
    assert through.headers["content-type"] == direct.headers["content-type"]


async def test_the_extra_usage_chunk_goes_only_to_those_who_asked_for_it(gate: Gate) -> None:
    agent = await gate.agent()
    plain = await agent.asks("chat", "m", stream=True)
    asked = await agent.asks("chat", "m", stream=True, stream_options={"include_usage": True})
    assert b"prompt_tokens" not in plain.raw
    assert plain.raw.endswith(b"data: [DONE]\n\n")
    assert b"prompt_tokens" in asked.raw
    events = [e for e in asked.raw.split(b"\n\n") if b"prompt_tokens" not in e]
    assert plain.raw.split(b"\n\n") == events
    assert [r.status for r in await agent.rows()] == ["settled", "settled"]


@every_wire
async def test_the_providers_key_goes_to_the_provider_and_the_agents_token_does_not(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, "m", headers={"x-custom": "1", "openai-organization": "o"})
    (sent,) = gate.provider.received
    assert KEY in (sent.headers.get("x-api-key"), sent.headers.get("authorization", "")[7:])
    assert agent.token not in json.dumps([sent.headers, sent.body])
    assert not sent.headers.keys() & {"x-custom", "openai-organization", "cookie"}
    assert KEY not in str(called.headers) + called.raw.decode()


@every_wire
async def test_either_form_of_key_is_taken(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    for headers in ({"x-api-key": agent.token}, {"authorization": f"Bearer {agent.token}"}):
        agent.token = "no"
        gate_headers = {"x-api-key": "", "authorization": ""} | headers
        assert (await agent.asks(wire, headers=gate_headers)).status == 200
        agent.token = next(iter(headers.values())).removeprefix("Bearer ")


@every_wire
async def test_a_wrong_key_is_refused_in_the_shape_of_the_wire(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    agent.token = "guessed"
    called = await agent.asks(wire)
    assert called.status == 401
    kind = "authentication_error" if wire == "messages" else "invalid_request_error"
    assert called.error["type"] == kind
    assert called.body.get("type") == ("error" if wire == "messages" else None)
    assert gate.provider.received == []


@every_wire
async def test_an_agent_that_has_ended_is_told_to_stop(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    await gate.client.terminate(agent.id, reason="x")
    called = await agent.asks(wire)
    assert called.status == STOPS[wire]
    assert called.headers["x-should-retry"] == "false"
    assert "has terminated and spends no more" in called.error["message"]
    assert gate.provider.received == []


@every_wire
async def test_a_call_that_does_not_fit_is_refused_in_a_way_that_stops_the_program(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent(100)
    called = await agent.asks(wire)
    assert (called.status, called.headers["x-should-retry"]) == (STOPS[wire], "false")
    if wire == "messages":
        assert (called.body["type"], called.error["type"]) == ("error", "billing_error")
    else:
        assert called.error["code"] == "budget_exhausted"
    assert "tokens required, 100 available" in called.error["message"]
    assert "Do not try again" in called.error["message"]
    assert gate.provider.bills == []
    assert (await agent.account()).available == 100


@every_wire
async def test_a_program_that_names_no_most_output_gets_the_cap_and_one_that_asks_for_more_too(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    for most in (None, 128_000, 500):
        await agent.asks(wire, most=most)
    fields = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    sent = [[r.body.get(f) for f in fields if r.body.get(f)] for r in gate.provider.received]
    assert sent == [[32_000], [32_000], [500]]
    assert (await agent.rows())[2].reserved < 2_000


@every_wire
async def test_the_most_output_is_lowered_to_what_is_left(gate: Gate, wire: str) -> None:
    agent = await gate.agent(10_000)
    assert (await agent.asks(wire, most=None)).status == 200
    (row,) = await agent.rows()
    assert row.reserved == 10_000
    sent = gate.provider.received[-1].body
    fields = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    (most,) = [sent[f] for f in fields if f in sent]
    assert 8_000 < most < 10_000
    await gate.is_sound()


async def test_less_than_four_thousand_tokens_of_answer_is_no_call_but_in_a_small_budget(
    gate: Gate,
) -> None:
    large = await gate.agent(100_000)
    key = uuid4()
    await gate.client.reserve(key, large.id, 95_500)
    refused = asyncio.create_task(large.asks("messages", most=None))
    # Others hold the rest, so it waits; given back, it goes on with all of it.
    await gate.client.release(key, large.id)
    assert (await refused).status == 200
    small = await gate.agent(2_000)
    assert (await small.asks("chat", most=None)).status == 200
    assert gate.provider.received[-1].body["max_completion_tokens"] < 1_000


async def test_thinking_goes_down_with_the_most_output(gate: Gate) -> None:
    thinking = {"type": "enabled", "budget_tokens": 31_999}
    for budget in (AMPLE, 20_000, 1_200):
        agent = await gate.agent(budget)
        called = await agent.asks("messages", most=32_000, thinking=thinking)
        assert called.status == 200
    full, less, none = (r.body for r in gate.provider.received if "max_tokens" in r.body)
    assert (full["max_tokens"], full["thinking"]) == (32_000, thinking)
    assert 1_024 <= less["thinking"]["budget_tokens"] < less["max_tokens"] < 20_000
    assert none["thinking"] == {"type": "disabled"}


async def test_a_call_whose_other_choices_count_too_is_held_for_all_of_them(gate: Gate) -> None:
    agent = await gate.agent()
    await agent.asks("chat", "m?out=5", most=1_000, n=4)
    (row,) = await agent.rows()
    assert row.reserved > 4_000


@every_wire
async def test_who_has_heard_the_end_finds_it_settled(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    for _ in range(5):
        async with agent.streams(wire, "m?out=3") as response:
            async for chunk in response.aiter_raw():
                if any(end in chunk for end in (b"message_stop", b"[DONE]", b"response.completed")):
                    assert (await agent.account()).open_calls == 0
    assert len(await agent.rows()) == 5


@every_wire
async def test_an_unknown_model_has_no_price_and_what_the_provider_says_of_it_is_passed_on(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    assert (await agent.asks(wire, "nobodys-model")).status == 200
    account = await agent.account()
    assert account.unpriced_tokens == account.used == gate.provider.billed
    called = await agent.asks(wire, "nobodys-model?status=404")
    assert (called.status, called.error["message"]) == (404, "scripted 404")
    assert (await agent.rows())[-1].status == "released"


async def test_a_known_model_has_a_price(gate: Gate) -> None:
    agent = await gate.agent()
    await agent.asks("messages", "claude-sonnet-4-5", most=50)
    account = await agent.account()
    assert account.unpriced_tokens == 0
    (bill,) = gate.provider.bills
    assert float(account.cost_usd) == pytest.approx((bill.input * 3 + bill.output * 15) / 1e6)


async def test_counting_and_listing_models_cost_nothing(gate: Gate) -> None:
    agent = await gate.agent(1_000)
    body = body_for("messages", stream=True)
    counted = await agent.asks("messages", body=body, path="/v1/messages/count_tokens")
    assert counted.body["input_tokens"] > 0
    assert "max_tokens" not in gate.provider.received[-1].body
    headers = {"x-api-key": agent.token}
    listed = await gate.http.get(f"{gate.url}/v1/models", headers=headers)
    assert listed.json()["data"]
    bearer = {"authorization": f"Bearer {agent.token}"}
    assert (await gate.http.get(f"{gate.url}/v1/models", headers=bearer)).status_code == 200
    assert (await gate.http.get(f"{gate.url}/v1/models")).status_code == 401
    assert await agent.rows() == []
