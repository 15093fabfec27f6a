"""Verbs for the work of agents: diff and merge."""

import sys

import click

from bough.runner.lineage import merge_agent, workspace_of
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


@click.command(
    epilog="\b\nExamples:\n  bough merge a7f2                   into the branch it came from\n"
    "  bough merge a7f2 --into release --dry-run\n\n"
    "A conflict changes nothing and exits with 5."
)
@id_argument()
@click.option("--into", metavar="BRANCH", help="The branch that takes it.")
@click.option("--dry-run", is_flag=True, help="Only say whether it would work.")
@json_option
@asynchronous
async def merge(agent_id: str, into: str | None, dry_run: bool, as_json: bool) -> None:
    """Merge an agent's work into the branch it came from, or another."""
    async with connected() as client:
        agent = await named(client, agent_id)
        merged = await merge_agent(client, agent, into, dry_run=dry_run)
    if as_json:
        render.print_json(
            {
                "id": agent.id,
                "into": merged.target,
                "commit": merged.commit,
                "previous": merged.previous,
                "dry_run": dry_run,
            }
        )
    elif merged.already_contained:
        click.echo(f"{merged.target} has it already")
    else:
        verb = "would merge" if dry_run else "merged"
        what = f"{render.changed(agent)}" if agent.files_changed is not None else "its work"
        click.echo(
            f"{verb} {str(agent.id)[:8]} ({what}) into {merged.target} as {merged.commit[:10]}"
        )
