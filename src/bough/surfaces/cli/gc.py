"""The verb gc: takes away worktrees that are no longer used; branches and commits stay."""

from pathlib import Path
from typing import Any

import click

from bough.client.embedded import default_home
from bough.client.errors import NotYours
from bough.client.paths import text_of
from bough.runner.collection import Collected, Item, Orders, collect, policy_for
from bough.runner.workspaces.git import open_repository
from bough.surfaces.cli import render
from bough.surfaces.cli.session import (
    Duration,
    Size,
    asynchronous,
    connected,
    inside,
    json_option,
)

_EXAMPLES = """
\b
Examples:
  bough gc --dry-run                 what would go, and how much it takes
  bough gc                           merged for a day, ended for 14 days
  bough gc --merged --branches       merged ones, with their branches
  bough gc --max-disk 10G            then the longest unused, until the rest fits

Only directories go: branches stay, and work that no branch has is kept under refs/bough/rescue.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--older-than", type=Duration(), help="Unused so long.  [14d; merged: 1d]")
@click.option("--merged", is_flag=True, help="Only worktrees whose work was merged.")
@click.option("--max-disk", type=Size(), help="Also the longest unused, until the rest fits.")
@click.option("--branches", is_flag=True, help="Also the branches, where all of one was merged.")
@click.option("--repo", metavar="DIR", type=click.Path(path_type=Path), help="Only this one.")
@json_option
@asynchronous
async def gc(
    dry_run: bool,
    older_than: int | None,
    merged: bool,
    max_disk: int | None,
    branches: bool,
    repo: Path | None,
    as_json: bool,
) -> None:
    """Remove the worktrees of agents that ended long ago, and what killed programs left."""
    if inside():
        raise NotYours("a program inside an agent removes no worktrees; ask the operator")
    orders = Orders(
        home=default_home(),
        policy=policy_for(older_than_s=older_than, only_merged=merged, quota_bytes=max_disk),
        repository=await open_repository(repo) if repo else None,
        branches=branches,
        dry_run=dry_run,
    )
    async with connected() as client:
        done = await collect(client, orders)
    if as_json:
        render.print_json(_json(done, dry_run=dry_run))
        return
    if done.items:
        header = ("AGENT", "WHAT", "STATE", "AGE", "SIZE", "OUTCOME", "REASON")
        render.print_table(header, [_row(i, dry_run=dry_run) for i in done.items], grow=6)
    gone = sum(item.removed for item in done.items)
    verb = "would remove" if dry_run else "removed"
    click.echo(
        f"{verb} {gone} {'directory' if gone == 1 else 'directories'}, "
        f"{render.size(done.freed_bytes)}; {done.kept} kept, {render.size(done.kept_bytes)}"
    )


def _row(item: Item, *, dry_run: bool) -> list[str]:
    removed = "would remove" if dry_run else "removed"
    whose = "" if item.agent_id else f"{text_of(item.path)}: "
    return [
        str(item.agent_id)[:8] if item.agent_id else "-",
        item.what,
        item.state or "-",
        "-" if item.age_s is None else render.duration(item.age_s),
        render.size(item.size_bytes),
        removed if item.removed else "kept",
        render.line_of(f"{whose}{item.reason}", width=400),
    ]


def _json(done: Collected, *, dry_run: bool) -> dict[str, Any]:
    items = [{name: getattr(item, name) for name in item.__slots__} for item in done.items]
    return {
        "dry_run": dry_run,
        "removed": [item for item in items if item["removed"]],
        "kept": [item for item in items if not item["removed"]],
        "freed_bytes": done.freed_bytes,
        "left": {"directories": done.kept, "bytes": done.kept_bytes},
    }
