"""OpenAI Chat Completions, also as other servers speak it: which fields, tools and parts go on.

See `asked` for the rule. The usage in a stream is asked for in any case; who did not ask for it
does not see it. Images by address, sound and files are refused.
"""

from typing import Any

from bough.client.rows import Json
from bough.gateway import asked as read
from bough.gateway.asked import Asked, Item, Seen, Wire, canonical, refuse
from bough.gateway.usage import ChatMeter, as_object, used_by_chat

FIELDS = frozenset(
    """
    chat_template_kwargs enable_thinking frequency_penalty function_call functions logit_bias
    logprobs max_completion_tokens max_tokens messages metadata min_p modalities model n
    parallel_tool_calls presence_penalty prompt_cache_key prompt_cache_retention reasoning
    reasoning_effort repetition_penalty response_format safety_identifier seed service_tier stop
    store stream stream_options temperature thinking tool_choice tools top_k top_logprobs top_p user
    verbosity
    """.split()  # noqa: SIM905 - a list of quoted words would be read by nobody
)
FORBIDDEN = {
    "audio": "the gateway meters text only",
    "prediction": "rejected predictions are billed beyond the most output",
}
_NOT_INPUT = frozenset(
    """
    frequency_penalty logit_bias logprobs max_completion_tokens max_tokens messages metadata min_p n
    presence_penalty prompt_cache_key prompt_cache_retention repetition_penalty safety_identifier
    seed service_tier stop store stream stream_options temperature top_k top_logprobs top_p user
    """.split()  # noqa: SIM905 - as above
)
_LENGTHS = ("max_completion_tokens", "max_tokens")


def _read(body: Json) -> Asked:
    dropped: list[str] = []
    read.keep(body, FIELDS, FORBIDDEN, dropped)
    read.tier(body, ("auto", "default"))
    read.tools(body, _is_ours, dropped)
    if body.get("modalities") not in (None, ["text"]):
        raise refuse("modalities: the gateway meters text only")
    messages = read.objects(body.get("messages"), "messages")
    if not messages:
        raise refuse("messages: give at least one")
    lengths = [n for n in (read.count(body, name) for name in _LENGTHS) if n is not None]
    items = [_item(message) for message in messages]
    asked = Asked(
        body=body,
        model=read.model_of(body),
        stream=read.flag(body, "stream"),
        head=canonical({k: v for k, v in body.items() if k not in _NOT_INPUT}),
        items=items,
        images=sum(item.images for item in items),
        wanted=min(lengths, default=None),
        times=read.count(body, "n") or 1,
        dropped=dropped,
    )
    _ask_for_usage(asked)
    return asked


def _is_ours(tool: Json) -> bool:
    return tool.get("type", "function") in ("function", "custom")


def _ask_for_usage(asked: Asked) -> None:
    given = as_object(asked.body.pop("stream_options", None))
    if not asked.stream:
        return
    kept = {k: v for k, v in given.items() if k == "include_obfuscation"}
    asked.usage_wanted = given.get("include_usage") is True
    asked.body["stream_options"] = {**kept, "include_usage": True}


def _item(message: Json) -> Item:
    seen = Seen()
    if message.get("audio") is not None:
        raise refuse("audio: the gateway cannot bound its tokens")
    content: Any = message.get("content")
    if content is None or isinstance(content, str):
        return Item(canonical(message), 0)
    parts = [_part(part, seen) for part in read.objects(content, "content")]
    return Item(canonical({**message, "content": parts}), seen.images)


def _part(part: Json, seen: Seen) -> Json:
    """A part as conversations are compared by. Raises Refused."""
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return part
    if kind == "image_url":
        where: Any = part.get("image_url")
        url: Any = where if isinstance(where, str) else as_object(where).get("url")
        if isinstance(url, str) and url.startswith("data:"):
            return seen.image(part)
        raise refuse("image_url: send the image itself, as a data: address")
    raise refuse(f"content of type {str(kind)[:40]}: the gateway cannot bound its tokens")


def _limit(asked: Asked, tokens: int, field: str) -> None:
    """Set the most output of each choice, in the field that the program uses."""
    used = [name for name in _LENGTHS if asked.body.get(name) is not None] or [field]
    for name in _LENGTHS:
        asked.body.pop(name, None)
    for name in used:
        asked.body[name] = tokens


WIRE = Wire(
    shape="chat",
    provider="openai",
    path="/chat/completions",
    counter=None,
    countable=dict,
    read=_read,
    limit=_limit,
    used=used_by_chat,
    meter=ChatMeter,
)
