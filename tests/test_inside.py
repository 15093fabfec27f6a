"""A program inside an agent acts as that agent: it spawns, waits, talks, merges and finishes."""

import json
import time
from pathlib import Path

from cli import Shell, until

pytest_plugins = ["cli"]


def script(shell: Shell, name: str, text: str) -> str:
    path = shell.place / name
    path.write_text("#!/bin/sh\nset -e\n" + text)
    path.chmod(0o755)
    return str(path)


def test_a_plain_shell_script_is_a_coordinator(shell: Shell) -> None:
    shell.runner("--slots", 1)
    worker = script(shell, "impl.sh", "echo work > $1.txt\nbough charge 1200 > left\nrm left\n")
    team = script(
        shell,
        "team.sh",
        f"""
        a=$(bough spawn --role impl --budget 30k "parser" -- {worker} parser)
        b=$(bough spawn --role test --budget 40k "tests" -- {worker} tests)
        bough wait $a $b && bough merge $a && bough merge $b
        bough finish --result '{{"ok":true}}'
        """,
    )
    root = shell.spawn("team", "--budget", "100k", "--", team)
    shell.reaches(root, "completed")
    shown = shell.json("show", root)
    assert shown["result"] == {"ok": True}
    assert len(shown["children"]) == 2
    assert shown["budget"]["used"] == 2_400
    files = shell.git("ls-tree", "--name-only", shown["workspace"]["branch"]).split()
    assert files == ["a.txt", "parser.txt", "tests.txt"]
    roles = {shell.json("show", c)["role"] for c in shown["children"]}
    assert roles == {"impl", "test"}


def test_a_program_gets_what_it_needs_to_act_and_nothing_that_opens_the_database(
    shell: Shell,
) -> None:
    shell.runner()
    agent = shell.plant("sh", "-c", "env; echo; bough show $BOUGH_AGENT_ID --json")
    shell.reaches(agent, "completed")
    env, _, shown = shell("logs", agent).out.partition("\n\n")
    names = {line.partition("=")[0] for line in env.splitlines()}
    assert {"BOUGH_AGENT_ID", "BOUGH_URL", "BOUGH_TOKEN"} <= names
    assert not {n for n in names if n.startswith("PG")} | {"BOUGH_DATABASE_URL"} & names
    assert json.loads(shown)["id"] == agent


def test_a_message_of_a_person_reaches_a_program_that_waits_and_the_answer_comes_back(
    shell: Shell,
) -> None:
    shell.runner()
    agent = shell.plant(
        *("sh", "-c"),
        "bough send operator ready >/dev/null; bough inbox --wait 20s --json > mail;"
        ' id=$(sed -n \'s/.*"id": "\\(.*\\)",/\\1/p\' mail | head -1); rm mail;'
        ' bough reply "$id" "yes" >/dev/null; bough inbox --json',
    )
    until(lambda: shell.json("inbox"), "the agent writes to the operator")
    [ready] = shell.json("inbox")
    assert (ready["sender_id"], ready["recipient_id"]) == (agent, "operator")
    asked = shell("send", agent, "are you there?").out.strip()
    shell.reaches(agent, "completed")
    assert shell("logs", agent).out == "[]\n"
    mail = shell.json("inbox")
    assert [(m["payload"], m["reply_to"]) for m in mail] == [
        ({"text": "ready"}, None),
        ({"text": "yes"}, asked),
    ]
    assert shell("ack", ready["id"][:8]).out == ""
    assert [m["payload"]["text"] for m in shell.json("inbox")] == ["yes"]
    shell("ack", "--all")
    assert shell.json("inbox") == []


def test_a_program_that_parks_holds_no_process_and_is_started_again_by_what_wakes_it(
    shell: Shell,
) -> None:
    shell.runner()
    agent = shell.plant(
        *("sh", "-c"),
        "if [ $BOUGH_ATTEMPT = 1 ]; then echo before; bough park --messages; exit 0; fi;"
        " echo after; bough inbox --json",
    )
    shell.reaches(agent, "waiting")
    until(lambda: shell.programs() == [], "no process is left")
    assert "waiting: for messages" in shell("ps").out
    shell("send", agent, "wake up")
    shell.reaches(agent, "completed")
    out = shell("logs", agent).out
    assert out.startswith("before\nafter\n")
    assert "wake up" in out


