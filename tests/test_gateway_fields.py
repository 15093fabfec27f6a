"""What of a request goes on to the provider: known fields and own tools; nothing that spends
elsewhere, and nothing that refers to what is not in the request."""

from typing import Any

import pytest
from gateways import WIRES, Gate, body_for

pytest_plugins = ["gateways"]

every_wire = pytest.mark.parametrize("wire", WIRES)
PNG = "iVBORw0KGgo="
DATA = f"data:image/png;base64,{PNG}"
FUNCTION: dict[str, Any] = {"name": "run", "description": "x", "input_schema": {"type": "object"}}


def with_content(wire: str, *parts: Any) -> Any:
    message = {"role": "user", "content": list(parts)}
    name = "input" if wire == "responses" else "messages"
    return body_for(wire) | {name: [message]}


async def sent_of(gate: Gate, wire: str, **more: Any) -> tuple[Any, str]:
    """What reaches the provider of such a request, and what the program is told is left out."""
    agent = await gate.agent()
    called = await agent.asks(wire, body=body_for(wire) | more)
    assert called.status == 200, called.raw
    return gate.provider.received[-1].body, called.headers.get("x-bough-left-out", "")


async def refused_for(gate: Gate, wire: str, word: str, **more: Any) -> None:
    agent = await gate.agent()
    called = await agent.asks(wire, body=body_for(wire) | more)
    assert (called.status, word in called.error["message"]) == (400, True), called.raw
    assert await agent.rows() == []


@every_wire
async def test_a_field_that_is_not_known_does_not_go_on_and_the_program_is_told(
    gate: Gate, wire: str
) -> None:
    sent, left_out = await sent_of(
        gate, wire, speed="fast", billing_policy="x", temperature=0.5, container=None
    )
    assert not sent.keys() & {"speed", "billing_policy", "container"}
    assert sent["temperature"] == 0.5
    assert left_out == "speed,billing_policy"


REFUSED: dict[str, dict[str, Any]] = {
    "messages": {
        "container": "c_1",
        "mcp_servers": [{"url": "http://x"}],
        "fallbacks": [{"model": "y"}],
        "thread": {"id": "t"},
        "service_tier": "priority",
    },
    "chat": {
        "audio": {"voice": "x"},
        "prediction": {"type": "content", "content": "x"},
        "modalities": ["text", "audio"],
        "service_tier": "flex",
    },
    "responses": {
        "previous_response_id": "resp_0",
        "conversation": "conv_1",
        "prompt": {"id": "p_1"},
        "background": True,
        "context_management": [{"type": "compaction"}],
        "service_tier": "priority",
    },
}


@pytest.mark.parametrize(
    ("wire", "field"), [(wire, field) for wire, given in REFUSED.items() for field in given]
)
async def test_a_field_that_spends_elsewhere_or_refers_elsewhere_is_refused(
    gate: Gate, wire: str, field: str
) -> None:
    await refused_for(gate, wire, field, **{field: REFUSED[wire][field]})


async def test_a_field_that_would_refer_elsewhere_may_be_empty(gate: Gate) -> None:
    sent, _ = await sent_of(gate, "responses", previous_response_id=None, background=False)
    assert not sent.keys() & {"previous_response_id", "background"}


SERVERS: dict[str, list[Any]] = {
    "messages": [
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "web_fetch_20250910", "name": "web_fetch"},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "advisor_20260301", "name": "advisor"},
        {"type": "mcp_toolset", "mcp_server_name": "x"},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search"},
        {"type": "something\r\nnew\u2028", "name": "x"},
    ],
    "chat": [{"type": "web_search"}, {"type": "something_new"}],
    "responses": [
        {"type": "web_search"},
        {"type": "web_search_preview"},
        {"type": "file_search", "vector_store_ids": ["v"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "mcp", "server_url": "http://x"},
        {"type": "image_generation"},
        {"type": "computer_use_preview"},
        {"type": "tool_search", "execution": "server"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]},
    ],
}
OWN: dict[str, list[Any]] = {
    "messages": [
        FUNCTION,
        {"type": "custom", **FUNCTION},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    ],
    "chat": [{"type": "function", "function": {"name": "run"}}],
    "responses": [
        {"type": "function", "name": "run"},
        {"type": "custom", "name": "apply_patch"},
        {"type": "local_shell"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "tool_search", "execution": "client"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "x"}]},
    ],
}


@every_wire
async def test_tools_that_the_provider_runs_are_left_out(gate: Gate, wire: str) -> None:
    own, servers = OWN[wire], SERVERS[wire]
    sent, left_out = await sent_of(gate, wire, tools=[*own, *servers], tool_choice="auto")
    assert sent["tools"] == own
    assert sent["tool_choice"] == "auto"
    assert {name[:9] for name in left_out.split(",")} == {t["type"][:9] for t in servers}
    sent, _ = await sent_of(gate, wire, tools=servers, tool_choice="auto")
    assert not sent.keys() & {"tools", "tool_choice"}
    choice = {"type": servers[0]["type"], "name": servers[0].get("name")}
    sent, _ = await sent_of(gate, wire, tools=[*own, *servers], tool_choice=choice)
    assert "tool_choice" not in sent
    chosen: Any = {"type": "tool", "name": "run"}
    if wire == "chat":
        chosen = {"type": "function", "function": {"name": "run"}}
    sent, _ = await sent_of(gate, wire, tools=[*own, *servers], tool_choice=chosen)
    assert sent["tool_choice"] == chosen


