"""Inside an agent the same verb merges what it spawned, alone, in batches and with resolvers."""

import json

from cli import Shell
from finished import finished, queued
from test_inside import script

pytest_plugins = ["cli"]


def test_a_script_merges_its_children_and_has_their_conflict_resolved(shell: Shell) -> None:
    shell.runner("--slots", 1)
    worker = script(shell, "impl.sh", 'echo "$1" > same; echo x > "$1"\n')
    settle = script(shell, "settle.sh", "printf 'one\\ntwo\\n' > same\n")
    team = script(
        shell,
        "team.sh",
        f"""
        a=$(bough spawn --budget 1k one -- {worker} one)
        b=$(bough spawn --budget 1k two -- {worker} two)
        bough wait $a $b
        code=0; bough merge --strategy squash $a $b > told || code=$?
        bough inbox --json > mail
        code2=0; r=$(bough merge $b --resolve --budget 1k -- {settle}) || code2=$?
        bough wait $r
        bough merge $r >> told
        bough finish --result "{{\\"codes\\": [$code, $code2], \\"resolver\\": \\"$r\\"}}"
        """,
    )
    root = shell.spawn("team", "--budget", "100k", "--", team)
    shell.reaches(root, "completed")
    shown = shell.json("show", root)
    branch = shown["workspace"]["branch"]
    assert shown["result"]["codes"] == [5, 8]
    names = shell.git("ls-tree", "--name-only", branch).split()
    assert names == ["a.txt", "mail", "one", "same", "told", "two"]
    assert shell.git("show", f"{branch}:same") == "one\ntwo"
    mail = json.loads(shell.git("show", f"{branch}:mail"))
    told = [m["payload"]["conflicts"] for m in mail if m["type"] == "child.conflicted"]
    assert told == [["same"]]
    a, b, r = shown["children"]
    assert r == shown["result"]["resolver"]
    assert shell.column("parent_id::text", r) == root
    assert [shell.column("isolation_status", agent) for agent in (a, b, r)] == ["merged"] * 3


def test_an_agent_does_its_own_merges_and_leaves_those_of_others_in_line(shell: Shell) -> None:
    stranger = finished(shell, {"strange": "x\n"})
    shell.value(
        "select id from bough_api.queue_merge(gen_random_uuid(), %s, 'main', 'merge')", stranger
    )
    shell.runner()
    worker = script(shell, "impl.sh", "echo x > mine\n")
    team = script(
        shell,
        "team.sh",
        f"""
        a=$(bough spawn --budget 1k one -- {worker})
        bough wait $a
        bough merge $a --into main
        bough merge {stranger} || bough finish --result "{{\\"refused\\": $?}}"
        """,
    )
    root = shell.spawn("team", "--budget", "10k", "--", team)
    shell.reaches(root, "completed")
    assert shell.json("show", root)["result"] == {"refused": 3}
    assert (shell.repo / "mine").exists()
    assert not (shell.repo / "strange").exists()
    assert queued(shell) == 1
    assert shell("merge", "--queue").out.startswith(f"merged {stranger[:8]}")
    assert (shell.repo / "strange").exists()
