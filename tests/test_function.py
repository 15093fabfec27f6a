"""Functions as agents: real processes under a real runner, their steps done once."""

import signal
from pathlib import Path
from textwrap import dedent

from cli import Shell, until
from functions import error, notes, result, start, team

pytest_plugins = ["cli"]
LEASE_S = 2


def test_three_levels_of_functions_and_commands_give_results_up_and_budgets_back(
    shell: Shell,
) -> None:
    team(
        shell,
        """
        async def main(ctx):
            a = await ctx.spawn("parser", budget=30_000, function="team:worker")
            b = await ctx.spawn("tests", budget=40_000, argv=["sh", "-c", "echo b > b.txt"])
            done = await ctx.wait(a, b)
            for child in (a, b):
                await ctx.merge(child)
            return {"of": [c.result.get("n") for c in done], "ok": all(c.ok for c in done),
                    "left": await ctx.budget(), "task": ctx.task, "role": ctx.role}

        async def worker(ctx):
            (ctx.workspace / "a.txt").write_text("changed")
            one, two = await asyncio.gather(
                *(ctx.spawn(f"leaf {n}", budget=5_000, function="team:leaf") for n in (1, 2)))
            await ctx.charge(500)
            return {"n": sum(c.result["value"] for c in await ctx.wait(one, two))}

        async def leaf(ctx):
            call = await ctx.reserve(3_000)
            await ctx.settle(call, 1_000)
            await ctx.report("half", progress=0.5)
            return 21
        """,
    )
    shell.runner()
    root = start(shell, task="sum it up")
    found = result(shell, root)
    assert found == {
        "of": [42, None],
        "ok": True,
        "left": 97_500,
        "task": "sum it up",
        "role": "agent",
    }
    shown = shell.json("show", root)
    assert (shown["budget"]["used"], shown["budget"]["reserved"]) == (2_500, 0)
    files = shell.git("ls-tree", "-r", "--name-only", shown["workspace"]["branch"]).split()
    assert files == ["a.txt", "b.txt", "team.py"]
    assert shell.git("show", f"{shown['workspace']['branch']}:a.txt") == "changed"
    assert shell.value("select count(*) from bough.agents where root_id = %s", root) == 5
    assert shell.json("db", "verify") is not None


def test_run_shows_a_function_to_its_end(shell: Shell) -> None:
    team(shell, "async def main(ctx):\n    print('here')\n    return 1\n")
    done = shell("run", "t", "--driver", "function", "--", "team:main")
    assert "here" in done.err


def test_after_a_kill_of_the_runner_no_step_is_done_twice_and_no_child_spawned_twice(
    shell: Shell,
) -> None:
    team(
        shell,
        """
        async def main(ctx):
            note("start")
            first = await ctx.step("first", lambda: note("first") or {"n": [1, 2]})
            child = await ctx.spawn("child", budget=1_000, argv=["true"])
            await ctx.charge(100)
            async def second():
                note("second begins")
                await gate()
                note("second ends")
            await ctx.step("second", second)
            [done] = await ctx.wait(child)
            return [first, done.status]
        """,
    )
    first = shell.short_lease_runner(LEASE_S)
    agent = start(shell)
    until(lambda: "second begins" in notes(shell), "it is in the middle")
    first.signal(signal.SIGKILL)
    until(lambda: not shell.programs(), "the programs die with their runner")
    # As if it had been killed after each of these was done, and before that was recorded.
    shell.look.execute("delete from bough.steps where word in ('spawn', 'charge')")
    (shell.place / "go").touch()
    shell.short_lease_runner(LEASE_S)
    assert result(shell, agent) == {"value": [{"n": [1, 2]}, "completed"]}
    done = [n for n in notes(shell) if n != "start"]
    assert done == ["first", "second begins", "second begins", "second ends"]
    assert notes(shell).count("start") >= 2
    assert shell.value("select count(*) from bough.agents where parent_id = %s", agent) == 1
    assert shell.json("budget", agent)["used"] == 100


