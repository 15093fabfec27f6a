"""What of a conversation is sent: each call with its result behind it, and a prefix that stays."""

from itertools import pairwise
from typing import Any

from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart

from bough.runner.llm import entry, money
from bough.runner.llm.messages import answer_of, messages_of


def answer(*tools: str) -> Any:
    parts = [ToolCallPart(tool, {"path": "a"}, "same") for tool in tools]
    return answer_of(ModelResponse(parts=[TextPart("so"), *parts]))


def begun(*more: Any) -> list[Any]:
    return [entry.made("system", text="rules"), entry.said("task"), *more]


def shape(entries: list[Any]) -> list[Any]:
    """Each message as the kinds of its parts."""
    return [[part.part_kind for part in message.parts] for message in messages_of(entries)]


def contents(entries: list[Any]) -> list[list[str]]:
    """Each message as the texts of its parts."""
    return [
        [str(getattr(part, "content", part.part_kind)) for part in message.parts]
        for message in messages_of(entries)
    ]


def test_results_stand_behind_their_calls_in_the_order_of_the_calls() -> None:
    entries = begun(
        answer("read", "shell"),
        entry.made("begun", answer=3, call=1),
        entry.said("mail"),
        entry.gave(3, 1, "shell", "second", ok=False),
        entry.gave(3, 0, "read", "first", ok=True),
    )
    first, said, results = messages_of(entries)
    assert isinstance(first, ModelRequest)
    assert first.instructions == "rules"
    assert [p.part_kind for p in said.parts] == ["text", "tool-call", "tool-call"]
    ids = [p.tool_call_id for p in said.parts if isinstance(p, ToolCallPart)]
    assert ids == ["call_3_0", "call_3_1"]
    assert [p.part_kind for p in results.parts] == ["tool-return", "tool-return", "user-prompt"]
    assert [getattr(p, "tool_call_id", None) for p in results.parts] == [*ids, None]
    assert [getattr(p, "outcome", None) for p in results.parts][:2] == ["success", "failed"]


def test_an_answer_that_said_nothing_is_sent_as_something() -> None:
    entries = begun(answer_of(ModelResponse(parts=[])), entry.said("go on"))
    assert shape(entries) == [["user-prompt"], ["text"], ["user-prompt"]]


def test_of_a_long_conversation_old_results_are_left_out_and_the_rest_stays_a_prefix() -> None:
    entries: list[Any] = begun()
    sent: list[list[list[str]]] = []
    for _ in range(40):
        number = len(entries) + 1
        entries += [answer("read"), entry.gave(number, 0, "read", "x" * 30_000, ok=True)]
        sent.append(contents(entries))
    assert max(sum(len(text) for m in one for text in m) for one in sent) < 500_000
    last = sent[-1]
    assert last[0] == ["task"]
    assert last[2][0].startswith("[left out")
    assert last[-1] == ["x" * 30_000]
    changed = sum(before != after[: len(before)] for before, after in pairwise(sent))
    assert 1 <= changed < 10


def test_an_agent_is_told_of_its_budget_only_when_that_changed_by_much() -> None:
    def note(
        available: int, *, told: int = 100_000, little: bool = False, last: int = 2_000
    ) -> Any:
        return money.note(100_000, available, told=told, told_little=little, last_call=last)

    assert note(90_000) is None
    assert note(49_000).text == "[budget: 49,000 of 100,000 tokens are left]"
    assert note(45_000, told=49_000) is None
    assert note(80_000, told=49_000).left == 80_000
    assert note(9_000, told=9_500).little
    assert note(9_000, told=9_500, little=True) is None
    assert note(60_000, told=70_000, last=40_000).little
    assert note(95_000, told=95_000, last=3_000) is None
