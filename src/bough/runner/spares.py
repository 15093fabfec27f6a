"""Keeps spare worktrees ready, in the background, for the repositories a runner works on.

Only where it pays: as many as bough.toml says, else two where a checkout took longer than half a
second. When it breaks: a line in the log; agents then wait for a checkout as without spares.
"""

import asyncio
import logging
from pathlib import Path

from bough.runner.workspaces import pool
from bough.runner.workspaces.git import GitError, Repo

_log = logging.getLogger(__name__)
_SLOW_S = 0.5
_SPARES = 2


class Spares:
    """The spares of one runner; one task at a time fills a repository's."""

    def __init__(self) -> None:
        self._slow: set[Path] = set()
        self._filling: dict[Path, asyncio.Task[None]] = {}

    def used(
        self, repository: Repo, folder: Path, *, commit: str, took_s: float, wanted: int | None
    ) -> None:
        """Say that a worktree in `folder` was made in `took_s` seconds: more may be needed."""
        if took_s > _SLOW_S:
            self._slow.add(folder)
        size = wanted if wanted is not None else _SPARES if folder in self._slow else 0
        under_way = self._filling.get(folder)
        if size == 0 or (under_way and not under_way.done()):
            return
        filling = self._fill(repository, folder, commit=commit, size=size)
        self._filling[folder] = asyncio.create_task(filling)

    async def _fill(self, repository: Repo, folder: Path, *, commit: str, size: int) -> None:
        try:
            await pool.fill(repository, folder, commit=commit, size=size)
        except (GitError, OSError) as error:
            event = {"event": "workspace.no_spare"}
            _log.warning("no spare worktree of %s: %s", repository.root, error, extra=event)

    async def close(self) -> None:
        """Stop filling; what is half made is removed."""
        tasks = list(self._filling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
