"""Roles at the command line: where they are found, which wins, what an agent gets from one."""

import json
from pathlib import Path

import pytest
from cli import Shell

pytest_plugins = ["cli"]
BUILT_IN = {"architect", "coordinator", "implementer", "resolver", "reviewer", "tester"}
PLACES = [".bough/roles", ".claude/agents", ".agents/agents", ".opencode/agent", ".opencode/agents"]


def write(place: Path, name: str, text: str) -> None:
    file = place / f"{name}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def shown(shell: Shell, name: str) -> str:
    return shell.json("role", "show", name)["source"]


def test_roles_come_with_bough_and_know_its_words(shell: Shell) -> None:
    found = {r["name"]: r for r in shell.json("role", "list")}
    assert found.keys() == BUILT_IN
    for name in BUILT_IN:
        role = shell.json("role", "show", name)
        assert (role["source"], role["warnings"], role["broken"]) == ("built in", [], None)
        for word in ("bough finish", "bough report", "bough send parent"):
            assert word in " ".join(role["prompt"].split()) or name == "coordinator", (name, word)
        assert "tokens" in role["prompt"] or "bough budget" in role["prompt"]
    assert "edit" not in found["reviewer"]["tools"]


def test_the_first_place_wins_and_a_broken_file_hides_nothing(shell: Shell) -> None:
    user = Path(shell.env["HOME"])
    write(user / ".claude/agents", "tester", "of the user")
    assert shown(shell, "tester") == "~/.claude/agents/tester.md"
    for place in reversed(PLACES):
        write(shell.repo / place, "tester", f"from {place}")
        shell.commit(place)
        assert shown(shell, "tester") == f"{place}/tester.md"
    write(shell.repo / ".bough/roles", "tester", "---\nx: [\n---\nbroken")
    (shell.repo / ".bough/roles/link.md").symlink_to("/etc/passwd")
    shell.commit("broken")
    done = shell("role", "list")
    assert ".bough/roles/tester.md is left out: its front matter is no YAML" in done.err
    assert ".bough/roles/link.md is left out: it is no plain file" in done.err
    assert shown(shell, "tester") == ".claude/agents/tester.md"
    assert "hides    .agents/agents/tester.md" in shell("role", "show", "tester").out


def test_a_role_is_read_from_the_commit_and_not_from_the_worktree(shell: Shell) -> None:
    write(shell.repo / ".bough/roles", "mine", "first")
    assert "there is no role 'mine'" in shell.refused("role", "show", "mine", code=3)
    shell.commit("a role")
    write(shell.repo / ".bough/roles", "mine", "second")
    assert shell.json("role", "show", "mine")["prompt"] == "first"
    assert shell("role", "list", cwd=shell.place).out.count("built in") == len(BUILT_IN)


def test_a_run_with_a_role_uses_its_prompt_and_its_usual_options(shell: Shell) -> None:
    prompt = "Say {task} --- and $HOME, 'quoted'\n\nand more"
    keys = "budget: 7k\n  timeout: 2m\n  limits: {max_depth: 1}\n  gates: [make test]"
    write(shell.repo / ".bough/roles", "mine", f"---\nx-bough:\n  {keys}\n---\n{prompt}\n")
    shell.commit("a role")
    program = ["sh", "-c", 'cat "$BOUGH_ROLE_FILE"; printf "|%s|%s|" "$1" "$2"; pwd']
    words = [*program, "sh", "{prompt}", "{role_file}: {task}"]

    done = shell("run", "do {prompt}", "--role", "mine", "--json", "--", *words)

    found = json.loads(done.out)
    agent = found["id"]
    said, argument, file, place = shell("logs", agent).out.rpartition("\n")[0].split("|")
    assert said == argument == prompt
    role_file = str(shell.home / "agents" / agent / "role.md")
    assert file == f"{role_file}: do {{prompt}}"
    assert place == found["workspace"]["path"]
    assert Path(role_file).stat().st_mode & 0o777 == 0o600
    assert found["workspace"]["files_changed"] == 0
    assert found["budget"]["allocated"] == 7000
    assert shell.column("timeout_s", agent) == 120
    assert shell.column("depth_limit", agent) == 1
    assert found["program"] == {
        "argv": words,
        "role_source": ".bough/roles/mine.md",
        "gates": ["make test"],
    }
    assert shell.column("program->>'prompt'", agent) == prompt
    assert "role from  .bough/roles/mine.md" in shell("show", agent).out


