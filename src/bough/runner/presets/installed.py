"""Which agent programs are on this machine, and which versions.

A program that does not say its version within some seconds is there all the same.
"""

import asyncio
import os
import re
import shutil
import tempfile
from dataclasses import dataclass

from bough.runner.presets.preset import Preset
from bough.runner.presets.table import PRESETS

_PATIENCE_S = 10.0
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?[\w.+-]*")


@dataclass(frozen=True, slots=True)
class Installed:
    """A preset and what is there of it: the path, None when it is not installed; the version."""

    preset: Preset
    path: str | None
    version: str | None


async def installed() -> list[Installed]:
    """All presets, in their order."""
    with tempfile.TemporaryDirectory(prefix="bough-doctor-") as home:
        return list(await asyncio.gather(*(_look(p, home) for p in PRESETS.values())))


async def _look(preset: Preset, home: str) -> Installed:
    path = shutil.which(preset.program)
    return Installed(preset, path, await _version(path, home) if path else None)


async def _version(path: str, home: str) -> str | None:
    # Some make their directories at the first start: not in the person's home for this.
    env = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
    env |= {"XDG_DATA_HOME": home, "XDG_STATE_HOME": home, "MSWEA_GLOBAL_CONFIG_DIR": home}
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *(path, "--version"),
            stdin=null,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
            cwd=home,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    found = _VERSION.search(out.decode("utf-8", "replace"))
    return found[0].rstrip(".") if found else None
