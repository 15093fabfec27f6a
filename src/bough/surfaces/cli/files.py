"""The verb files: which agents changed which files."""

from pathlib import Path
from typing import Any

import click

from bough.client.paths import path_of, text_of
from bough.client.work_rows import ChangedFile
from bough.runner.workspaces.git import open_repository
from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, connected, id_argument, json_option

_EXAMPLES = """
\b
Examples:
  bough files a7f2                    what an agent and all below it changed
  bough files --path src/parser.py    who changed a file, the newest first
  bough files --path 'src/*.py'       * is any text, ? one character; a directory is all in it
"""


@click.command(epilog=_EXAMPLES)
@id_argument(required=False)
@click.option("--path", metavar="GLOB", help="Only these, counted from the repository's root.")
@click.option("--repo", metavar="DIR", type=click.Path(path_type=Path), help="Only this one.")
@click.option("--limit", "-n", default=1000, show_default=True, type=click.IntRange(1))
@json_option
@asynchronous
async def files(
    agent_id: str | None, path: str | None, repo: Path | None, limit: int, as_json: bool
) -> None:
    """Tell which agents changed which files, the newest first."""
    root = str((await open_repository(repo)).root) if repo else None
    glob = text_of(path.removeprefix("./")) if path else None
    async with connected() as client:
        found = await client.files(
            await client.find(agent_id) if agent_id else None,
            glob=glob,
            repo_path=root,
            page=limit,
        )
    if as_json:
        render.print_json([_json(f) for f in found])
    elif found:
        header = ("AGENT", "STATE", "WORK", "KIND", "LINES", "AGE", "PATH")
        render.print_table(header, [_row(f) for f in found], grow=6)
    else:
        render.hint("nothing changed there; work is told when an agent ends or parks")


def _json(f: ChangedFile) -> dict[str, Any]:
    old = None if f.old_path is None else path_of(f.old_path)
    row = {name: getattr(f, name) for name in f.__slots__}
    return row | {"path": path_of(f.path), "old_path": old}


def _row(f: ChangedFile) -> list[str]:
    lines = "binary" if f.lines_added is None else f"+{f.lines_added} -{f.lines_removed}"
    came = "" if f.old_path is None else f"{f.old_path} => "
    return [
        str(f.id)[:8],
        f.status,
        f"merged into {f.merged_into}" if f.merged_commit else f.isolation_status,
        f.kind,
        lines,
        render.since(f.saved_at),
        came + f.path,
    ]
