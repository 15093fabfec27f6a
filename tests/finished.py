"""Agents that have ended and left work on a branch, without the time that a program takes."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cli import Shell

from bough.runner.workspaces.git import Repo
from bough.runner.workspaces.target import lock_of


def finished(
    shell: Shell, files: dict[str, str], *, parent: str | None = None, base: str = "main"
) -> str:
    """An agent that has completed with these files written on its branch; its id."""
    agent = shell.plant(task=f"write {' '.join(files)}"[:200], parent=parent)
    branch = f"bough/{agent[:8]}/work"
    tree = shell.place / f"tree-{agent[:8]}"
    shell.git("worktree", "add", "-q", "--no-checkout", "-b", branch, str(tree), base)
    shell.git("reset", "-q", "--hard", at=tree)
    for name, text in files.items():
        (tree / name).write_text(text)
    shell.git("add", "-A", at=tree)
    shell.git("commit", "-q", "-m", f"work of {agent[:8]}", at=tree)
    head = shell.git("rev-parse", branch)
    shell.value(
        "with r as (insert into bough.runners (id, host, pid, boot_id, process_start, slots,"
        " lease_s, expires_at) values (gen_random_uuid(), 'h', 1, 'b', '1', 1, 15, now())"
        " returning id) update bough.agents a set status = 'running', runner_id = r.id from r"
        " where a.id = %s returning 1",
        agent,
    )
    shell.value(
        "update bough.workspaces set isolation_status = 'saved', worktree_path = %s,"
        " branch_name = %s, head_commit = %s, files_changed = %s, lines_added = 1,"
        " lines_removed = 0 where agent_id = %s returning 1",
        *(str(tree), branch, head, len(files), agent),
    )
    shell.value("update bough.agents set status = 'completed' where id = %s returning 1", agent)
    return agent


@contextmanager
def busy(shell: Shell, target: str = "main") -> Generator[None]:
    """Hold a target's lock, as a merge that takes long does."""
    path = lock_of(Repo(shell.repo, shell.repo / ".git", "", None), target)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def queued(shell: Shell) -> int:
    """How many merges are in line."""
    return shell.value("select count(*) from bough.merges where status = 'queued'")


def moves(shell: Shell, target: str = "main") -> int:
    """How often a branch has moved."""
    return len(shell.git("reflog", "show", "--format=%h", target).splitlines())


def settings(shell: Shell, text: str) -> None:
    """Commit a bough.toml to the branch that is checked out."""
    Path(shell.repo / "bough.toml").write_text(text)
    shell.commit("settings")
