"""Verbs for talking: send, reply, inbox, ack; and for deciding: approvals, approve, reject."""

import json
from typing import Any
from uuid import UUID, uuid4

import click

from bough.client.errors import AmbiguousId, InvalidInput, MessageNotFound
from bough.client.hints import OPERATOR_CHANNEL, mail_channel
from bough.client.mail import OPERATOR
from bough.client.mail_rows import Approval, Mail
from bough.client.rows import Json
from bough.client.runner_calls import RunnerClient
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    Duration,
    asynchronous,
    attached,
    connected,
    id_argument,
    inside,
    json_option,
)

_PRIORITIES = click.Choice(["critical", "high", "normal", "low"])


async def address(client: RunnerClient, typed: str) -> UUID:
    """Whom an address means: an id, whole or its first digits; inside an agent also parent, root,
    operator."""
    try:
        return UUID(typed)
    except ValueError:
        return await client.find(typed)


def payload_of(text: str | None, as_json: str | None) -> Json:
    """What is sent: a text, or a JSON object."""
    if (text is None) == (as_json is None):
        raise InvalidInput("give a text or --json-payload OBJECT, one of them")
    if as_json is None:
        return {"text": text}
    try:
        found: Any = json.loads(as_json)
    except ValueError as error:
        raise InvalidInput(f"the payload is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput('the payload is a JSON object, like {"n": 1}')
    return found  # pyright: ignore[reportUnknownVariableType]


def one_of(typed: str, known: list[UUID], what: str) -> UUID:
    """The one id that begins so. Raises MessageNotFound, AmbiguousId."""
    prefix = typed.replace("-", "").lower()
    found = [i for i in known if prefix and i.hex.startswith(prefix)]
    if not found:
        raise MessageNotFound(f"no {what} {typed[:40]} here")
    if len(found) > 1:
        raise AmbiguousId(f"'{typed}' is ambiguous; give more digits")
    return found[0]


@click.command(
    epilog='\b\nExamples:\n  bough send a7f2 "use the new parser"\n'
    "  bough send a7f2 --json-payload '{\"files\": 3}' --priority high\n"
    '  bough send parent "half done"            inside an agent; also root, operator'
)
@click.argument("recipient", metavar="ID")
@click.argument("text", required=False)
@click.option("--json-payload", metavar="OBJECT", help="A JSON object instead of a text.")
@click.option("--priority", type=_PRIORITIES, default="normal", show_default=True)
@click.option("--type", "kind", default="message", show_default=True)
@click.option("--reply-within", type=Duration(), help="Be told when nobody has replied by then.")
@click.option("--below", is_flag=True, help="To everybody alive below ID instead.")
@json_option
@asynchronous
async def send(
    recipient: str,
    text: str | None,
    json_payload: str | None,
    priority: str,
    kind: str,
    reply_within: int | None,
    below: bool,
    as_json: bool,
) -> None:
    """Put a message into an agent's mailbox; prints its id."""
    payload = payload_of(text, json_payload)
    async with connected() as client:
        to = await address(client, recipient)
        if below:
            sent = await client.broadcast(
                sender_id=inside(), ancestor_id=to, payload=payload, type=kind, priority=priority
            )
            found: Any = [{"recipient_id": s.recipient_id, "seq": s.seq} for s in sent]
            line = f"sent to {len(sent)} agents"
        else:
            key = uuid4()
            one = await client.send(
                key,
                sender_id=inside(),
                recipient_id=to,
                payload=payload,
                type=kind,
                priority=priority,
                reply_within_s=reply_within,
            )
            found, line = {"id": key, "seq": one.seq, "recipient_id": _name(to)}, str(key)
    render.print_json(found) if as_json else click.echo(line)


def _name(agent_id: UUID | None) -> str | None:
    return "operator" if agent_id == OPERATOR else None if agent_id is None else str(agent_id)


@click.command(epilog='\b\nExamples:\n  bough reply 3c41 "yes, go on"')
@click.argument("message", metavar="MESSAGE")
@click.argument("text", required=False)
@click.option("--json-payload", metavar="OBJECT", help="A JSON object instead of a text.")
@json_option
@asynchronous
async def reply(message: str, text: str | None, json_payload: str | None, as_json: bool) -> None:
    """Answer a message in your inbox, and acknowledge it."""
    payload = payload_of(text, json_payload)
    async with connected() as client:
        to = one_of(message, [m.id for m in await client.inbox(inside())], "message")
        key = uuid4()
        await client.send(key, sender_id=inside(), recipient_id=None, payload=payload, reply_to=to)
        await _acknowledge(client, [to])
    render.print_json({"id": key, "reply_to": to}) if as_json else click.echo(str(key))


def mail_json(mail: Mail) -> Json:
    """A message as `inbox --json` gives it."""
    same = "id seq root_id type priority status thread_id reply_to reply_by payload created_at"
    return {name: getattr(mail, name) for name in same.split()} | {
        "sender_id": mail.sender_id,
        "recipient_id": _name(mail.recipient_id),
    }


@click.command(
    epilog="\b\nExamples:\n  bough inbox               what agents wrote to you\n"
    "  bough inbox a7f2          what agent a7f2 has not read yet\n"
    "  bough inbox --wait 10m    inside an agent: until there is mail"
)
@id_argument(required=False)
@click.option("--wait", "wait_s", type=Duration(), help="Wait so long for mail if there is none.")
@json_option
@asynchronous
async def inbox(agent_id: str | None, wait_s: int | None, as_json: bool) -> int:
    """List mail that is not acknowledged, first to last."""
    async with attached() as (client, listen):
        whose = await client.find(agent_id) if agent_id else inside()
        mail = await client.inbox(whose)
        channel = mail_channel(whose) if whose else OPERATOR_CHANNEL
        if not mail and wait_s:
            async with listen(channel) as hints:
                mail = await _until_mail(client, hints, whose, wait_s)
    if as_json:
        render.print_json([mail_json(m) for m in mail])
    elif mail:
        render.print_table(
            ("ID", "FROM", "TYPE", "AGE", "TEXT"),
            [
                [
                    str(m.id)[:8],
                    str(m.sender_id)[:8] if m.sender_id else "-",
                    m.type if m.priority == "normal" else f"{m.type} ({m.priority})",
                    render.since(m.created_at),
                    render.line_of(str(m.payload.get("text") or json.dumps(m.payload))),
                ]
                for m in mail
            ],
            grow=4,
        )
    else:
        render.hint("no mail")
    return 8 if wait_s and not mail else 0


async def _until_mail(
    client: RunnerClient, hints: Any, whose: UUID | None, wait_s: int
) -> list[Mail]:
    import time

    end = time.monotonic() + wait_s
    while not (mail := await client.inbox(whose)) and (left := end - time.monotonic()) > 0:
        await hints.wait(min(left, 5.0))
    return mail


@click.command(
    epilog="\b\nExamples:\n  bough ack 3c41 77ab\n  bough ack --all     all that inbox lists"
)
@click.argument("messages", metavar="MESSAGE…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that inbox lists now.")
@json_option
@asynchronous
async def ack(messages: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Be done with messages in your inbox: they do not come again."""
    if bool(messages) == everything:
        raise InvalidInput("say which messages, or --all")
    async with connected() as client:
        known = [m.id for m in await client.inbox(inside())]
        done = known if everything else [one_of(m, known, "message") for m in messages]
        if done:
            await _acknowledge(client, done)
    render.print_json({"acknowledged": done}) if as_json else None


async def _acknowledge(client: RunnerClient, done: list[UUID]) -> None:
    me = inside()
    if me:
        # The runner knows the lease.
        await client.acknowledge(me, epoch=0, message_ids=done)
    else:
        await client.acknowledge_as_operator(done)


def approval_json(approval: Approval) -> Json:
    """An approval as JSON."""
    return {name: getattr(approval, name) for name in approval.__slots__}


@click.command(
    epilog="\b\nExamples:\n  bough approvals\n  bough approvals --all --json | jq '.[].status'"
)
@click.option("--all", "-a", "everything", is_flag=True, help="Also what has been decided.")
@json_option
@asynchronous
async def approvals(everything: bool, as_json: bool) -> None:
    """List what agents ask you to allow, soonest to expire first."""
    async with connected() as client:
        found = await client.approvals(pending=not everything)
    if as_json:
        render.print_json([approval_json(a) for a in found])
    elif found:
        rows = [
            [
                str(a.id)[:8],
                str(a.agent_id)[:8],
                a.status + (f" by {a.decided_by}" if a.decided_by else ""),
                render.since(a.created_at),
                f"{a.on_expiry} in {render.until(a.expires_at)}" if a.status == "pending" else "",
                render.line_of(a.question),
            ]
            for a in found
        ]
        render.print_table(("ID", "AGENT", "STATE", "AGE", "ELSE", "QUESTION"), rows, grow=5)
    else:
        render.hint("nothing waits for you")


async def _decide(typed: str, answer: str | None, *, approve: bool, as_json: bool) -> None:
    async with connected() as client:
        known = [a.id for a in await client.approvals(pending=False)]
        found = one_of(typed, known, "approval")
        done = await client.decide(found, approve=approve, answer=answer)
    if as_json:
        render.print_json({"id": done.id, "agent_id": done.agent_id, "status": done.status})
    else:
        click.echo(f"{done.status} {str(done.id)[:8]} of agent {str(done.agent_id)[:8]}")


@click.command(epilog="\b\nExamples:\n  bough approve 91c0\n  bough approve 91c0 --answer 'once'")
@click.argument("approval", metavar="ID")
@click.option("--answer", help="A text for the agent.")
@json_option
@asynchronous
async def approve(approval: str, answer: str | None, as_json: bool) -> None:
    """Allow what an agent asked."""
    await _decide(approval, answer, approve=True, as_json=as_json)


@click.command(epilog="\b\nExamples:\n  bough reject 91c0 --answer 'too risky'")
@click.argument("approval", metavar="ID")
@click.option("--answer", help="A text for the agent.")
@json_option
@asynchronous
async def reject(approval: str, answer: str | None, as_json: bool) -> None:
    """Refuse what an agent asked."""
    await _decide(approval, answer, approve=False, as_json=as_json)