def test_what_a_step_or_a_merge_raises_is_raised_again_and_not_done_again(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            try:
                await ctx.step("bad", lambda: note("tried") or 1 / 0)
            except Exception as bad:
                note(str(bad))
            kid = await ctx.spawn("kid", budget=10, argv=["sh", "-c", "echo 1 > a.txt"])
            (ctx.workspace / "a.txt").write_text("2")
            os.system("git -c user.name=x -c user.email=x@y commit -qam two")
            await ctx.wait(kid)
            try:
                await ctx.merge(kid)
            except Exception as conflict:
                note(f"{type(conflict).__name__} {conflict.paths}")
            await ctx.wait_for_mail(ack=True)
            return await ctx.step("end", lambda: "end")
        """,
    )
    shell.runner()
    agent = start(shell)
    until(lambda: "MergeConflict ['a.txt']" in notes(shell), "it has merged")
    # The mail about the child is there already, so it may not even park.
    assert result(shell, agent) == {"value": "end"}
    assert notes(shell).count("tried") == 1
    assert set(notes(shell)) == {
        "tried",
        "ZeroDivisionError: division by zero",
        "MergeConflict ['a.txt']",
    }


def test_an_exception_makes_the_agent_failed_with_its_message(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            raise ValueError("the parser is broken")

        async def step(ctx):
            await ctx.step("s", lambda: {}["key"])

        async def odd(ctx):
            return {1, 2}

        async def rows(ctx):
            async def row():
                await ctx.budget()
                await ctx.budget()
            await asyncio.gather(row(), row())

        async def nested(ctx):
            await ctx.step("outer", lambda: ctx.step("inner", dict))

        async def large(ctx):
            await ctx.step("large", lambda: "x" * 1_000_001)

        async def spawns(ctx):
            await ctx.spawn("kid", budget=10, function="team:main:x")

        async def waits(ctx):
            await ctx.wait(ctx.agent_id)
        """,
    )
    shell.runner()
    names = ("main", "step", "odd", "rows", "nested", "large", "spawns", "waits")
    agents = {name: start(shell, name) for name in names}
    messages = {name: error(shell, agent) for name, agent in agents.items()}
    assert messages["main"] == "ValueError: the parser is broken"
    assert 'team.py", line' in shell("logs", agents["main"]).out
    assert messages["step"] == "KeyError: 'key'"
    assert "not JSON" in messages["odd"]
    assert "a task uses one word of ctx" in messages["rows"]
    assert "inside a step there are no other words" in messages["nested"]
    assert "at most 1000000 fit" in messages["large"]
    assert "'team:main:x' is no path of a function" in messages["spawns"]
    assert "is not a child of this one" in messages["waits"]


def test_a_function_that_has_changed_is_refused_with_both_steps_named(shell: Shell) -> None:
    text = """
        async def main(ctx):
            await ctx.step({first!r}, dict)
            await ctx.wait_for_mail()
            {more}
        """
    team(shell, text.format(first="first", more="return 1"))
    shell.runner()
    changes = {
        text.format(first="another", more="return 1"): "step 1 was step 'first', and now the"
        " function asks for step 'another'",
        "async def main(ctx):\n    await ctx.budget()\n": "asks for budget",
        "async def main(ctx):\n    return 1\n": "ended after 0 steps, but step 1 was step 'first'",
        "async def main(ctx):\n    try:\n        await ctx.budget()\n"
        "    except Exception:\n        pass\n": "asks for budget",
    }
    agents = [start(shell) for _ in changes]
    for agent, changed in zip(agents, changes, strict=True):
        shell.reaches(agent, "waiting")
        (Path(shell.column("worktree_path", agent)) / "team.py").write_text(dedent(changed))
        shell("send", agent, "go on")
    for agent, message in zip(agents, changes.values(), strict=True):
        assert message in error(shell, agent)


def test_a_bad_path_is_refused_at_once_or_by_the_agent(shell: Shell) -> None:
    team(shell, "async def main(ctx): pass\ndef plain(ctx): pass\nVALUE = 1\n")
    for words, text in (
        ([], "say which function does the work"),
        (["team"], "'team' is no path of a function"),
        (["team:"], "no path of a function"),
        (["te-am:main"], "no path of a function"),
        (["./team.py:main"], "no path of a function"),
        (["team:main", "more"], "a function takes no arguments"),
    ):
        told = shell.refused("spawn", "t", "--driver", "function", "--", *words, code=2)
        assert text in told, words
    assert shell.traces() == []
    shell.runner()
    (shell.repo / "broken.py").write_text("import no_such_thing\n")
    shell.commit("broken")
    agents: dict[str, str] = {}
    for path, text in (
        ("nowhere.team:main", "there is no module 'nowhere'"),
        ("team.sub:main", "there is no module 'team.sub'"),
        ("team:missing", "module 'team' has no 'missing'"),
        ("team:plain", "'team:plain' is not an async function"),
        ("team:VALUE", "is not an async function"),
        ("broken:main", "No module named 'no_such_thing'"),
    ):
        agents[start(shell, path)] = text
    for agent, text in agents.items():
        assert text in error(shell, agent)
