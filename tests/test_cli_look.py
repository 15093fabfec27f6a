"""Looking at agents: ps, tree, show, logs and wait, on a terminal, piped and as JSON."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from cli import Env, Shell, until
from click.testing import CliRunner

from bough.surfaces.cli.main import bough

pytest_plugins = ["cli"]

ESCAPE = "\x1b"
FIRST = "aaaa1111-0000-4000-8000-000000000001"
SECOND = "aaaa2222-0000-4000-8000-000000000002"
VERBS = [[name] for name in bough.list_commands(None)]  # pyright: ignore[reportArgumentType]
BUDGET_VERBS = [["budget", name] for name in ("stats", "grant", "transfer", "freeze", "unfreeze")]
DB_VERBS = [["db", name] for name in ("migrate", "rollback", "status", "verify", "purge", "stop")]

ROLE_VERBS = [["role", name] for name in ("list", "show")]


def start(shell: Shell, agent: str) -> None:
    """Make an agent running without a program."""
    runner = "00000000-0000-4000-8000-00000000000f"
    shell.look.execute(
        "select bough_api.enroll(%s, 'h', 1, '1', 'b', 9, 60)"
        " where not exists (select from bough.runners)",
        (runner,),
    )
    shell.look.execute("select bough_api.claim(%s, 9, %s)", (runner, agent))


def say(shell: Shell, agent: str, text: str) -> None:
    shell.look.execute("select bough_api.log(%s, 1, '{stdout}', array[%s])", (agent, text))


def complete(shell: Shell, agent: str) -> None:
    shell.look.execute("select bough_api.complete(%s, 1, '{}')", (agent,))


def test_ps_is_a_coloured_table_on_a_terminal_that_fits_its_width(shell: Shell) -> None:
    shell.plant(task="write the parser " * 20, key=FIRST)
    shown = shell.terminal("ps", columns=90)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert ESCAPE in shown
    assert plain[0].split() == ["ID", "ROLE", "STATE", "TASK", "SPENT", "CHANGED", "AGE"]
    assert plain[1].startswith("aaaa1111  agent  · created ")
    assert "…" in plain[1]
    assert max(map(len, plain)) <= 90


def test_ps_is_tab_separated_whole_and_plain_when_piped(shell: Shell) -> None:
    shell.plant(task="write the\tparser " * 20, key=FIRST)
    start(shell, FIRST)
    [row] = shell("ps").out.splitlines()
    cells = row.split("\t")
    assert len(cells) == 7
    assert cells[0] == "aaaa1111"
    assert re.fullmatch(r"● running \d+s", cells[2])
    assert cells[3].startswith("write the parser ")
    assert len(cells[3]) > 150
    assert cells[4] == "0/1k 0%"
    assert ESCAPE not in row


def test_no_color_takes_the_colour_from_a_terminal_and_leaves_the_table(shell: Shell) -> None:
    shell.plant()
    for verb in (["ps"], ["tree"]):
        shown = shell.terminal(*verb, NO_COLOR="1")
        assert ESCAPE not in shown
        assert "created" in shown


def test_ps_as_json_is_a_list_that_is_empty_when_there_is_nobody(shell: Shell) -> None:
    as_json, piped = shell.in_a_row(["ps", "--json"], ["ps"])
    assert (as_json.out, piped.out) == ("[]\n", "")
    agent = shell.plant()
    commands = (["ps", "--json"], ["show", agent, "--json"], ["kill", agent])
    living, shown, _, as_json, all_ids = shell.in_a_row(
        *commands, ["ps", "--json"], ["ps", "--all", "-q"]
    )
    (row,) = json.loads(living.out)
    subtree = {"agents": 1, "files_changed": 0, "lines_added": 0, "lines_removed": 0}
    assert json.loads(shown.out) == row | {"subtree": subtree | {"disk_bytes": 0}}
    assert (as_json.out, all_ids.out) == ("[]\n", f"{agent}\n")


def test_ps_lists_first_who_needs_somebody(shell: Shell) -> None:
    failed, created, running, paused = (shell.plant(task=n) for n in ("f", "c", "r", "p"))
    for agent in (failed, running, paused):
        start(shell, agent)
    shell.look.execute("select bough_api.fail(%s, 1, 'x', 'y', null)", (failed,))
    shell.look.execute("select bough_api.pause(%s, 'z')", (paused,))
    assert shell("ps", "-a", "-q").out.split() == [failed, paused, running, created]


def test_an_id_may_be_shortened_until_it_is_ambiguous(shell: Shell) -> None:
    with shell.ago(9_000):
        shell.plant(key=FIRST)
        shell.plant(key=SECOND)
    words = ("aaaa1", FIRST.upper(), "aaaa", "bbbb", "zz")
    short, long, many, none, no_id = shell.in_a_row(*[["show", word] for word in words])
    assert short.out.startswith("agent      " + FIRST)
    assert long.out == short.out
    assert (many.code, none.code, no_id.code) == (2, 3, 3)
    assert "'aaaa' is ambiguous: aaaa1111, aaaa2222; give more digits" in many.err
    assert "no agent bbbb; see bough ps --all" in none.err
    assert "'zz' is not an id" in no_id.err


def test_tree_draws_who_spawned_whom_and_nests_as_json(shell: Shell) -> None:
    root = shell.plant(task="root", key=FIRST)
    left = shell.plant(task="left", parent=root, budget=500)
    below = shell.plant(task="below", parent=left, budget=100)
    right = shell.plant(task="right", parent=root, budget=100)
    commands = (["tree", below], ["tree"], ["tree", "--json"], ["tree", left, "--json"])
    one, all_, all_json, one_json = [done.out for done in shell.in_a_row(*commands)]
    lines = one.splitlines()
    assert [re.split(r"(?<=[0-9a-f])  ", line)[0] for line in lines] == [
        "aaaa1111",
        f"├─ {left[:8]}",
        f"│  └─ {below[:8]}",
        f"└─ {right[:8]}",
    ]
    assert all_ == one
    assert lines[0].endswith("root")
    [found] = json.loads(all_json)
    assert [child["task"] for child in found["children"]] == ["left", "right"]
    assert found["children"][0]["children"][0]["id"] == below
    assert json.loads(one_json) == found
    assert shell.json("show", root)["children"] == [left, right]


def test_logs_are_raw_when_piped_and_harmless_on_a_terminal(shell: Shell) -> None:
    agent = shell.plant()
    start(shell, agent)
    text = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jcleared\x07 ünï\n"
    say(shell, agent, text)
    assert shell("logs", agent).out == text
    assert shell.terminal("logs", agent) == "\x1b[31mred\x1b[0m cleared ünï\n"
    assert [line["content"] for line in shell.json("logs", agent)] == [text]


def test_logs_follow_an_agent_to_its_end(shell: Shell) -> None:
    agent = shell.plant()
    following = shell.begin("logs", "-f", agent)
    sql = "select count(*) from bough.listeners where channel = %s"
    until(lambda: shell.value(sql, f"bough_tree_{agent}"), "it listens")
    start(shell, agent)
    say(shell, agent, "one\n")
    following.says("one\n")
    say(shell, agent, "two\n")
    complete(shell, agent)
    done = following.ends()
    assert (done.code, done.out) == (0, "one\ntwo\n")


def test_wait_tells_by_its_exit_code_how_agents_ended(shell: Shell) -> None:
    good, bad, open_ = shell.plant(task="g"), shell.plant(task="b"), shell.plant(task="o")
    start(shell, good)
    waiting = shell.begin("wait", good, "--json")
    listens = "select count(*) from bough.listeners where channel = %s"
    until(lambda: shell.value(listens, f"bough_tree_{good}"), "it listens")
    complete(shell, good)
    done = waiting.ends()
    assert (done.code, json.loads(done.out)[0]["status"]) == (0, "completed")

    killed, both, late, any_good, any_bad, unknown = shell.in_a_row(
        ["kill", bad],
        ["wait", good, bad],
        ["wait", good, open_, "--timeout", "1s"],
        ["wait", "--any", open_, good],
        ["wait", "--any", open_, bad],
        ["wait", good, "0000"],
    )
    assert [killed.code, both.code, late.code] == [0, 1, 8]
    assert [any_good.code, any_bad.code, unknown.code] == [0, 1, 3]
    assert "terminated" in both.out
    assert "created" in late.out


@pytest.mark.parametrize("verb", [*VERBS, *DB_VERBS, *BUDGET_VERBS, *ROLE_VERBS], ids=" ".join)
def test_the_help_of_a_verb_has_an_example_and_offers_json(verb: list[str]) -> None:
    shown = CliRunner().invoke(bough, [*verb, "--help"], prog_name="bough")
    assert shown.exit_code == 0
    assert f"  bough {verb[0]}" in shown.output.partition("Example")[2]
    assert "--json" in shown.output or verb in (
        ["completion"],
        ["db"],
        ["budget"],
        ["role"],
        ["mcp"],
    )


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_completion_script_is_valid(name: str) -> None:
    script = CliRunner().invoke(bough, ["completion", name]).output
    assert "_BOUGH_COMPLETE" in script
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: its script was only looked at")
    done = subprocess.run([name, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def complete_words(shell: Shell, words: str, env: Env | None = None) -> str:
    """What the shell is offered after `bough` and some words; nothing else may be printed."""
    typed = {"COMP_WORDS": f"bough {words}", "COMP_CWORD": str(len(words.split()))}
    done = shell(env={"_BOUGH_COMPLETE": "bash_complete"} | typed | (env or {}))
    assert done.err == ""
    return done.out


def test_ids_are_completed_and_the_prompt_is_never_disturbed(shell: Shell) -> None:
    shell.plant(key=FIRST, task="write it")
    assert complete_words(shell, "show a") == "plain,aaaa1111\n"
    assert complete_words(shell, "p").split() == ["plain,ps", "plain,pause", "plain,park"]
    away = {"BOUGH_DATABASE_URL": "host=127.0.0.1 port=1 user=x dbname=x"}
    assert complete_words(shell, "show a", away).strip() == ""


def test_ps_loads_neither_rich_nor_the_pool_nor_the_runner(shell: Shell) -> None:
    code = (
        "import sys\nfrom bough.surfaces.cli.main import main\nsys.argv = ['bough', 'ps']\n"
        "try: main()\nexcept SystemExit: print(*sys.modules)"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, env=shell.env, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "bough.surfaces.cli.look" in loaded
    unwanted = {"rich", "psycopg_pool", "bough.runner"}
    assert not loaded & unwanted
