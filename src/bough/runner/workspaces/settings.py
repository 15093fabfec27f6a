"""What a repository says of how Bough shall treat it: `bough.toml`, read from one of its commits.

Guarantees: the file is read from a commit, never from a work tree, so nobody who edits files
changes what holds; a key or table that is not known, and a value of the wrong kind, is refused with
file and key. No file means the defaults. When it breaks: BadConfiguration, one line; GitError.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from bough.client.errors import BadConfiguration
from bough.runner.workspaces.git import git, run

FILE = "bough.toml"
Strategy = Literal["merge", "squash", "rebase"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
_MOST_BYTES = 1_000_000
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class _Wrong(Exception):
    """A value is not what its key needs; says what that is."""


@dataclass(frozen=True, slots=True)
class MergeSettings:
    """Table `[merge]`. `sign` None: as the repository's commit.gpgSign says; time in seconds."""

    strategy: Strategy = "merge"
    sign: bool | None = None
    hooks: bool = True
    gates: tuple[str, ...] = ()
    gate_timeout_s: int = 600


@dataclass(frozen=True, slots=True)
class WorkspaceSettings:
    """Table `[workspace]`. `pool`: spare worktrees kept ready, None: where checkouts are slow."""

    setup: tuple[str, ...] = ()
    setup_timeout_s: int = 600
    ports: int = 0
    scratch: bool = False
    pool: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All of `bough.toml`."""

    workspace: WorkspaceSettings = field(default_factory=WorkspaceSettings)
    merge: MergeSettings = field(default_factory=MergeSettings)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _commands(value: object) -> tuple[str, ...]:
    lines = cast("list[object]", value) if isinstance(value, list) else [None]
    if not all(isinstance(line, str) and line.strip() for line in lines):
        raise _Wrong('a list of shell commands, like ["make test"]')
    return tuple(map(str, lines))


def _lines(value: object) -> tuple[str, ...]:
    return _commands([value] if isinstance(value, str) else value)


def _number(most: int) -> "Reader":
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise _Wrong(f"a whole number from 0 to {most}")
        return value

    return read


def _seconds(value: object) -> int:
    found = re.fullmatch(r"(\d{1,9})\s*([smh]?)", str(value).strip(), re.ASCII)
    seconds = int(found[1]) * _SECONDS[found[2]] if found and not isinstance(value, bool) else 0
    if not 0 < seconds <= 7 * 86400:
        raise _Wrong('a time from 1 second to a week, like "90s", "10m" or "2h"')
    return seconds


def strategy_of(value: object) -> Strategy:
    """The strategy that is named so; _Wrong, one line, when none is."""
    for known in STRATEGIES:
        if value == known:
            return known
    raise _Wrong(f"one of {', '.join(STRATEGIES)}")


Reader = Callable[[object], Any]
"""Makes a field of a TOML value. Raises _Wrong."""

_MERGE: Mapping[str, tuple[str, Reader]] = {
    "strategy": ("strategy", strategy_of),
    "sign": ("sign", _truth),
    "hooks": ("hooks", _truth),
    "gates": ("gates", _commands),
    "gate_timeout": ("gate_timeout_s", _seconds),
}
_WORKSPACE: Mapping[str, tuple[str, Reader]] = {
    "setup": ("setup", _lines),
    "setup_timeout": ("setup_timeout_s", _seconds),
    "ports": ("ports", _number(100)),
    "scratch": ("scratch", _truth),
    "pool": ("pool", _number(100)),
}
_TABLES: Mapping[str, tuple[Callable[..., Any], Mapping[str, tuple[str, Reader]]]] = {
    "merge": (MergeSettings, _MERGE),
    "workspace": (WorkspaceSettings, _WORKSPACE),
}
"""For each table: what it becomes, and for each key the field and how its value is read."""


def settings_of(text: str, *, where: str = FILE) -> Settings:
    """Settings from the text of a file, which errors call `where`. Raises BadConfiguration."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{where} is not TOML: {error}") from error
    _refuse_unknown(where, "table", tables, _TABLES)
    return Settings(**{name: _table(where, name, content) for name, content in tables.items()})


def _table(where: str, name: str, content: object) -> Any:
    made, keys = _TABLES[name]
    if not isinstance(content, dict):
        raise BadConfiguration(f"{where}: {name} is a table; write [{name}] on a line of its own")
    found = cast("dict[str, object]", content)
    _refuse_unknown(where, f"key in [{name}]", found, keys)
    fields: dict[str, Any] = {}
    for key, value in found.items():
        target, read = keys[key]
        try:
            fields[target] = read(value)
        except _Wrong as wrong:
            raise BadConfiguration(f"{where}: {name}.{key} is {value!r}; give {wrong}") from wrong
    return made(**fields)


def _refuse_unknown(where: str, what: str, found: Mapping[str, Any], known: Mapping[str, Any]):
    for name in found.keys() - known.keys():
        raise BadConfiguration(f"{where}: there is no {what} '{name}'; known: {', '.join(known)}")


async def settings_at(root: Path, commit: str) -> Settings:
    """What `bough.toml` in a commit says; the defaults when it holds none.

    Raises BadConfiguration, GitError.
    """
    listed = await git(root, "ls-tree", "-l", "-z", commit, "--", FILE)
    if not listed:
        return Settings()
    kind, _, _, size = listed.partition("\t")[0].split()[:4]
    where = f"{FILE} at {commit[:10]}"
    if not kind.startswith("100") or int(size) > _MOST_BYTES:
        raise BadConfiguration(f"{where} is no file of at most {_MOST_BYTES} bytes")
    shown = await run(root, "cat-file", "blob", f"{commit}:{FILE}")
    return settings_of(shown.out, where=where)
