"""The verb budget: where an agent's tokens are, every movement, who spent what; and changes."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import click

from bough.client.budget_rows import Account, Movement, Spending
from bough.client.rows import Agent
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    Tokens,
    asynchronous,
    connected,
    id_argument,
    json_option,
    named,
)

_EXAMPLES = """
\b
Examples:
  bough budget a7f2                     where the tokens of an agent are
  bough budget a7f2 --ledger            every movement, with the balance after it
  bough budget stats a7f2 --by model    who spent what below an agent
  bough budget grant a7f2 50k           top up: a child's from its parent
  bough budget transfer a7f2 b31c 10k   between an agent and its parent or siblings
  bough budget freeze a7f2              nothing new is spent by it or below it
"""


class _ShowOrChange(click.Group):
    """A group whose first word may also be an id: `bough budget ID` is `bough budget show ID`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take what is no verb for an id."""
        if args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let options of `show` stand before the id."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ShowOrChange, epilog=_EXAMPLES, subcommand_metavar="ID | COMMAND …")
def budget() -> None:
    """Show and change where the tokens are."""


def dollars(cost: Decimal, unpriced_tokens: int) -> str:
    """A cost for people; says when part of it is not known."""
    if unpriced_tokens and not cost:
        return "cost unknown"
    known = f"${cost:.4f}" if cost < 1 else f"${cost:,.2f}"
    return known + (f" and {render.tokens(unpriced_tokens)} unpriced" if unpriced_tokens else "")


@budget.command(epilog="\b\nExamples:\n  bough budget a7f2 --ledger\n  bough budget a7f2 --json")
@id_argument()
@click.option("--ledger", is_flag=True, help="Every movement, with the balance after it.")
@click.option("--limit", "-n", default=1000, show_default=True, type=click.IntRange(1))
@json_option
@asynchronous
async def show(agent_id: str, ledger: bool, limit: int, as_json: bool) -> None:
    """Show one agent's account, or all its movements."""
    async with connected() as client:
        agent = await named(client, agent_id)
        account = await client.account(agent.id)
        movements = await client.ledger(agent.id, page=limit) if ledger else []
        children = [] if ledger else [await client.show(child) for child in agent.children]
    if as_json:
        told = _json(account)
        rows = [{"id": c.id, "status": c.status} | render.agent_json(c)["budget"] for c in children]
        more = {"ledger": [_json(m) for m in movements]} if ledger else {"children": rows}
        render.print_json(told | more)
    elif ledger:
        _print_ledger(movements)
    else:
        _print_account(account, children)


def _json(row: Account | Movement | Spending) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}


def _print_account(account: Account, children: Sequence[Agent]) -> None:
    t = render.tokens
    left = "handed back" if account.reclaimed_at else "available"
    cost = dollars(account.cost_usd, account.unpriced_tokens)
    calls = f"{t(account.open_tokens)} for {account.open_calls} open calls"
    kept = f" ({t(account.kept)} kept from children)" if account.kept else ""
    facts = [
        ("allocated", t(account.allocated)),
        ("used", f"{t(account.used)}, subtree {t(account.subtree_used)}"),
        (
            "reserved",
            f"{t(account.reserved)}: {t(account.children_reserved)} for children, {calls}",
        ),
        (left, t(account.available) + kept),
        ("overdraft", t(account.overdraft) if account.overdraft else ""),
        ("frozen", f"{account.frozen_reason}, {render.since(account.frozen_at)}")
        if account.frozen_at
        else ("", ""),
        (
            "calls",
            f"{account.subtree_calls:,}, {cost}",
        )
        if account.subtree_calls
        else ("", ""),
        ("rate", f"{t(account.tokens_per_minute)} tokens a minute over the last five")
        if account.tokens_per_minute
        else ("", ""),
    ]
    for label, text in facts:
        if text:
            click.echo(f"{click.style(label.ljust(11), dim=True)} {render.line_of(text)}")
    if children:
        click.echo()
        render.print_table(
            ("CHILD", "STATE", "ALLOCATED", "USED", "TASK"),
            [
                [
                    str(c.id)[:8],
                    render.state(c),
                    t(c.allocated),
                    t(c.subtree_used),
                    render.line_of(c.task),
                ]
                for c in children
            ],
            grow=4,
        )


def _print_ledger(movements: Sequence[Movement]) -> None:
    rows = [
        [
            m.at.astimezone().strftime("%m-%d %H:%M:%S"),
            m.kind,
            f"{m.change:+,}",
            f"{m.balance:,}",
            str(m.other_id)[:8] if m.other_id else "",
            f"${m.cost_usd:.4f}" if m.cost_usd is not None else "",
            render.line_of(m.operation or ""),
        ]
        for m in movements
    ]
    render.print_table(
        ("AT", "WHAT", "CHANGE", "BALANCE", "AGENT", "COST", "OPERATION"), rows, grow=6
    )