def test_options_win_over_the_role_and_words_over_its_driver(shell: Shell) -> None:
    keys = "budget: 7k\n  driver: claude\n  timeout: 2m"
    write(shell.repo / ".bough/roles", "mine", f"---\nx-bough:\n  {keys}\n---\nx\n")
    shell.commit("a role")
    options = ["--role", "mine", "--budget", "3k", "--timeout", "9s"]
    agent = shell.spawn("t", *options, "--", "true")
    assert shell.column("allocated", agent) == 3000
    assert shell.column("timeout_s", agent) == 9
    assert shell.column("driver", agent) == "command"


def test_a_name_that_is_no_role_stays_a_bare_name_and_a_person_is_told(shell: Shell) -> None:
    agent = shell.spawn("t", "--role", "implementor", "--", "true")
    assert shell.column("role", agent) == "implementor"
    assert "prompt" not in shell.column("program", agent)
    told = shell.terminal("spawn", "t", "--role", "implementor", "--", "true")
    assert "is a bare name, without a prompt; did you mean 'implementer'?" in told
    write(shell.repo / ".bough/roles", "draft", "x")
    told = shell.terminal("spawn", "t", "--role", "draft", "--", "true")
    assert "its file is not committed; commit it first" in told


def test_a_role_that_holds_back_in_words_we_do_not_know_starts_nobody(shell: Shell) -> None:
    write(shell.repo / ".bough/roles", "mine", "---\nx-bough: {tools: {deny: [rm]}}\n---\nx\n")
    shell.commit("a role")
    told = shell.refused("spawn", "t", "--role", "mine", "--", "true", code=2)
    assert "the role mine cannot be used: .bough/roles/mine.md: x-bough.tools.deny names rm" in told
    assert shell.value("select count(*) from bough.agents") == 0


def test_a_role_never_gets_more_than_the_parent_has_to_give(shell: Shell) -> None:
    keys = "budget: 50k\n  limits: {max_depth: 9}"
    write(shell.repo / ".bough/roles", "mine", f"---\nx-bough:\n  {keys}\n---\nx\n")
    shell.commit("a role")
    root = shell.spawn("t", "--budget", "60k", "--max-depth", "1", "--", "true")
    child = shell.spawn("t", "--role", "mine", "--parent", root, "--", "true")
    assert shell.column("depth_limit", child) == 1
    told = shell.refused("spawn", "t", "--role", "mine", "--parent", root, "--", "true", code=6)
    assert "50000 tokens required, 10000" in told


@pytest.mark.parametrize("commits", [False, True])
def test_an_agent_cannot_change_the_role_that_its_children_get(shell: Shell, commits: bool) -> None:
    place = ".bough/roles/mine.md"
    write(shell.repo / ".bough/roles", "mine", "as a person wrote it")
    shell.commit("a role")
    shell.runner()
    save = "git add -A; git -c user.name=a -c user.email=a@b commit -qm x;" if commits else ""
    words = (
        f"echo changed > {place}; {save}"
        " bough wait $(bough spawn t --role mine --budget 10 -- sh -c 'cat $BOUGH_ROLE_FILE')"
    )
    agent = shell.spawn("t", "--", "sh", "-c", words)
    shell.reaches(agent, "completed")
    [child] = shell.json("show", agent)["children"]
    assert shell("logs", child).out == "as a person wrote it"
