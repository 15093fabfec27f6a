"""Calls about what agents changed: which files, how many lines, how much disk."""

from uuid import UUID

from bough.client import work_rows as rows
from bough.client.caller import Caller


class WorkCalls(Caller):
    """The part of a client that reads the work of agents."""

    async def files(
        self,
        agent_id: UUID | None,
        *,
        glob: str | None = None,
        repo_path: str | None = None,
        page: int = 1000,
    ) -> list[rows.ChangedFile]:
        """Files changed at and below an agent (None: everywhere), the newest first.

        `glob` is a file, a directory, or has * (any text, also with slashes) and ? (one
        character); `repo_path` is the root of a repository. Raises AgentNotFound.
        """
        return await self._all(
            rows.ChangedFile,
            "select * from bough_api.files(%(id)s, %(glob)s, %(repo)s, %(page)s::integer)",
            {"id": agent_id, "glob": glob, "repo": repo_path, "page": page},
        )

    async def subtree_work(self, agent_id: UUID) -> rows.Work:
        """What an agent with all below it has changed; a file that several changed counts once."""
        return await self._one(
            rows.Work, "select * from bough_api.subtree_work(%(id)s)", {"id": agent_id}
        )
