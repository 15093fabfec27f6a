"""The verb db: migrate, rollback, status, verify, stop."""

import click

from bough import kernel
from bough.client import embedded
from bough.client.database import administer, external_address, forget_stamp
from bough.client.errors import BadConfiguration, ServerUnavailable, translated
from bough.surfaces.cli import render
from bough.surfaces.cli.session import Duration, asynchronous, connected, json_option


async def _bare_address() -> str:
    """The address without migrating first: these verbs are for when the schema is not right."""
    given = external_address(click.get_current_context().find_root().obj)
    if given:
        return given
    try:
        return (await embedded.start()).dsn
    except embedded.EmbeddedError as error:
        raise ServerUnavailable(str(error)) from error


@click.group(epilog="\b\nExamples:\n  bough db status\n  bough db migrate")
def db() -> None:
    """Set up and check the database: migrate, rollback, status, verify, stop."""


@db.command(epilog="\b\nExamples:\n  bough db migrate\n  bough --database URL db migrate")
@json_option
@asynchronous
async def migrate(as_json: bool) -> None:
    """Bring the schema to this program's version and make the functions anew."""
    async with administer(await _bare_address()) as conn:
        with translated():
            try:
                done = await kernel.migrate(conn)
            except kernel.MigrationError as error:
                raise BadConfiguration(str(error)) from error
    if as_json:
        render.print_json({"applied": done, "version": kernel.expected_version()})
    else:
        what = f"applied {', '.join(f'{v:03}' for v in done)}" if done else "nothing was pending"
        click.echo(f"{what}; the schema is at version {kernel.expected_version()}")


@db.command(epilog="\b\nExamples:\n  bough db rollback --to 2")
@click.option("--to", required=True, type=click.IntRange(0), help="Version to go back to; 0: none.")
@click.option("--yes", is_flag=True, help="Do not ask; the data of what goes is lost.")
@json_option
@asynchronous
async def rollback(to: int, yes: bool, as_json: bool) -> None:
    """Take migrations back; what they held is lost."""
    async with administer(await _bare_address()) as conn:
        if not yes:
            click.confirm(f"Go back to version {to}? What newer versions hold is lost", abort=True)
        with translated():
            try:
                done = await kernel.rollback(conn, to=to)
            except kernel.MigrationError as error:
                raise BadConfiguration(str(error)) from error
    if not external_address(click.get_current_context().find_root().obj):
        forget_stamp()
    if as_json:
        render.print_json({"undone": done, "version": to})
    else:
        click.echo(
            f"took back {', '.join(f'{v:03}' for v in done) or 'nothing'}; "
            "bring it up again: bough db migrate"
        )


@db.command(epilog="\b\nExamples:\n  bough db status || bough db migrate")
@json_option
@asynchronous
async def status(as_json: bool) -> int:
    """Show which migrations are applied, pending or changed; exit code 1 when one is not."""
    async with administer(await _bare_address()) as conn:
        with translated():
            rows = await kernel.status(conn)
    if as_json:
        render.print_json(
            [
                {"version": r.version, "name": r.name, "state": r.state, "applied_at": r.applied_at}
                for r in rows
            ]
        )
    else:
        render.print_table(
            ("VERSION", "NAME", "STATE", "APPLIED"),
            [
                [
                    f"{r.version:03}",
                    r.name,
                    r.state,
                    f"{r.applied_at:%Y-%m-%d %H:%M}" if r.applied_at else "-",
                ]
                for r in rows
            ],
            grow=1,
        )
    return 0 if all(r.state == "applied" for r in rows) else 1


@db.command(epilog="\b\nExamples:\n  bough db verify\n  bough db verify --json")
@json_option
@asynchronous
async def verify(as_json: bool) -> int:
    """Prove that budgets and trees are sound; exit code 1 and the rows when they are not."""
    async with administer(await _bare_address()) as conn:
        with translated():
            broken = await kernel.verify(conn)
    if as_json:
        render.print_json(
            [{"rule": b.rule, "agent_id": b.agent_id, "detail": b.detail} for b in broken]
        )
    elif broken:
        for row in broken:
            click.echo(f"{row.agent_id[:8]}: {row.rule}: {row.detail}")
    else:
        click.echo("sound: every budget adds up and every tree is whole")
    return 1 if broken else 0


@db.command(epilog="\b\nExamples:\n  bough db purge\n  bough db purge --older-than 1d")
@click.option("--older-than", type=Duration(), default=30 * 86400, help="[30d]")
@json_option
@asynchronous
async def purge(older_than: int, as_json: bool) -> None:
    """Delete old mail that is done with: acknowledged, dead, or of agents that have ended."""
    gone = 0
    async with connected() as client:
        while found := await client.purge_mail(older_than_s=older_than):
            gone += found
    render.print_json({"purged": gone}) if as_json else click.echo(f"{gone:,} messages deleted")


@db.command(epilog="\b\nExamples:\n  bough db stop")
@json_option
@asynchronous
async def stop(as_json: bool) -> None:
    """Stop the embedded server; the next command starts it again."""
    try:
        stopped = await embedded.stop()
    except embedded.EmbeddedError as error:
        raise ServerUnavailable(str(error)) from error
    if as_json:
        render.print_json({"stopped": stopped})
    else:
        click.echo("stopped" if stopped else "the embedded server was not running")
