"""What wakes a function that waits: no process is left of it meanwhile."""

from cli import Shell, until
from functions import notes, result, start, team, waits

pytest_plugins = ["cli"]


def test_a_function_that_waits_for_children_has_no_process_and_mail_does_not_fool_it(
    shell: Shell,
) -> None:
    team(
        shell,
        """
        async def main(ctx):
            note("start")
            kids = [await ctx.spawn(f"kid {n}", budget=1_000, function=f"team:kid{n}")
                    for n in (1, 2)]
            first = await ctx.wait_any(*kids)
            note(f"any {len(first)} {first[0].result['value']}")
            both = await ctx.wait(*kids)
            return [c.result["value"] for c in both]

        async def kid1(ctx):
            await ctx.wait_for_mail()
            return 1

        async def kid2(ctx):
            await ctx.wait_for_mail()
            return 2
        """,
    )
    shell.runner()
    agent = start(shell)
    until(lambda: shell.value("select count(*) from bough.waits") == 3, "all three wait")
    waits(shell, agent)
    kids = shell.json("show", agent)["children"]
    assert len(kids) == 2
    shell("send", agent, "are you done?")
    shell("send", kids[1], "go on")
    until(lambda: "any 1 2" in notes(shell), "one child has woken it")
    waits(shell, agent)
    assert notes(shell).count("start") == 2
    shell("send", kids[0], "go on")
    assert result(shell, agent) == {"value": [1, 2]}
    assert notes(shell).count("start") == 3


def test_mail_wakes_a_function_once_and_stays_until_it_is_acknowledged(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            note("start")
            await ctx.send("operator", "ready")
            [one] = await ctx.wait_for_mail()
            note(one.payload["text"])
            await ctx.reply(one, {"got": one.payload["text"]})
            [two] = await ctx.wait_for_mail(ack=True)
            note(two.payload["text"])
            left = [m.payload["text"] for m in await ctx.inbox()]
            await ctx.ack(one)
            return [left, await ctx.inbox()]
        """,
    )
    shell.runner()
    agent = start(shell)
    waits(shell, agent)
    shell("send", agent, "one")
    until(lambda: "one" in notes(shell), "the first wakes it")
    waits(shell, agent)
    [kept] = shell.json("inbox", agent)
    assert kept["payload"] == {"text": "one"}
    shell("send", agent, "two")
    assert result(shell, agent) == {"value": [["one"], []]}
    assert [n for n in notes(shell) if n != "start"] == ["one", "one", "two"]
    assert [m["payload"] for m in shell.json("inbox")] == [{"text": "ready"}, {"got": "one"}]


def test_mail_that_came_before_is_given_without_parking(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            await ctx.send(ctx.agent_id, {"n": 1}, priority="low")
            await ctx.broadcast("to nobody")
            return [m.payload for m in await ctx.wait_for_mail(ack=True)]
        """,
    )
    shell.runner()
    agent = start(shell)
    assert result(shell, agent) == {"value": [{"n": 1}]}
    assert shell.column("lease_epoch", agent) == 1


def test_a_sleep_has_no_process_and_counts_from_its_first_start(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            note("start")
            await ctx.sleep(1)
            await ctx.sleep(0)
            return "awake"
        """,
    )
    shell.runner()
    agent = start(shell)
    waits(shell, agent)
    assert result(shell, agent) == {"value": "awake"}
    assert notes(shell) == ["start", "start"]


def test_a_decision_wakes_a_function_and_is_its_answer(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            yes = await ctx.request_approval("drop it?")
            no = await ctx.request_approval("again?", expires_s=1)
            return [yes.approved, yes.answer, no.approved, no.answer]
        """,
    )
    shell.runner()
    agent = start(shell)
    waits(shell, agent)
    [asked] = shell.json("approvals")
    shell("approve", asked["id"], "--answer", "once")
    assert result(shell, agent) == {"value": [True, "once", False, None]}
    assert len(shell.json("approvals", "--all")) == 2


def test_tokens_wake_a_function_that_waits_for_them(shell: Shell) -> None:
    team(
        shell,
        """
        async def main(ctx):
            try:
                await ctx.reserve(5_000)
            except Exception as refused:
                note(type(refused).__name__)
            left = await ctx.wait_for_tokens(5_000)
            await ctx.reserve(5_000)
            return left
        """,
    )
    shell.runner()
    agent = start(shell, budget=1_000)
    waits(shell, agent)
    shell("budget", "grant", agent, "5k")
    assert result(shell, agent) == {"value": 6_000}
    assert notes(shell) == ["BudgetExceeded", "BudgetExceeded"]


def test_what_is_under_way_beside_a_wait_is_finished_before_the_process_ends(
    shell: Shell,
) -> None:
    team(
        shell,
        """
        async def main(ctx):
            file = (PLACE / "buffered").open("a")
            file.write("written")
            async def slow():
                note("slow begins")
                await gate()
                note("slow ends")
                return "slow"
            try:
                mail, slow = await asyncio.gather(ctx.wait_for_mail(), ctx.step("slow", slow))
            finally:
                note("unwound")
            return [len(mail), slow]
        """,
    )
    shell.runner()
    agent = start(shell)
    until(lambda: "slow begins" in notes(shell), "the step is under way")
    shell.beats()
    assert shell.column("status", agent) == "running"
    (shell.place / "go").touch()
    waits(shell, agent)
    assert notes(shell) == ["slow begins", "slow ends"]
    assert (shell.place / "buffered").read_text() == "written"
    shell("send", agent, "go on")
    assert result(shell, agent) == {"value": [1, "slow"]}
    assert notes(shell) == ["slow begins", "slow ends", "unwound"]
