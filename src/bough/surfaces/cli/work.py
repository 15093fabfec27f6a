"""The verb that shows the work of agents: diff."""

import sys

import click

from bough.runner.lineage import workspace_of
from bough.runner.workspaces import changes
from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, connected, id_argument, json_option, named


@click.command(epilog="\b\nExamples:\n  bough diff a7f2\n  bough diff --stat a7f2")
@id_argument()
@click.option("--stat", is_flag=True, help="Files and numbers of lines only.")
@json_option
@asynchronous
async def diff(agent_id: str, stat: bool, as_json: bool) -> None:
    """Show what an agent changed, with new files and what is not committed yet."""
    async with connected() as client:
        agent = await named(client, agent_id)
    workspace, tip = workspace_of(agent), agent.head_commit
    if as_json:
        found = await changes.changes(workspace, tip=tip)
        keys = ("path", "kind", "lines_added", "lines_removed", "old_path")
        render.print_json([{key: getattr(c, key) for key in keys} for c in found])
        return
    terminal = sys.stdout.isatty()
    colour = terminal and click.get_current_context().color is not False
    text = await changes.diff(workspace, stat=stat, colour=colour, tip=tip)
    if terminal:
        text = render.harmless(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        click.echo_via_pager(text) if text.count("\n") > 40 else click.echo(text, nl=False)
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