def test_parking_on_what_has_happened_already_starts_the_program_again_at_once(
    shell: Shell,
) -> None:
    agent = shell.plant(
        *("sh", "-c"),
        "if [ ! -e seen ]; then touch seen; bough park --messages; exit 0; fi; echo again",
    )
    shell("send", agent, "early")
    shell.runner()
    shell.reaches(agent, "completed")
    assert "again" in shell("logs", agent).out


def test_a_person_decides_what_a_program_asks(shell: Shell) -> None:
    shell.runner()
    ask = 'bough request-approval "drop it?" --wait; echo "code $?"'
    one, two = (shell.plant("sh", "-c", ask) for _ in range(2))
    until(lambda: len(shell.json("approvals")) == 2, "both ask")
    by_agent = {a["agent_id"]: a["id"] for a in shell.json("approvals")}
    assert shell("approve", by_agent[one][:8], "--answer", "once").out.startswith("approved")
    shell("reject", by_agent[two][:8])
    shell.reaches(one, "completed")
    shell.reaches(two, "completed")
    assert shell("logs", one).out == "once\ncode 0\n"
    assert shell("logs", two).out == "rejected\ncode 4\n"
    assert "was approved before" in shell.refused("reject", by_agent[one], code=5)
    assert shell.json("approvals") == []
    assert {a["status"] for a in shell.json("approvals", "--all")} == {"approved", "rejected"}


def test_what_nobody_answers_is_rejected_in_time(shell: Shell) -> None:
    shell.runner()
    agent = shell.plant(
        "sh", "-c", 'bough request-approval "now?" --expires 1s --wait; echo "code $?"'
    )
    shell.reaches(agent, "completed")
    assert shell("logs", agent).out == "rejected\ncode 4\n"


def test_an_error_that_the_program_tells_makes_it_failed_whatever_its_exit_code(
    shell: Shell,
) -> None:
    shell.runner()
    agent = shell.plant("bough", "finish", "--error", "the tests still fail")
    shell.reaches(agent, "failed")
    assert shell.json("show", agent)["error"] == {
        "code": "agent_failed",
        "message": "the tests still fail",
    }


def test_progress_and_charges_are_seen_outside_and_an_overdraft_stops_the_agent(
    shell: Shell,
) -> None:
    shell.runner()
    done = shell.place / "charged"
    agent = shell.plant(
        *("sh", "-c"),
        f'bough report --progress 0.5 half; bough charge 400; touch "{done}";'
        ' bough charge 700; echo "code $?"; sleep 1000',
        budget=1000,
    )
    until(done.exists, "it has charged once")
    shell.reaches(agent, "paused")
    shown = shell.json("show", agent)
    assert (shown["progress"], shown["progress_note"]) == (0.5, "half")
    assert (shown["budget"]["used"], shown["budget"]["overdraft"]) == (1_100, 100)
    assert "overdrawn" in shell("ps").out
    assert shell("logs", agent).out.startswith("600\n-100\n")


def test_a_program_that_waits_gives_its_place_to_its_children(shell: Shell) -> None:
    """Three levels through a runner with one place."""
    shell.runner("--slots", 1)
    leaf = script(shell, "leaf.sh", "echo leaf\n")
    middle = script(shell, "middle.sh", f'bough wait $(bough spawn --budget 5k "leaf" -- {leaf})\n')
    top = script(shell, "top.sh", f'bough wait $(bough spawn --budget 20k "middle" -- {middle})\n')
    begun = time.monotonic()
    root = shell.spawn("top", "--budget", "50k", "--", top)
    shell.reaches(root, "completed")
    assert time.monotonic() - begun < 20
    assert shell.value("select count(*) from bough.agents where root_id = %s", root) == 3


def test_outside_of_an_agent_its_verbs_say_where_they_belong(shell: Shell) -> None:
    for verb in (["report", "x"], ["charge", "5"], ["finish"], ["request-approval", "?"]):
        assert "for the program of an agent" in shell.refused(*verb, code=4)
    assert Path(shell.repo).is_dir()