async def test_a_compaction_is_left_out_and_other_edits_stay(gate: Gate) -> None:
    clear = {"type": "clear_tool_uses_20250919"}
    edits = [clear, {"type": "compact_20260112"}]
    sent, left_out = await sent_of(gate, "messages", context_management={"edits": edits})
    assert (sent["context_management"], left_out) == ({"edits": [clear]}, "compact_20260112")
    sent, _ = await sent_of(gate, "messages", context_management={"edits": edits[1:]})
    assert "context_management" not in sent


async def test_betas_that_change_no_bill_go_on_and_others_do_not(gate: Gate) -> None:
    agent = await gate.agent()
    betas = "claude-code-20250219, fast-mode-2026-02-01,interleaved-thinking-2025-05-14,new-1"
    await agent.asks("messages", headers={"anthropic-beta": betas, "anthropic-version": "v"})
    headers = gate.provider.received[-1].headers
    assert headers["anthropic-beta"] == "claude-code-20250219,interleaved-thinking-2025-05-14"
    assert headers["anthropic-version"] == "v"
    await agent.asks("messages", headers={"anthropic-beta": "new-1"}, path="/v1/messages?beta=true")
    assert "anthropic-beta" not in gate.provider.received[-1].headers
    assert gate.provider.received[-1].path == "/v1/messages?beta=true"


def image(wire: str, source: str) -> Any:
    if wire == "messages":
        kind = "base64" if source == DATA else "url"
        return {"type": "image", "source": {"type": kind, "media_type": "image/png", "data": PNG}}
    where = {"url": source} if wire == "chat" else source
    return {"type": "image_url" if wire == "chat" else "input_image", "image_url": where}


TEXT: dict[str, Any] = {
    "messages": {"type": "text", "text": "x"},
    "chat": {"type": "text", "text": "x"},
    "responses": {"type": "input_text", "text": "x"},
}
ELSEWHERE: dict[str, list[Any]] = {
    "messages": [
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "url", "url": "http://x"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}},
        {"type": "container_upload", "file_id": "f"},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url"}}]},
        {"type": "something_new"},
        {},
    ],
    "chat": [
        {"type": "input_audio", "input_audio": {}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "image_url", "image_url": {}},
        {"type": "something_new"},
    ],
    "responses": [
        {"type": "input_image", "file_id": "f"},
        {"type": "input_image", "file_id": "f", "image_url": DATA},
        {"type": "input_file", "file_id": "f"},
        {"type": "input_file", "file_url": "http://x"},
        {"type": "something_new"},
    ],
}


@every_wire
async def test_an_image_in_the_request_goes_on_and_is_held_for_as_an_image(
    gate: Gate, wire: str
) -> None:
    agent = await gate.agent()
    for count in (0, 1, 3):
        body = with_content(wire, TEXT[wire], *[image(wire, DATA)] * count)
        assert (await agent.asks(wire, body=body)).status == 200
        assert gate.provider.received[-1].body.get("messages") == body.get("messages")
    none, one, three = (row.reserved for row in await agent.rows())
    each = 5_000 if wire == "messages" else 10_000
    assert each <= one - none < each + 200
    assert three > 3 * each


@every_wire
async def test_what_is_not_in_the_request_is_refused(gate: Gate, wire: str) -> None:
    agent = await gate.agent()
    for part in [image(wire, "http://x/y.png"), *ELSEWHERE[wire]]:
        called = await agent.asks(wire, body=with_content(wire, TEXT[wire], part))
        assert called.status == 400, part
        assert any(w in called.error["message"] for w in ("bound", "send")), called.raw
    assert (await agent.asks(wire, body=with_content(wire, TEXT[wire]))).status == 200


async def test_items_that_stand_for_something_elsewhere_are_refused(gate: Gate) -> None:
    for kind in ("item_reference", "web_search_call", "mcp_call", "compaction", "new"):
        item = {"type": kind, "id": "x"}
        await refused_for(gate, "responses", "cannot bound", input=[item])
    kept: list[Any] = [
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
        {"type": "function_call_output", "output": "x", "call_id": "1"},
        {"type": "function_call_output", "output": [TEXT["responses"]], "call_id": "1"},
        {"type": "custom_tool_call", "name": "f", "input": "x", "call_id": "1"},
        {"type": "reasoning", "encrypted_content": "x", "summary": []},
    ]
    for item in kept:
        sent, _ = await sent_of(gate, "responses", input=[item])
        assert sent["input"] == [item]
    await refused_for(gate, "chat", "audio", messages=[{"role": "assistant", "audio": {"id": "a"}}])


async def test_what_a_tool_is_called_with_may_look_like_anything(gate: Gate) -> None:
    call = {"type": "tool_use", "id": "1", "name": "f"}
    inside = {"type": "image", "source": {"type": "url"}, "file_id": "x" * 3_000}
    agent = await gate.agent()
    body = with_content("messages", call | {"input": inside})
    assert (await agent.asks("messages", body=body)).status == 200
    # It is text and not an image, and held for as text.
    (row,) = await agent.rows()
    assert 4_000 < row.reserved < 5_000
