"""The verb doctor: is everything there that Bough needs, and if not, what to do."""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import click
import psycopg

from bough import __version__, kernel
from bough.client import embedded
from bough.client.database import address, administer, external_address, open_client, operator
from bough.client.errors import BoughError
from bough.runner.presets.installed import Installed, installed
from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, json_option
from bough.surfaces.models_wanted import Elsewhere, models_wanted

_GIT_NEEDED = (2, 38)
_POSTGRES_NEEDED = 140000
_ROOM_NEEDED = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ok, warning, error, or absent and not needed; and what to do."""

    subject: str
    level: str
    text: str


async def _git() -> list[Finding]:
    return [_git_version()]


def _git_version() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding("git", "error", "not found; install git 2.38 or newer")
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    version = text.split()[2]
    numbers = tuple(int(n) for n in version.split(".")[:2])
    if numbers < _GIT_NEEDED:
        return Finding("git", "error", f"{version} is too old to merge; install 2.38 or newer")
    return Finding("git", "ok", version)


async def _home() -> list[Finding]:
    home = embedded.default_home()
    there = next(p for p in (home, *home.parents) if p.exists())
    if not os.access(there, os.W_OK):
        return [Finding("home", "error", f"{home} cannot be written; set BOUGH_HOME")]
    free = shutil.disk_usage(there).free
    level = "ok" if free > _ROOM_NEEDED else "warning"
    return [Finding("home", level, f"{home}, {free / 1e9:.1f} GB free")]


async def _database() -> list[Finding]:
    chosen = external_address(click.get_current_context().find_root().obj)
    kind = "your PostgreSQL" if chosen else "embedded PostgreSQL"
    dsn = await address(chosen)
    async with administer(dsn) as conn:
        findings = [_server(conn, kind)]
        states = await kernel.status(conn)
        behind = [s for s in states if s.state != "applied"]
        if behind:
            text = f"version {behind[0].version:03} is {behind[0].state}; run: bough db migrate"
            return [*findings, Finding("schema", "error", text)]
        findings.append(Finding("schema", "ok", f"version {states[-1].version}"))
    async with open_client(dsn, actor=operator()) as client:
        runners = [r for r in await client.runners() if r.alive]
    slots = sum(r.slots for r in runners)
    text = f"{len(runners)} alive, {slots} slots" if runners else "none; start one: bough runner"
    findings.append(Finding("runners", "ok" if runners else "warning", text))
    return [*findings, await _role(dsn)]


def _server(conn: psycopg.AsyncConnection[object], kind: str) -> Finding:
    number = conn.info.server_version
    version = f"{number // 10000}.{number % 10000}"
    if number < _POSTGRES_NEEDED:
        return Finding("database", "error", f"{kind} {version} is too old; 14 or newer is needed")
    where = conn.info.host or "a local socket"
    return Finding("database", "ok", f"{kind} {version} at {where}")


async def _role(dsn: str) -> Finding:
    async with administer(dsn) as conn:
        cur = await conn.execute(
            "select coalesce((select pg_has_role(oid, 'member') from pg_roles"
            " where rolname = 'bough_program'), false)"
        )
        row = await cur.fetchone()
    if row and row[0]:
        return Finding("rights", "ok", "programs act as bough_program and write no table")
    return Finding(
        "rights",
        "warning",
        "programs own the tables: this user may not create or take the role bough_program; "
        "let an administrator run: create role bough_program; grant bough_program to this user",
    )


async def _programs() -> list[Finding]:
    return [_program(found) for found in await installed()]


def _program(found: Installed) -> Finding:
    preset = found.preset
    if found.path is None:
        return Finding(preset.name, "absent", f"not installed; get it: {preset.install}")
    parts = [found.version or "of unknown version", _LIMITS[preset.limit]]
    if not any(os.environ.get(key) for key in preset.keys):
        parts.append(f"no key: set {' or '.join(preset.keys)}")
    if preset.exits:
        parts.append(f"its exit code lies: {preset.exits}")
    return Finding(preset.name, "ok", "; ".join(parts))


_LIMITS = {
    "hard": "limit hard where its calls go through a gateway, else none",
    "none": "limit none: its calls are not metered",
}


async def _models() -> list[Finding]:
    wanted = models_wanted(os.environ)
    if isinstance(wanted, Elsewhere):
        return [Finding("models", "ok", f"by the gateway at {wanted.url}")]
    if wanted is None:
        text = "not metered; set ANTHROPIC_API_KEY or OPENAI_API_KEY to meter what agents ask"
        return [Finding("models", "warning", text)]
    where = [f"{u.provider} at {u.url}" for u in wanted.upstreams.values()]
    return [Finding("models", "ok", f"metered: {', '.join(where)}")]


_CHECKS: list[Callable[[], Awaitable[list[Finding]]]] = [
    _git,
    _home,
    _database,
    _programs,
    _models,
]


@click.command(epilog="\b\nExamples:\n  bough doctor\n  bough doctor --json")
@json_option
@asynchronous
async def doctor(as_json: bool) -> int:
    """Check that everything Bough needs is there, and say what to do if not."""
    findings = [Finding("bough", "ok", __version__)]
    for check in _CHECKS:
        try:
            findings += await check()
        except BoughError as error:
            findings.append(Finding(check.__name__.strip("_"), "error", str(error)))
    if as_json:
        render.print_json([asdict(f) for f in findings])
    else:
        marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
        marks["absent"] = ("·", "bright_black")
        for finding in findings:
            glyph, colour = marks[finding.level]
            click.echo(f"{click.style(glyph, fg=colour)} {finding.subject.ljust(9)} {finding.text}")
    return 78 if any(f.level == "error" for f in findings) else 0
