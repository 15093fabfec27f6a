"""The most input tokens of a call are known before it, and what was counted before is used."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from gateways import AMPLE, WIRES, Gate, body_for
from hypothesis import given
from hypothesis import strategies as st

from bough.client.bound import TEMPLATE_TOKENS, least_output, size
from bough.gateway import chat, messages, responses
from bough.gateway.bound import JOIN_TOKENS, Bounds
from bough.gateway.events import Events
from bough.gateway.usage import ChatMeter, MessagesMeter, ResponsesMeter

pytest_plugins = ["gateways"]

READ = {"messages": messages.WIRE, "chat": chat.WIRE, "responses": responses.WIRE}
every_wire = pytest.mark.parametrize("wire", WIRES)


def talk(wire: str, *texts: str, **more: Any) -> Any:
    """A conversation of these texts."""
    said = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)]
    return body_for(wire) | {"input" if wire == "responses" else "messages": said} | more


def bound_of(bounds: Bounds, wire: str, *texts: str, **more: Any) -> int:
    return bounds.of(READ[wire].read(talk(wire, *texts, **more))).tokens


@given(st.text())
def test_a_text_has_at_most_as_many_tokens_as_its_longer_form_has_bytes(text: str) -> None:
    assert size(text) >= len(text.encode("utf-8", "surrogatepass"))


def test_text_that_a_tokenizer_makes_longer_is_bounded_by_the_longer_form() -> None:
    # One ligature of three bytes becomes 18 letters of 33 bytes, at most a token each.
    assert size("\ufdfa" * 100) == 3_300
    assert size("\uff21" * 100) == 300
    assert size("\ud800") == 3


@every_wire
def test_escapes_and_other_writing_do_not_hide_tokens(wire: str) -> None:
    plain = bound_of(Bounds(1), wire, "x" * 1_000)
    assert bound_of(Bounds(1), wire, "\ufdfa" * 1_000) > plain + 30_000
    raw = json.loads(json.dumps(talk(wire, "\ufdfa" * 1_000), ensure_ascii=True))
    assert Bounds(1).of(READ[wire].read(raw)).tokens > plain + 30_000
    assert plain > 1_000 + TEMPLATE_TOKENS


@every_wire
def test_a_conversation_that_goes_on_costs_what_was_counted_and_the_bytes_of_what_is_new(
    wire: str,
) -> None:
    bounds = Bounds(1)
    first = bounds.of(READ[wire].read(talk(wire, "x" * 80_000)))
    assert first.tokens > 80_000
    bounds.learn(first, 20_000)
    assert bound_of(bounds, wire, "x" * 80_000) == 20_000 + JOIN_TOKENS
    more = bound_of(bounds, wire, "x" * 80_000, "yes", "z" * 500)
    assert 20_500 + JOIN_TOKENS < more < 20_700 + JOIN_TOKENS
    # Another beginning, other tools or another model were never counted.
    assert bound_of(bounds, wire, "x" * 79_999 + "y", "yes") > 80_000
    assert bound_of(bounds, wire, "x" * 80_000, model="other") > 80_000
    tool: Any = {
        "name": "f",
        "input_schema": {},
        "type": "custom" if wire == "messages" else "function",
    }
    assert bound_of(bounds, wire, "x" * 80_000, tools=[tool]) > 80_000


def test_marks_for_the_cache_may_move_without_making_it_another_conversation() -> None:
    bounds = Bounds(1)

    def asked(*marked: bool) -> Any:
        mark = {"cache_control": {"type": "ephemeral"}}
        said: list[Any] = [
            {
                "role": "user",
                "content": [{"type": "text", "text": "x" * 9_000} | (mark if m else {})],
            }
            for m in marked
        ]
        return messages.WIRE.read(body_for("messages") | {"messages": said})

    bounds.learn(bounds.of(asked(True)), 100)
    assert bounds.of(asked(False, True)).tokens < 11_000


@every_wire
async def test_a_second_turn_holds_a_fraction_of_the_first(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    long = "x" * 40_000
    await agent.asks(wire, body=talk(wire, long))
    await agent.asks(wire, body=talk(wire, long, "a", "b"), stream=True)
    one, two = await agent.rows()
    assert one.reserved > 40_000 > 12_000 > two.reserved
    assert two.used is not None
    assert two.used <= two.reserved


async def test_a_count_of_what_the_provider_may_have_cut_bounds_nothing(gate: Gate) -> None:
    agent = await gate.agent()
    for _ in range(2):
        await agent.asks("responses", body=talk("responses", "x" * 9_000, truncation="auto"))
    one, two = await agent.rows()
    assert one.reserved == two.reserved > 9_000


@pytest.mark.parametrize("wire", ["messages", "responses"])
async def test_when_it_is_tight_the_provider_is_asked_to_count(gate: Gate, wire: str) -> None:
    agent = await gate.agent(30_000)
    called = await agent.asks(wire, text="x" * 40_000)
    assert called.status == 200
    counted = gate.provider.received[-2]
    assert counted.path.endswith(("/count_tokens", "/input_tokens"))
    assert not counted.body.keys() & {"max_tokens", "max_output_tokens", "stream"}
    (row,) = await agent.rows()
    assert row.used is not None
    assert row.used <= row.reserved < 12_000
    gate.provider.counts = False
    called = await agent.asks(wire, text="y" * 40_000)
    assert "tokens required" in called.error["message"]


async def test_a_count_costs_nothing_when_there_is_room(gate: Gate) -> None:
    agent = await gate.agent(AMPLE)
    await agent.asks("messages", text="x" * 40_000)
    assert len(gate.provider.received) == 1


@pytest.mark.parametrize(
    ("allocated", "wanted", "least"),
    [
        (AMPLE, 32_000, 4_000),
        (100_000, 32_000, 4_000),
        (50_000, 32_000, 2_500),
        (1_000, 900, 50),
        (10, 900, 16),
        (AMPLE, 300, 300),
    ],
)
def test_a_small_account_is_used_up_and_a_large_one_makes_no_stumps(
    allocated: int, wanted: int, least: int
) -> None:
    assert least_output(allocated, wanted) == least


METERS = {"messages": MessagesMeter, "chat": ChatMeter, "responses": ResponsesMeter}


@every_wire
async def test_however_a_stream_is_cut_into_pieces_it_is_read_the_same(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    body = body_for(wire, "m?out=12&cache=2", stream=True)
    if wire == "chat":
        body["stream_options"] = {"include_usage": True}
    raw = (await agent.asks(wire, body=body)).raw
    bill = gate.provider.bills[0]

    @given(st.lists(st.integers(0, len(raw)), max_size=40), st.booleans())
    def check(cuts: list[int], carriage: bool) -> None:
        whole = raw.replace(b"\n", b"\r\n") if carriage else raw
        places = sorted({0, len(whole), *cuts})
        events, meter, passed = Events(), METERS[wire](True), b""
        for start, end in pairwise(places):
            for event in events.take(whole[start:end]):
                assert meter.read(event)
                passed += event
        assert passed + events.rest == whole
        assert meter.ended
        used = meter.used
        assert used
        assert (used.total, used.cache_read) == (bill.tokens, 2)

    await asyncio.to_thread(check)


@every_wire
async def test_a_stream_that_stops_anywhere_before_its_end_has_no_known_use(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    body = body_for(wire, stream=True)
    if wire == "chat":
        body["stream_options"] = {"include_usage": True}
    raw = (await agent.asks(wire, body=body)).raw
    ends = {
        "messages": b"message_stop",
        "chat": b"prompt_tokens",
        "responses": b"response.completed",
    }
    last = raw.index(ends[wire])
    for length in range(0, last, 7):
        meter = METERS[wire](True)
        for event in Events().take(raw[:length]):
            meter.read(event)
        assert meter.used is None, raw[:length]
