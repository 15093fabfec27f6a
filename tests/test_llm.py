"""The built-in agent: asks a scripted provider through the gateway, and does what it calls."""

import json

from cli import Shell, until
from scripts import MODEL, Asked, Script, entries, overdraft, start, used

pytest_plugins = ["cli", "scripts"]


def test_an_agent_edits_a_file_and_ends_with_its_result(shell: Shell, script: Script) -> None:
    (shell.repo / "AGENTS.md").write_text("Write in lower case.\n")
    shell.commit("notes")
    script.plays["change it"] = [
        [("read", {"path": "a.txt"}), ("list", {})],
        ("edit", {"path": "a.txt", "old": "two", "new": "zwei"}),
        ("shell", {"command": "cat a.txt; wc -l < a.txt"}),
        ("finish", {"result": {"summary": "changed"}}),
    ]
    done = shell.json("run", "change it", "--driver", "llm", "--model", MODEL, "--budget", "200k")
    assert done["status"] == "completed"
    assert done["result"] == {"summary": "changed"}
    assert shell.git("show", f"{done['workspace']['branch']}:a.txt") == "one\nzwei\nthree"
    first, second, third, last = script.asked
    assert "Write in lower case." in first.system
    assert "200,000 tokens" in first.system
    assert "200,000 of 200,000 tokens are left" in first.text()
    assert "one\ntwo\nthree" in second.text()
    assert "AGENTS.md\na.txt" in second.text()
    assert "edited in 1 place" in third.text()
    assert "[exit code 0]\none\nzwei\nthree\n3" in last.text()
    assert used(shell) == script.billed == done["budget"]["used"]
    assert overdraft(shell) == 0
    logs = shell("logs", done["id"]).out
    assert "· edit path=a.txt old=two new=zwei → 23 characters" in logs
    assert "tokens left" in logs


