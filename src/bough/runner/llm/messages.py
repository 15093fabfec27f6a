"""Makes a conversation into what pydantic-ai sends, and an answer into an entry.

Results stand before what else came after an answer, whatever their order was: providers want them
directly behind the calls. Old results are left out of a long conversation when it is sent, many at
a time, so that what a provider has cached stays a prefix; their entries stay as they are.
"""

import json
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from bough.client.rows import Json
from bough.runner.llm import entry

_MOST_CHARS = 400_000
_LEFT_OUT = "[left out, it was long ago; ask again if you need it]"


def call_id(answer: int, index: int) -> str:
    """The name of a call towards any provider, unique in its conversation."""
    return f"call_{answer}_{index}"


def messages_of(entries: list[Json]) -> list[ModelMessage]:
    """The conversation, from its first message to what the model has not answered yet."""
    system = next((e["text"] for e in entries if e["from"] == "system"), None)
    found: list[ModelMessage] = []
    results: list[ToolReturnPart] = []
    texts: list[UserPromptPart] = []
    old = _left_out(entries)

    def close() -> None:
        if results or texts:
            parts = [*sorted(results, key=lambda r: int(r.tool_call_id.split("_")[2])), *texts]
            found.append(ModelRequest(parts=parts, instructions=system))
            results.clear()
            texts.clear()

    for number, one in enumerate(entries, 1):
        if one["from"] == "bough":
            texts.append(UserPromptPart(one["text"]))
        elif one["from"] == "tool":
            results.append(
                ToolReturnPart(
                    tool_name=one["tool"],
                    content=_LEFT_OUT if number in old else one["text"],
                    tool_call_id=call_id(one["answer"], one["call"]),
                    outcome="success" if one["ok"] else "failed",
                )
            )
        elif one["from"] == "model":
            close()
            found.append(ModelResponse(parts=_parts_of(number, one)))
    close()
    return found


def _left_out(entries: list[Json]) -> frozenset[int]:
    """Numbers of the results that are not sent any more."""
    out: set[int] = set()
    kept: list[tuple[int, int]] = []
    size = 0
    for number, one in enumerate(entries, 1):
        length = len(json.dumps(one, ensure_ascii=False))
        size += length
        if one["from"] == "tool" and length > len(_LEFT_OUT):
            kept.append((number, length))
        if one["from"] == "model" and size > _MOST_CHARS:
            while kept and size > _MOST_CHARS // 2:
                oldest, length = kept.pop(0)
                out.add(oldest)
                size -= length
    return frozenset(out)


def _parts_of(number: int, answer: Json) -> list[ModelResponsePart]:
    found: list[ModelResponsePart] = []
    count = 0
    for part in answer["parts"]:
        if part["type"] == "text":
            found.append(TextPart(part["text"]))
        elif part["type"] == "call":
            found.append(ToolCallPart(part["tool"], part["arguments"], call_id(number, count)))
            count += 1
        else:
            found.append(
                ThinkingPart(
                    part["text"],
                    id=part["id"],
                    signature=part["signature"],
                    provider_name=part["provider"],
                )
            )
    # Some providers take no empty answer.
    return found or [TextPart("(nothing)")]


def answer_of(response: ModelResponse) -> Json:
    """An answer as an entry."""
    parts: list[dict[str, Any]] = []
    for part in response.parts:
        if isinstance(part, TextPart) and part.content:
            parts.append({"type": "text", "text": part.content})
        elif isinstance(part, ToolCallPart):
            parts.append({"type": "call", "tool": part.tool_name, "arguments": part.args or {}})
        elif isinstance(part, ThinkingPart):
            parts.append(
                {
                    "type": "thinking",
                    "text": part.content,
                    "id": part.id,
                    "signature": part.signature,
                    "provider": part.provider_name,
                }
            )
    usage = response.usage
    used = {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
    }
    stop = response.finish_reason
    return entry.made("model", parts=parts, model=response.model_name, usage=used, stop=stop)
