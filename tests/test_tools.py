"""A child never has more tools than its parent; the door holds an agent to its own."""

import pytest
from cli import Shell
from conftest import Kernel, spawn_agent

from bough.client.errors import InvalidInput, LimitReached
from bough.client.tools import TOOL_OF_CALL, TOOLS, WORDS, granted

pytest_plugins = ["cli"]


def program(*tools: str) -> dict[str, object]:
    return {"argv": ["true"], "tools": list(tools)}


async def test_a_child_has_its_parents_tools_or_fewer_and_never_more(kernel: Kernel) -> None:
    root = await spawn_agent(kernel, program=program("edit", "send", "spawn"))
    same = await spawn_agent(kernel, root.id, budget=100)
    assert (await kernel.show(same.id)).program["tools"] == ["edit", "send", "spawn"]
    fewer = await spawn_agent(kernel, root.id, budget=100, program=program("send"))
    with pytest.raises(LimitReached, match="has no edit; a child has at most the tools of its"):
        await spawn_agent(kernel, fewer.id, budget=10, program=program("send", "edit"))
    leaf = await spawn_agent(kernel, fewer.id, budget=10)
    assert (await kernel.show(leaf.id)).program["tools"] == ["send"]
    none = await spawn_agent(kernel, root.id, budget=10, program=program())
    with pytest.raises(LimitReached, match="has no send"):
        await spawn_agent(kernel, none.id, budget=1, program=program("send"))


async def test_below_an_agent_with_all_tools_a_child_has_what_it_asks_for(kernel: Kernel) -> None:
    root = await spawn_agent(kernel)
    child = await spawn_agent(kernel, root.id, budget=100, program=program("shell"))
    assert (await kernel.show(child.id)).program["tools"] == ["shell"]
    assert "tools" not in (await kernel.show(root.id)).program


@pytest.mark.parametrize("tools", ["send", {"send": True}, [1], [["send"]], None])
async def test_tools_that_are_no_list_of_names_are_refused(kernel: Kernel, tools: object) -> None:
    with pytest.raises(InvalidInput, match="tools are a list of names"):
        await spawn_agent(kernel, program={"argv": ["true"], "tools": tools})


def test_what_is_granted_is_within_what_is_above() -> None:
    assert granted(None, (), None) is None
    assert granted(None, ("edit",), None) == sorted(TOOLS - {"edit"})
    assert granted(("edit", "send"), ("send",), None) == ["edit"]
    assert granted(("edit", "send"), (), ["send", "web"]) == ["send"]
    assert granted(None, (), []) == []
    assert set(TOOL_OF_CALL.values()) == set(WORDS)


QUEUE_A_MERGE = """
import json, os, sys, urllib.error, urllib.request
values = {"key": os.environ["BOUGH_AGENT_ID"], "agent_id": os.environ["BOUGH_AGENT_ID"]}
values |= {"target_branch": "main", "strategy": "merge"}
request = urllib.request.Request(
    os.environ["BOUGH_URL"] + "/v1/queue_merge",
    json.dumps(values).encode(),
    {"Authorization": "Bearer " + os.environ["BOUGH_TOKEN"]},
)
try:
    urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    sys.exit(4 if error.code == 403 and b"the tool merge" in error.read() else 1)
"""


def test_the_door_refuses_a_word_that_the_role_does_not_have_before_anything_is_done(
    shell: Shell,
) -> None:
    role = shell.repo / ".bough/roles/quiet.md"
    role.parent.mkdir(parents=True)
    role.write_text("---\nx-bough:\n  tools:\n    deny: [spawn, send, merge]\n---\nBe quiet.\n")
    shell.commit("a role")
    shell.runner()
    words = (
        'bough send operator hi; echo "send $?"; bough spawn t --budget 5 -- true;'
        ' echo "spawn $?"; bough report fine; echo "report $?"; python3 "$ASK"; echo "merge $?"'
    )
    ask = shell.place / "ask.py"
    ask.write_text(QUEUE_A_MERGE)
    words = words.replace("$ASK", str(ask))
    agent = shell.spawn("t", "--role", "quiet", "--", "sh", "-c", words)
    shell.reaches(agent, "completed")
    said = shell("logs", agent).out
    assert [f"{w} {c}" in said for w, c in (("send", 4), ("spawn", 4), ("merge", 4))] == [True] * 3
    assert "report 0" in said
    assert "does not have the tool spawn; ask its parent" in said
    assert shell.json("inbox") == []
    assert shell.json("show", agent)["children"] == []
    assert "spawn" not in shell.json("show", agent)["program"]["tools"]
