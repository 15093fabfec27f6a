"""Talking from the command line: mail for people and programs, and each bad word."""

import json

from cli import Shell

pytest_plugins = ["cli"]

NOBODY = "00000000-0000-4000-8000-000000000001"


def test_mail_sent_by_a_person_waits_in_the_inbox_of_the_agent(shell: Shell) -> None:
    agent = shell.plant()
    below = shell.plant(parent=agent, budget=100)
    first, second, all_, listed, as_json = shell.in_a_row(
        ["send", agent[:8], "use the new parser"],
        ["send", agent, "--json-payload", '{"n": 1}', "--priority", "high", "--json"],
        ["send", agent, "stop that", "--below"],
        ["inbox", agent],
        ["inbox", agent, "--json"],
    )
    key = first.out.strip()
    assert len(key) == 36
    assert json.loads(second.out)["seq"] == 1
    assert all_.out == "sent to 1 agents\n"
    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert [(r[1], r[2], r[4]) for r in rows] == [
        ("-", "message (high)", '{"n": 1}'),
        ("-", "message", "use the new parser"),
    ]
    mail = json.loads(as_json.out)
    assert mail[1].keys() >= {"sender_id", "type", "priority", "thread_id", "created_at"}
    assert (mail[1]["id"], mail[1]["seq"], mail[1]["sender_id"]) == (key, 1, None)
    assert (mail[1]["payload"], mail[1]["recipient_id"]) == (
        {"text": "use the new parser"},
        agent,
    )
    assert [m["payload"]["text"] for m in shell.json("inbox", below)] == ["stop that"]


def test_bad_words_about_mail_are_refused_in_one_line_and_send_nothing(shell: Shell) -> None:
    agent, ended = shell.plant(), shell.plant()
    shell("kill", ended)
    cases: list[tuple[int, list[object], str]] = [
        (3, ["send", NOBODY, "x"], "no agent"),
        (3, ["send", "zzz", "x"], "is not an id"),
        (5, ["send", ended, "x"], "reads no more mail"),
        (2, ["send", agent], "a text or --json-payload"),
        (2, ["send", agent, "x", "--json-payload", "{}"], "one of them"),
        (2, ["send", agent, "--json-payload", "{"], "is not JSON"),
        (2, ["send", agent, "--json-payload", "[1]"], "is a JSON object"),
        (2, ["send", agent, "x" * 11_000], "at most 10240 fit"),
        (2, ["send", agent, "x", "--priority", "urgent"], "urgent"),
        (2, ["send", agent, "x", "--reply-within", "0s"], "is no duration"),
        (2, ["send", "00000000-0000-0000-0000-000000000000", "x"], "say whom"),
        (3, ["reply", "abcd", "x"], "no message abcd"),
        (3, ["ack", "abcd"], "no message abcd"),
        (2, ["ack"], "say which messages"),
        (2, ["ack", "abcd", "--all"], "say which messages"),
        (3, ["approve", "abcd"], "no approval abcd"),
        (3, ["reject", "abcd"], "no approval abcd"),
        (3, ["inbox", NOBODY], "no agent"),
    ]
    done = shell.in_a_row(*[command for _, command, _ in cases])
    for (code, command, words), end in zip(cases, done, strict=True):
        assert (end.code, end.out) == (code, ""), (command, end)
        assert words in end.err, (command, end)
        assert end.err.count("\n") == 1, end.err
    assert shell.value("select count(*) from bough.messages") == 0


def test_old_mail_of_the_ended_is_purged_and_other_mail_is_not(shell: Shell) -> None:
    agent, ended = shell.plant(), shell.plant()
    for to in (agent, ended):
        shell("send", to, "x")
    shell("kill", ended)
    shell.value("update bough.messages set created_at = created_at - interval '2 days' returning 1")
    assert shell("db", "purge").out == "0 messages deleted\n"
    assert shell("db", "purge", "--older-than", "1d").out == "1 messages deleted\n"
    assert len(shell.json("inbox", agent)) == 1


def test_waiting_for_mail_that_does_not_come_ends_with_8(shell: Shell) -> None:
    assert shell("inbox", "--wait", "1s", code=8).out == ""