@budget.command(
    epilog="\b\nExamples:\n  bough stats\n  bough stats a7f2 --by subtree     each agent with all "
    "below it\n  bough budget stats a7f2 --by model"
)
@id_argument(required=False)
@click.option(
    "--by",
    default="role",
    show_default=True,
    type=click.Choice(["role", "depth", "model", "operation", "agent", "subtree"]),
)
@json_option
@asynchronous
async def stats(agent_id: str | None, by: str, as_json: bool) -> None:
    """Tell who spent and changed what, the most first; without an ID, everywhere."""
    async with connected() as client:
        found = await client.find(agent_id) if agent_id else None
        spending = await client.statistics(found, by=by)
    if as_json:
        render.print_json([_json(s) for s in spending])
        return
    t = render.tokens
    rows = [
        [
            str(s.what)[:8] if by in ("agent", "subtree") else render.line_of(s.what),
            f"{s.calls:,}",
            t(s.tokens),
            t(s.input_tokens),
            t(s.output_tokens),
            t(s.cache_read_tokens),
            t(s.cache_write_tokens),
            *_work(s),
            dollars(s.cost_usd, s.unpriced_tokens),
        ]
        for s in spending
    ]
    if rows:
        header = ("CALLS", "TOKENS", "INPUT", "OUTPUT", "CACHE READ", "WRITTEN", *_WORK, "COST")
        render.print_table((by.upper(), *header), rows, grow=0)
    else:
        render.hint("nothing has been spent")


_WORK = ("FILES", "LINES", "DISK")


def _work(s: Spending) -> list[str]:
    if s.files_changed is None:
        return ["-", "-", "-"]
    lines = f"+{s.lines_added} -{s.lines_removed}"
    return [f"{s.files_changed:,}", lines, render.size(s.disk_bytes or 0)]


@budget.command(epilog="\b\nExamples:\n  bough budget grant a7f2 50k")
@id_argument()
@click.argument("tokens", type=Tokens())
@json_option
@asynchronous
async def grant(agent_id: str, tokens: int, as_json: bool) -> None:
    """Top an agent up: a child from its parent's available tokens, a root from nothing."""
    async with connected() as client:
        done = await client.grant_budget(await client.find(agent_id), tokens)
    if as_json:
        render.print_json({"id": done.id, "allocated": done.allocated, "available": done.available})
        return
    payer = f" from {str(done.payer_id)[:8]}" if done.payer_id else ""
    click.echo(
        f"{str(done.id)[:8]} got {render.tokens(tokens)}{payer}: "
        f"{render.tokens(done.available)} available of {render.tokens(done.allocated)}"
    )


@budget.command(epilog="\b\nExamples:\n  bough budget transfer a7f2 b31c 10k")
@id_argument("giver")
@id_argument("taker")
@click.argument("tokens", type=Tokens())
@json_option
@asynchronous
async def transfer(giver: str, taker: str, tokens: int, as_json: bool) -> None:
    """Move available tokens between an agent and its parent or a sibling."""
    async with connected() as client:
        one, two = await client.find(giver), await client.find(taker)
        moved = await client.transfer_budget(one, two, tokens)
    if as_json:
        render.print_json(
            [{"id": m.id, "allocated": m.allocated, "available": m.available} for m in moved]
        )
        return
    for account in moved:
        click.echo(
            f"{str(account.id)[:8]}: {render.tokens(account.available)} available "
            f"of {render.tokens(account.allocated)}"
        )


@budget.command(epilog="\b\nExamples:\n  bough budget freeze a7f2 --reason 'over the weekend'")
@id_argument()
@click.option("--reason", default="frozen by the operator", show_default=True)
@json_option
@asynchronous
async def freeze(agent_id: str, reason: str, as_json: bool) -> None:
    """Let an agent and all below it spend nothing new; calls in flight are settled."""
    async with connected() as client:
        found = await client.find(agent_id)
        changed = await client.freeze_budget(found, reason=reason)
    _tell("frozen", found, [c.id for c in changed], as_json=as_json)


@budget.command(epilog="\b\nExamples:\n  bough budget unfreeze a7f2")
@id_argument()
@json_option
@asynchronous
async def unfreeze(agent_id: str, as_json: bool) -> None:
    """Let an agent and all below it spend again."""
    async with connected() as client:
        found = await client.find(agent_id)
        changed = await client.unfreeze_budget(found)
    _tell("unfrozen", found, [c.id for c in changed], as_json=as_json)


def _tell(verb: str, agent_id: UUID, changed: Sequence[UUID], *, as_json: bool) -> None:
    if as_json:
        render.print_json({"changed": list(changed)})
    elif changed:
        accounts = "account" if len(changed) == 1 else "accounts"
        click.echo(f"{verb} {len(changed)} {accounts} at and below {str(agent_id)[:8]}")
    else:
        click.echo(f"nothing to do: {str(agent_id)[:8]} was {verb} before")
