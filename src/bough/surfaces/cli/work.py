"""Verbs for the work of agents: diff and merge."""

import sys
from pathlib import Path

import click

from bough.client.errors import IllegalTransition, NoWorkspace
from bough.client.rows import Agent
from bough.client.runner_calls import RunnerClient
from bough.runner import changes
from bough.runner.git import git, open_repository
from bough.runner.merge import MergeConflict, Merged
from bough.runner.merge import merge as merge_branch
from bough.runner.worktree import Workspace
from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, connected, id_argument, json_option, named


def _workspace(agent: Agent) -> Workspace:
    if not (agent.worktree_path and agent.branch_name and agent.base_commit and agent.repo_path):
        why = f" ({agent.error_message})" if agent.error_message else ""
        raise NoWorkspace(f"agent {str(agent.id)[:8]} has no worktree{why or ' yet'}")
    return Workspace(
        Path(agent.worktree_path), agent.branch_name, agent.base_commit, Path(agent.repo_path)
    )


@click.command(epilog="\b\nExamples:\n  bough diff a7f2\n  bough diff --stat a7f2")
@id_argument()
@click.option("--stat", is_flag=True, help="Files and numbers of lines only.")
@json_option
@asynchronous
async def diff(agent_id: str, stat: bool, as_json: bool) -> None:
    """Show what an agent changed, with new files and what is not committed yet."""
    async with connected() as client:
        workspace = _workspace(await named(client, agent_id))
    if as_json:
        found = await changes.changes(workspace)
        keys = ("path", "kind", "lines_added", "lines_removed", "old_path")
        render.print_json([{key: getattr(c, key) for key in keys} for c in found])
        return
    terminal = sys.stdout.isatty()
    colour = terminal and click.get_current_context().color is not False
    if workspace.path.is_dir():
        text = await changes.diff(workspace, stat=stat, colour=colour)
    else:
        options = [f"--color={'always' if colour else 'never'}", *(["--stat"] if stat else [])]
        text = await git(workspace.repo, "diff", *options, workspace.base_commit, workspace.branch)
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
        merged = await _merge(client, agent, into, dry_run=dry_run)
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


async def _merge(client: RunnerClient, agent: Agent, into: str | None, *, dry_run: bool) -> Merged:
    short = str(agent.id)[:8]
    workspace = _workspace(agent)
    if not agent.has_ended:
        raise IllegalTransition(
            f"agent {short} is still {agent.status}; wait for it (bough wait {short}) or end it"
        )
    target = into or agent.target_branch
    if target is None:
        raise NoWorkspace(f"agent {short} started from no branch; say where to: --into BRANCH")
    if agent.head_commit is None:
        raise NoWorkspace(f"the work of agent {short} is not committed yet; try again in a moment")
    repository = await open_repository(workspace.repo)
    try:
        merged = await merge_branch(
            repository,
            source=workspace.branch,
            target=target,
            message=f"Merge {workspace.branch}\n\n{agent.task.strip()}\n\nAgent: {agent.id}",
            author_name="bough",
            author_email=f"{short}@bough.invalid",
            dry_run=dry_run,
        )
    except MergeConflict as conflict:
        if not dry_run:
            await client.record_merge(
                agent.id,
                head_commit=agent.head_commit,
                into=target,
                commit=None,
                conflicts=conflict.paths,
            )
        raise
    # Merging again must not make a later commit of the target the one that took the work.
    known = merged.already_contained and agent.isolation_status == "merged"
    if not dry_run and not known:
        await client.record_merge(
            agent.id,
            head_commit=agent.head_commit,
            into=target,
            commit=merged.commit,
            conflicts=[],
        )
    return merged
