"""How much disk a directory takes: allocated blocks, a file with several names counted once.

Guarantees: follows no link, touches nothing, never stays on the caller's event loop.
When it breaks: what vanishes or cannot be read while it looks is left out, silently.
"""

import asyncio
import contextlib
import os
from pathlib import Path

_BLOCK_BYTES = 512  # what st_blocks counts in, whatever the file system's own blocks are


async def disk_bytes(place: Path) -> int:
    """Bytes allocated by a directory with all below it; 0 when there is none."""
    return await asyncio.to_thread(_allocated, place)


def _allocated(place: Path) -> int:
    total = 0
    seen: set[tuple[int, int]] = set()
    with contextlib.suppress(OSError):
        total = place.lstat().st_blocks
    below = [] if place.is_symlink() else [os.fspath(place)]
    while below:
        with contextlib.suppress(OSError), os.scandir(below.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
    return total * _BLOCK_BYTES
