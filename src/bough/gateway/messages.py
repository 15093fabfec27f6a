"""Anthropic Messages: which fields, tools and blocks go on, and how the most output is set.

See `asked` for the rule. PDFs and whatever is fetched by address or by file id are refused.
"""

from typing import Any

from bough.client.rows import Json
from bough.gateway import asked as read
from bough.gateway.asked import Asked, Item, Seen, Wire, canonical, refuse
from bough.gateway.usage import MessagesMeter, as_object, used_by_messages

FIELDS = frozenset(
    """
    cache_control context_management max_tokens messages metadata model output_config output_format
    service_tier stop_sequences stream system temperature thinking tool_choice tools top_k top_p
    """.split()  # noqa: SIM905 - a list of quoted words would be read by nobody
)
FORBIDDEN = {
    "container": "the gateway lets no program run at the provider",
    "mcp_servers": "the gateway lets the provider call no servers; offer them as tools",
    "fallbacks": "the gateway meters one model a call",
    "thread": "the gateway meters only what stands in the request",
}
BETAS = (
    "adaptive-thinking-", "advanced-tool-use-", "claude-code-", "computer-use-", "context-1m-",
    "context-management-", "effort-", "extended-cache-ttl-", "fine-grained-tool-streaming-",
    "interleaved-thinking-", "output-128k-", "prompt-caching-", "redact-thinking-",
    "structured-outputs-", "token-counting-", "token-efficient-tools-", "tool-examples-",
)  # fmt: skip
"""Beginnings of beta names that change no bill; others are not sent on."""
_OWN_TOOLS = ("bash_", "computer_", "memory_", "text_editor_")
_TYPED_TOOL_TOKENS = 1_500
"""What the provider's template adds for a tool that it describes itself."""
_TEXTUAL = frozenset(["text", "thinking", "redacted_thinking", "tool_use", "tool_reference"])
_NOT_INPUT = frozenset(["max_tokens", "messages", "metadata", "service_tier", "stream"])
_LEAST_THINKING = 1_024


def _read(body: Json) -> Asked:
    dropped: list[str] = []
    read.keep(body, FIELDS, FORBIDDEN, dropped)
    read.tier(body, ("auto", "standard_only"))
    read.tools(body, _is_ours, dropped)
    _without_compaction(body, dropped)
    messages = read.objects(body.get("messages"), "messages")
    if not messages:
        raise refuse("messages: give at least one")
    head_seen = Seen()
    head: Json = {k: v for k, v in body.items() if k not in _NOT_INPUT and k != "system"}
    head.pop("cache_control", None)
    if "tools" in head:
        head["tools"] = [_without_cache(t) for t in head["tools"]]
    head["system"] = _content(body.get("system") or "", head_seen)
    if head_seen.images:
        raise refuse("system: give text")
    items = [_item(message) for message in messages]
    typed = sum(1 for t in body.get("tools", []) if t.get("type", "custom") != "custom")
    return Asked(
        body=body,
        model=read.model_of(body),
        stream=read.flag(body, "stream"),
        head=canonical(head),
        items=items,
        images=sum(item.images for item in items),
        extra_tokens=typed * _TYPED_TOOL_TOKENS,
        wanted=read.count(body, "max_tokens"),
        dropped=dropped,
    )


def _is_ours(tool: Json) -> bool:
    kind = tool.get("type") or "custom"
    return kind == "custom" or str(kind).startswith(_OWN_TOOLS)


def _without_compaction(body: Json, dropped: list[str]) -> None:
    """A compaction is one more round that the usage does not show at its top."""
    if body.get("context_management") is None:
        return
    management = as_object(body["context_management"])
    edits = read.objects(management.get("edits", []), "context_management.edits")
    kept = [
        e for e in edits if str(e.get("type")).startswith(("clear_tool_uses", "clear_thinking"))
    ]
    dropped += [str(e.get("type")) for e in edits if e not in kept]
    body["context_management"] = {"edits": kept}
    if not kept:
        del body["context_management"]


def _item(message: Json) -> Item:
    seen = Seen()
    cleaned = {**message, "content": _content(message.get("content"), seen)}
    return Item(canonical(cleaned), seen.images)


def _without_cache(block: Json) -> Json:
    return {k: v for k, v in block.items() if k != "cache_control"}


def _content(content: Any, seen: Seen) -> Any:
    if isinstance(content, str):
        return content
    return [_block(block, seen) for block in read.objects(content, "content")]


def _block(block: Json, seen: Seen) -> Json:
    """A block as conversations are compared by. Raises Refused."""
    kind = block.get("type")
    cleaned = _without_cache(block)
    if kind in _TEXTUAL:
        return cleaned
    if kind in ("tool_result", "search_result"):
        if cleaned.get("content") is not None:
            cleaned["content"] = _content(cleaned["content"], seen)
        return cleaned
    source = as_object(block.get("source"))
    from_ = source.get("type")
    if kind == "image" and from_ == "base64":
        return seen.image(cleaned)
    if kind == "document" and from_ == "text":
        return cleaned
    if kind == "document" and from_ == "content":
        return {**cleaned, "source": _content(source.get("content"), seen)}
    if kind in ("image", "document"):
        raise refuse(
            f"{kind} from {from_}: the gateway cannot bound its tokens; "
            + ("send it as base64" if kind == "image" else "send its text")
        )
    raise refuse(f"content of type {str(kind)[:40]}: the gateway cannot bound its tokens")


def _limit(asked: Asked, tokens: int, field: str) -> None:
    """Set the most output; thinking goes down with it, for it must be the smaller."""
    del field
    asked.body["max_tokens"] = tokens
    thinking = as_object(asked.body.get("thinking"))
    budget: Any = thinking.get("budget_tokens")
    if isinstance(budget, int) and budget >= tokens:
        less = max(tokens * 3 // 4, _LEAST_THINKING)
        if less < tokens:
            asked.body["thinking"] = {**thinking, "budget_tokens": less}
        else:
            asked.body["thinking"] = {"type": "disabled"}


_UNCOUNTED = frozenset(
    """
    max_tokens metadata service_tier stop_sequences stream temperature top_k top_p
    """.split()  # noqa: SIM905 - as above
)
"""Fields that the counter does not take."""


def _countable(body: Json) -> Json:
    return {k: v for k, v in body.items() if k not in _UNCOUNTED}


WIRE = Wire(
    shape="messages",
    provider="anthropic",
    path="/v1/messages",
    counter="/v1/messages/count_tokens",
    countable=_countable,
    read=_read,
    limit=_limit,
    used=used_by_messages,
    meter=MessagesMeter,
)
