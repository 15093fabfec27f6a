"""Who is in a directory: processes whose working directory it is or is below it.

Guarantees: reads only. When it breaks: where the system does not tell (macOS, other users'
processes), nobody is found; then only the locks of runners protect a directory in use.
"""

import os
from pathlib import Path

from bough.runner.programs.processes import LINUX


def working_directories() -> dict[int, Path]:
    """The working directory of every process that we may look at."""
    found: dict[int, Path] = {}
    for entry in Path("/proc").iterdir() if LINUX else ():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = Path(os.readlink(entry / "cwd"))  # noqa: PTH115
            except OSError:
                continue
    return found


def inside(place: Path) -> list[int]:
    """The processes that work in a directory or below it."""
    real = place.resolve()
    return [pid for pid, at in working_directories().items() if at.is_relative_to(real)]
