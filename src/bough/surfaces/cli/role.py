"""The verb role: which roles there are, and what one of them says."""

from dataclasses import fields
from pathlib import Path

import click

from bough.client.errors import AgentNotFound
from bough.client.rows import Json
from bough.client.tools import granted
from bough.runner.roles.library import Library, library
from bough.runner.roles.role import Role
from bough.runner.workspaces.git import NoCommit, NoRepositoryHere, open_repository
from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, connected, inside, json_option

_repo = click.option(
    "--repo",
    type=click.Path(path_type=Path),
    default=".",
    help="The git repository.  [the current one]",
)


@click.group(
    epilog="\b\nExamples:\n  bough role list\n  bough role show reviewer\n\n"
    "Roles are Markdown files with YAML front matter, committed in .bough/roles, .claude/agents, "
    ".agents/agents or .opencode/agent, in the same places of your home, and built in."
)
def role() -> None:
    """Show the roles that agents can have."""


async def _library(repo: Path) -> Library:
    """The roles as a spawn from here finds them."""
    me = inside()
    if me:
        async with connected() as client:
            agent = await client.show(me)
        root = Path(agent.repo_path) if agent.repo_path else None
        return await library(root, agent.base_commit)
    try:
        found = await open_repository(repo.absolute())
    except (NoRepositoryHere, NoCommit):
        return await library(None, None)
    return await library(found.root, found.head)


def _warn(found: Library) -> None:
    for warning in found.warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)


@role.command("list", epilog="\b\nExamples:\n  bough role list\n  bough role list --json")
@_repo
@json_option
@asynchronous
async def list_(repo: Path, as_json: bool) -> None:
    """List the roles that spawn --role finds here, and where each is from."""
    found = await _library(repo)
    roles = list(found.roles.values())
    _warn(found)
    if as_json:
        render.print_json([role_json(r) for r in roles])
        return
    rows = [
        [r.name, "broken" if r.broken else r.source, _usual(r), render.line_of(r.description)]
        for r in roles
    ]
    render.print_table(("ROLE", "FROM", "USUALLY", "WHAT IT DOES"), rows, grow=3)


@role.command(epilog="\b\nExamples:\n  bough role show reviewer\n  bough role show reviewer --json")
@click.argument("name")
@_repo
@json_option
@asynchronous
async def show(name: str, repo: Path, as_json: bool) -> None:
    """Show one role whole: what it usually gets, and its prompt."""
    found = await _library(repo)
    one = found.roles.get(name)
    if one is None:
        _warn(found)
        raise AgentNotFound(
            f"there is no role '{name}'; there is: {', '.join(sorted(found.roles))}"
        )
    if as_json:
        render.print_json(role_json(one) | {"prompt": one.prompt})
        return
    facts = {
        "role": f"{one.name}, {one.source}",
        "does": render.harmless(one.description),
        "usually": _usual(one),
        "tools": " ".join(granted(one.allow, one.deny, None) or ["all"]),
        "gates": "; ".join(one.gates),
        "hides": ", ".join(r.source for r in found.hidden if r.name == name),
        "broken": one.broken or "",
    }
    for label, text in facts.items():
        if text:
            click.echo(f"{click.style(label.ljust(8), dim=True)} {text}")
    click.echo(f"\n{render.harmless(one.prompt)}")
    for warning in one.warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)


def _usual(one: Role) -> str:
    """What an agent with this role gets unless told otherwise."""
    parts = [f"budget {render.tokens(one.budget)}"] if one.budget else []
    parts += [f"driver {one.driver}"] if one.driver else []
    parts += [f"model {one.model}"] if one.model else []
    parts += [f"timeout {render.duration(one.timeout_s)}"] if one.timeout_s else []
    for name in ("max_depth", "max_children", "max_running"):
        if getattr(one, name) is not None:
            parts.append(f"{name.replace('_', ' ')} {getattr(one, name)}")
    return ", ".join(parts)


def role_json(one: Role) -> Json:
    """A role as `role list --json` gives it, without its prompt."""
    left = {"prompt", "allow", "deny"}
    found = {f.name: getattr(one, f.name) for f in fields(Role) if f.name not in left}
    return found | {"tools": granted(one.allow, one.deny, None)}
