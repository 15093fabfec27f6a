"""The verb budget: accounts, ledger and statistics, for people and programs; each bad word."""

import json
from uuid import uuid4

from cli import Shell

pytest_plugins = ["cli"]

NOBODY = "00000000-0000-4000-8000-000000000000"


def charge(shell: Shell, agent: str, tokens: int, *, model: str, cost: float | None) -> None:
    sql = (
        "select * from bough_api.charge(%s, %s, %s::bigint, %s::bigint, 0, 0, 0, 'call', %s,"
        " %s::numeric, null)"
    )
    shell.value(sql, uuid4(), agent, tokens, tokens, model, cost)


def test_budget_shows_where_the_tokens_are(shell: Shell) -> None:
    with shell.ago(9_000):
        root = shell.plant(budget=1_250_000)
        child = shell.plant(parent=root, budget=30_000)
    charge(shell, child, 6_000, model="m", cost=0.25)
    commands = (["budget", root[:8]], ["budget", root, "--json"], ["kill", child])
    shown, as_json, _, after = shell.in_a_row(*commands, ["budget", root, "--json"])
    assert shown.out.splitlines() == [
        "allocated   1.25M",
        "used        0, subtree 6k",
        "reserved    30k: 30k for children, 0 for 0 open calls",
        "available   1.22M (1k kept from children)",
        "calls       1, $0.2500",
        "rate        1.2k tokens a minute over the last five",
        "",
        f"{child[:8]}\t· created 2h\t30k\t6k\tt",
    ]
    found = json.loads(as_json.out)
    assert (found["allocated"], found["reserved"], found["id"]) == (1_250_000, 30_000, root)
    assert found["children"][0]["id"] == child
    assert json.loads(after.out)["available"] == 1_244_000


def test_a_ledger_ends_with_what_is_available(shell: Shell) -> None:
    root = shell.plant(budget=1_000)
    child = shell.plant(parent=root, budget=300)
    charge(shell, root, 100, model="m", cost=None)
    shown, as_json, short, _ = shell.in_a_row(
        ["budget", root, "--ledger"],
        ["budget", "--ledger", root, "--json"],
        ["budget", root, "--ledger", "-n", 1],
        ["kill", root],
    )
    columns = [line.split("\t")[1:5] for line in shown.out.splitlines()]
    assert columns == [
        ["allocated", "+1,000", "1,000", ""],
        ["to child", "-300", "700", child[:8]],
        ["charged", "-100", "600", ""],
    ]
    assert [m["balance"] for m in json.loads(as_json.out)["ledger"]] == [1_000, 700, 600]
    assert len(short.out.splitlines()) == 1
    assert shell.json("budget", root, "--ledger")["ledger"][-1]["balance"] == 0


def test_spending_is_told_by_role_model_depth_and_agent(shell: Shell) -> None:
    root = shell.plant(budget=1_000)
    child = shell.plant(parent=root, budget=300)
    charge(shell, root, 100, model="big", cost=1.5)
    charge(shell, child, 200, model="small", cost=None)
    kinds = ("role", "model", "depth", "agent")
    done = shell.in_a_row(*(["budget", "stats", root, "--by", k, "--json"] for k in kinds))
    by = {kind: json.loads(d.out) for kind, d in zip(kinds, done, strict=True)}
    assert [(s["what"], s["tokens"]) for s in by["role"]] == [("agent", 300)]
    assert [(s["what"], s["cost_usd"]) for s in by["model"]] == [("small", "0"), ("big", "1.5")]
    assert [s["what"] for s in by["depth"]] == ["1", "0"]
    assert [s["what"] for s in by["agent"]] == [child, root]
    table = shell("budget", "stats", root, "--by", "model").out
    assert [line.split("\t")[-1] for line in table.splitlines()] == ["cost unknown", "$1.50"]


def test_grant_transfer_freeze_and_unfreeze_say_what_they_did(shell: Shell) -> None:
    root = shell.plant(budget=1_000)
    one, two = (shell.plant(parent=root, budget=200) for _ in range(2))
    said = shell.in_a_row(
        ["budget", "grant", one[:8], "100"],
        ["budget", "grant", root, "1M"],
        ["budget", "transfer", one, two, "50"],
        ["budget", "freeze", root, "--reason", "weekend"],
        ["budget", "freeze", root],
        ["spawn", "t", "--parent", one, "--budget", "5", "--", "true"],
        ["budget", one],
        ["budget", "unfreeze", root],
        ["budget", "unfreeze", root],
    )
    assert [d.out for d in said[:5]] == [
        f"{one[:8]} got 100 from {root[:8]}: 300 available of 300\n",
        f"{root[:8]} got 1M: 1M available of 1M\n",
        f"{one[:8]}: 250 available of 250\n{two[:8]}: 250 available of 250\n",
        f"frozen 3 accounts at and below {root[:8]}\n",
        f"nothing to do: {root[:8]} was frozen before\n",
    ]
    assert said[5].code == 6
    assert "is frozen (weekend); see: bough budget unfreeze" in said[5].err
    assert "frozen      weekend, 0s" in said[6].out
    assert said[7].out == f"unfrozen 3 accounts at and below {root[:8]}\n"
    assert said[8].out.startswith("nothing to do")


def test_bad_words_about_budgets_are_refused_in_one_line_and_change_nothing(shell: Shell) -> None:
    root = shell.plant(budget=1_000)
    child = shell.plant(parent=root, budget=100)
    other = shell.plant(budget=1_000)
    cases: list[tuple[int, list[object], str]] = [
        (3, ["budget", "zzz"], "is not an id"),
        (3, ["budget", NOBODY], "no agent"),
        (2, ["budget", "grant", root, "0"], "is no number of tokens"),
        (2, ["budget", "grant", root, 2**63], "is no number of tokens"),
        (2, ["budget", "grant", root, 2**62], "a grant is of 1 to"),
        (2, ["budget", "grant", root, "text"], "is no number of tokens"),
        (2, ["budget", "grant", root], "Missing argument"),
        (6, ["budget", "grant", child, "901"], "901 tokens required, 900 available"),
        (3, ["budget", "grant", NOBODY, "5"], "no agent"),
        (2, ["budget", "transfer", root, other, "5"], "between an agent and its parent"),
        (2, ["budget", "transfer", child, child, "5"], "between an agent and its parent"),
        (6, ["budget", "transfer", child, root, "101"], "101 tokens required, 99 may leave"),
        (2, ["budget", "stats", "--by", "colour"], "colour"),
        (3, ["budget", "freeze", NOBODY], "no agent"),
        (2, ["budget", root, "--ledger", "-n", "0"], "0 is not in the range"),
    ]
    done = shell.in_a_row(*[command for _, command, _ in cases])
    for (code, command, words), end in zip(cases, done, strict=True):
        assert (end.code, end.out) == (code, ""), (command, end)
        assert words in end.err, (command, end)
        assert end.err.count("\n") == 1, end.err
    sql = "select sum(allocated) from bough.budgets where agent_id = any (%s::uuid[])"
    assert shell.value(sql, [root, child, other]) == 2_100
