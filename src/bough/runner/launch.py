"""How a program is started: its command line, its variables, and files of its own.

The files are outside the worktree, in a directory of the agent that stays with it: what a program
keeps there (sessions, settings) is found again when the agent is resumed. Raises OSError.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Own:
    """What an agent has besides its worktree: a directory, and the variables of its program."""

    directory: Path
    env: Mapping[str, str]

    @property
    def home(self) -> Path:
        """Where a preset lets its program keep things."""
        return self.directory / "home"


@dataclass(frozen=True, slots=True)
class Launch:
    """What starts an agent. env comes on top of the agent's; files are below its directory.

    resumes: killed, it is started again, for it goes on from what it has recorded.
    """

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, str] = field(default_factory=dict[str, str])
    resumes: bool = False

    def put(self, own: Own) -> None:
        """Write the files, each whole or not at all, for this user only. Raises OSError."""
        for name, text in self.files.items():
            _write(own.directory / name, text)


def own_directory(home: Path, agent_id: str) -> Path:
    """The directory of an agent below Bough's home; it may not be there yet."""
    return home / "agents" / agent_id


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(part).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(part).unlink()
        raise