def test_an_agent_waits_for_a_child_without_a_process_and_merges_its_work(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    child: list[str] = []

    def wait(asked: Asked) -> tuple[str, object]:
        child.append(json.loads(asked.text().splitlines()[0])["id"])
        return "wait", {"agents": [child[0][:8]]}

    script.plays["lead it"] = [
        ("write", {"path": "mine.txt", "text": "from the parent\n"}),
        ("spawn", {"task": "build it", "budget": "60k"}),
        wait,
        lambda _: ("merge", {"agent": child[0]}),
        ("shell", {"command": "git status --short; cat mine.txt new.txt"}),
        ("finish", {"result": {"merged": 1}}),
    ]
    script.plays["build it"] = [
        ("shell", {"command": f"until [ -e {shell.gate} ]; do sleep 0.05; done"}),
        ("write", {"path": "new.txt", "text": "from the child\n"}),
        ("finish", {"result": {"made": "new.txt"}}),
    ]
    agent = start(shell, "lead it")
    shell.reaches(agent, "waiting")
    until(lambda: len(shell.programs()) == 1, "the child alone has a process")
    shell.gate.touch()
    shell.reaches(agent, "completed")
    assert shell.column("result", agent) == {"merged": 1}
    waited = script.of("lead it")[3].whole
    assert '"status": "completed", "result": {"made": "new.txt"}' in waited
    last = script.of("lead it")[5].text()
    assert "[exit code 0]\nfrom the parent\nfrom the child" in last
    [kid] = shell.json("show", agent)["children"]
    assert kid == child[0]
    assert shell.column("driver", kid) == "llm"
    assert used(shell) == script.billed
    assert shell.json("show", agent)["budget"]["subtree_used"] == script.billed
    assert overdraft(shell) == 0
    # The end of the child is told once, and the waiting was no turn of the model.
    assert len(script.of("lead it")) == 6
    assert shell.json("inbox", agent) == []


def test_a_role_takes_tools_away_and_a_child_has_no_more_than_its_parent(
    shell: Shell, script: Script
) -> None:
    roles = shell.repo / ".bough" / "roles"
    roles.mkdir(parents=True)
    head = "---\nx-bough:\n  driver: llm\n  budget: 100k\n  tools: {deny: [shell, merge]}\n---\n"
    (roles / "careful.md").write_text(head + "You are careful.\n")
    (roles / "bold.md").write_text("---\nx-bough: {budget: 40k}\n---\nYou are bold.\n")
    shell.commit("roles")
    script.plays["try it"] = [
        [("shell", {"command": "true"}), ("merge", {"agent": "a"}), ("fly", {})],
        ("spawn", {"task": "dare it", "budget": "40k", "role": "bold"}),
        lambda a: ("wait", {"agents": [json.loads(a.text().splitlines()[0])["id"]]}),
        "I could not.",
    ]
    script.plays["dare it"] = [("shell", {"command": "true"}), "Nor could I."]
    env = {"BOUGH_MODEL": MODEL}
    done = json.loads(shell("run", "try it", "--role", "careful", "--json", env=env).out)
    assert done["result"] == {"text": "I could not."}
    first, second, *_ = script.of("try it")
    assert first.system.startswith("You are careful.")
    assert first.tools & {"shell", "merge", "write", "spawn"} == {"write", "spawn"}
    assert "the role of this agent does not have the kind of tool shell" in second.whole
    assert "the role of this agent does not have the tool merge" in second.whole
    assert "there is no tool 'fly'; there is: edit, " in second.whole
    kid = script.of("dare it")
    assert kid[0].system.startswith("You are bold.")
    assert "shell" not in kid[0].tools
    assert "does not have the kind of tool shell" in kid[1].whole


def test_what_a_call_has_wrong_is_told_and_after_five_times_the_agent_fails(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.plays["mend it"] = [
        [("read", '{"path": '), ("read", {"file": "a.txt"}), ("read", [1])],
        ("edit", {"path": "a.txt", "old": "none", "new": "x"}),
        ("read", {"path": "a.txt", "lines": 0}),
        ("finish", {}),
    ]
    script.plays["break it"] = [("read", {})] * 5
    mends = start(shell, "mend it", model="openai:gpt-5")
    breaks = start(shell, "break it")
    shell.reaches(mends, "completed")
    told = script.of("mend it")[-1].whole
    assert "the arguments of read are no JSON" in told
    assert "read has the arguments path, start, lines; path: Field required" in told
    assert "the arguments of read are no JSON object" in told
    assert "old is not in a.txt; read it and give the text exactly" in told
    assert "lines: Input should be greater than or equal to 1" in told
    shell.reaches(breaks, "failed")
    assert shell.column("error_code", breaks) == "model_failed"
    assert "called tools wrongly 5 times in a row" in shell.column("error_message", breaks)
    assert len(script.of("break it")) == 5


def test_mail_that_comes_during_a_tool_is_told_after_it_and_is_done_with(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.plays["work on"] = [
        ("shell", {"command": f"touch {shell.gate}.up; until [ -e {shell.gate} ]; do :; done"}),
        ("send", {"to": "operator", "text": "noted"}),
        ("inbox", {"wait": True}),
        ("finish", {"result": {"done": True}}),
    ]
    agent = start(shell, "work on")
    until(lambda: shell.gate.with_name("go.up").exists(), "the tool works")
    shell("send", agent, "use tabs")
    shell("send", agent, "first of all", "--priority", "high")
    shell.gate.touch()
    shell.reaches(agent, "waiting")
    until(lambda: shell.programs() == [], "no process is left")
    heard = script.of("work on")[1].text()
    lines = [line.partition("] ")[2] for line in heard.splitlines()]
    assert lines[-2:] == ["first of all", "use tabs"]
    assert heard.splitlines()[0] == "[exit code 0]"
    assert shell.json("inbox", agent) == []
    shell("send", agent, "go on")
    shell.reaches(agent, "completed")
    assert "from the operator] go on" in script.of("work on")[-1].text()
    assert shell.json("inbox", agent) == []
    assert [m["payload"] for m in shell.json("inbox")] == [{"text": "noted"}]
    assert [e["from"] for e in entries(shell, agent)].count("model") == 4


def test_an_approval_is_waited_for_and_told(shell: Shell, script: Script) -> None:
    shell.runner()
    script.plays["drop it"] = [
        [("request_approval", {"question": "drop it?"}), ("report", {"text": "r", "progress": 1})],
        ("finish", {}),
    ]
    agent = start(shell, "drop it")
    shell.reaches(agent, "waiting")
    [asked] = shell.json("approvals")
    shell("approve", asked["id"], "--answer", "once")
    shell.reaches(agent, "completed")
    told = script.of("drop it")[-1].whole
    assert '"status": "approved", "answer": "once"' in told
    assert len(shell.json("approvals", "--all")) == 1


def test_an_answer_without_calls_is_no_end_while_children_live_or_it_was_empty(
    shell: Shell, script: Script
) -> None:
    shell.runner()
    script.plays["lead them"] = [
        ("spawn", {"task": "x", "budget": "1k", "command": ["sleep", "1000"]}),
        "I am done.",
        "",
        "I am done, really.",
        "Leave them.",
    ]
    agent = start(shell, "lead them")
    shell.reaches(agent, "completed")
    assert shell.column("result", agent) == {"text": "Leave them."}
    told = script.of("lead them")
    assert "still run and would end with you" in told[2].text()
    assert "Your answer was empty" in told[3].text()
    [kid] = shell.json("show", agent)["children"]
    assert shell.column("status", kid) == "terminated"


def test_without_a_model_or_a_way_to_it_one_line_says_what_to_set(shell: Shell) -> None:
    plain = ("run", "x", "--driver", "llm")
    said = shell.refused(*plain, code=2)
    assert "name one: --model anthropic:claude-sonnet-4-5, or set BOUGH_MODEL" in said
    said = shell.refused(*plain, "--model", "gpt-5", code=2)
    assert "'gpt-5' is no model of the driver llm; give provider:name like" in said
    said = shell.refused(*plain, "--model", MODEL, "--", "true", code=2)
    assert "the driver llm takes no command" in said
    assert shell.traces() == []
    done = shell(*plain, code=1, env={"BOUGH_MODEL": MODEL})
    assert "nothing leads to anthropic" in done.out + done.err
    assert "set ANTHROPIC_API_KEY, or BOUGH_ANTHROPIC_URL" in done.out + done.err


def test_mail_ends_a_wait_early_and_the_agent_can_wait_again(shell: Shell, script: Script) -> None:
    shell.runner()
    kids: list[str] = []

    def wait(asked: Asked) -> tuple[str, object]:
        kids.append(json.loads(asked.text().splitlines()[0])["id"])
        return "wait", {"agents": kids}

    hold = ["sh", "-c", f"until [ -e {shell.gate} ]; do sleep 0.05; done"]
    script.plays["lead it"] = [
        ("spawn", {"task": "x", "budget": "1k", "command": hold}),
        wait,
        lambda _: ("wait", {"agents": kids}),
        ("finish", {"result": {"waited": 2}}),
    ]
    agent = start(shell, "lead it")
    shell.reaches(agent, "waiting")
    shell("send", agent, "how is it going?")
    until(lambda: len(script.of("lead it")) == 3, "it is told")
    told = script.of("lead it")[2].text()
    assert '{"not yet": [{"id": ' in told
    assert "from the operator] how is it going?" in told
    shell.reaches(agent, "waiting")
    shell.gate.touch()
    shell.reaches(agent, "completed")
    assert '"status": "completed"' in script.of("lead it")[3].whole
