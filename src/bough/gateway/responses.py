"""OpenAI Responses: which fields, tools and items go on.

See `asked` for the rule. What stands at the provider (an earlier answer, a conversation, a stored
prompt, a file) is refused: it is not in the request. An answer in the background is, too.
"""

from typing import Any

from bough.client.rows import Json
from bough.gateway import asked as read
from bough.gateway.asked import Asked, Item, Seen, Wire, canonical, refuse
from bough.gateway.usage import ResponsesMeter, as_object, used_by_responses

FIELDS = frozenset(
    """
    client_metadata include input instructions max_output_tokens max_tool_calls metadata model
    parallel_tool_calls prompt_cache_key prompt_cache_retention reasoning safety_identifier
    service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
    truncation user
    """.split()  # noqa: SIM905 - a list of quoted words would be read by nobody
)
_NOT_HERE = "what it refers to is not in the request, so its tokens cannot be bounded"
FORBIDDEN = {
    "previous_response_id": f"{_NOT_HERE}; send the conversation with store: false",
    "conversation": _NOT_HERE,
    "prompt": _NOT_HERE,
    "background": "the gateway meters answers that are waited for",
    "context_management": "a compaction is one more round; compact in your program",
}
_NOT_INPUT = frozenset(
    """
    client_metadata include input max_output_tokens max_tool_calls metadata prompt_cache_key
    prompt_cache_retention safety_identifier service_tier store stream stream_options temperature
    top_logprobs top_p user
    """.split()  # noqa: SIM905 - as above
)
_OWN_TOOLS = frozenset(["function", "custom", "namespace", "local_shell", "apply_patch"])
_TYPED_TOOL_TOKENS = 1_500
_OPAQUE = frozenset(
    """
    apply_patch_call apply_patch_call_output custom_tool_call function_call local_shell_call
    local_shell_call_output reasoning shell_call tool_search_call tool_search_output
    """.split()  # noqa: SIM905 - as above
)
_OUTPUTS = frozenset(["custom_tool_call_output", "function_call_output", "shell_call_output"])
_TEXTUAL = frozenset(["input_text", "output_text", "refusal", "reasoning_text", "summary_text"])


def _read(body: Json) -> Asked:
    dropped: list[str] = []
    read.keep(body, FIELDS, FORBIDDEN, dropped)
    read.tier(body, ("auto", "default"))
    read.tools(body, _is_ours, dropped)
    items = _items(body.get("input"))
    typed = sum(1 for t in body.get("tools", []) if t.get("type") not in ("function", "custom"))
    return Asked(
        body=body,
        model=read.model_of(body),
        stream=read.flag(body, "stream"),
        head=canonical({k: v for k, v in body.items() if k not in _NOT_INPUT}),
        items=items,
        images=sum(item.images for item in items),
        extra_tokens=typed * _TYPED_TOOL_TOKENS,
        wanted=read.count(body, "max_output_tokens"),
        dropped=dropped,
        goes_on=body.get("truncation") in (None, "disabled"),
    )


def _is_ours(tool: Json) -> bool:
    kind = tool.get("type")
    if kind == "namespace":
        return all(_is_ours(t) for t in read.objects(tool.get("tools") or [], "tools"))
    if kind == "tool_search":
        return tool.get("execution") == "client"
    if kind == "shell":
        return as_object(tool.get("environment")).get("type") == "local"
    return kind in _OWN_TOOLS


def _items(given: Any) -> list[Item]:
    if isinstance(given, str):
        return [Item(canonical(given), 0)]
    items = [_item(item) for item in read.objects(given, "input")]
    if not items:
        raise refuse("input: give at least one item")
    return items


def _item(item: Json) -> Item:
    kind = item.get("type", "message")
    seen = Seen()
    if kind in _OPAQUE:
        return Item(canonical(item), 0)
    if kind == "message":
        cleaned = {**item, "content": _content(item.get("content"), seen)}
    elif kind in _OUTPUTS:
        cleaned = {**item, "output": _content(item.get("output"), seen)}
    else:
        raise refuse(f"input of type {str(kind)[:40]}: the gateway cannot bound its tokens")
    return Item(canonical(cleaned), seen.images)


def _content(content: Any, seen: Seen) -> Any:
    if content is None or isinstance(content, str):
        return content
    return [_part(part, seen) for part in read.objects(content, "content")]


def _part(part: Json, seen: Seen) -> Json:
    """A part as conversations are compared by. Raises Refused."""
    kind = part.get("type")
    if kind in _TEXTUAL or "stdout" in part:
        return part
    if kind == "input_image":
        url: Any = part.get("image_url")
        if isinstance(url, str) and url.startswith("data:") and not part.get("file_id"):
            return seen.image(part)
        raise refuse("input_image: send the image itself, as a data: address")
    raise refuse(f"content of type {str(kind)[:40]}: the gateway cannot bound its tokens")


def _limit(asked: Asked, tokens: int, field: str) -> None:
    del field
    asked.body["max_output_tokens"] = tokens


_COUNTED = frozenset(
    """
    input instructions model parallel_tool_calls reasoning text tool_choice tools truncation
    """.split()  # noqa: SIM905 - as above
)
"""Fields that the counter takes."""


def _countable(body: Json) -> Json:
    return {k: v for k, v in body.items() if k in _COUNTED}


WIRE = Wire(
    shape="responses",
    provider="openai",
    path="/responses",
    counter="/responses/input_tokens",
    countable=_countable,
    read=_read,
    limit=_limit,
    used=used_by_responses,
    meter=ResponsesMeter,
)
