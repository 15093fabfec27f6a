"""The files of one embedded PostgreSQL: its data directory, settings, socket directory and log.

Guarantees: the data directory appears under its final name only when it is complete, synced and
holds the database `bough`; settings are replaced whole or not at all; the socket directory admits
the server's account (and root) only. Callers hold `start.lock`.

When it breaks it raises EmbeddedError with one line, or OSError (disk full, no permission), and
leaves at most a `postgres.partial`, which the next call removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import stat
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

from bough.client.guardian import DATA
from bough.client.postgres_programs import Account, EmbeddedError, Programs, clean_environment

LOG = "postgres.log"
SETTINGS = """\
# Written by bough at every start. Make settings of your own with ALTER SYSTEM.

# Local processes only: there is no TCP port, and only the server's account and root may enter
# the socket's directory. That is why pg_hba.conf asks for no password: whoever gets there could
# read the data files just as well.
listen_addresses = ''
port = 5432
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700

# A small server that shares the machine with the agents. Idle sessions cost little, and every
# runner, gateway and command brings its own.
max_connections = 200
shared_buffers = 128MB
max_wal_size = 512MB
# /dev/shm is 64 MB in most containers, and systemd empties it when a user logs out.
dynamic_shared_memory_type = mmap
# Short queries on few cores: neither compiling nor splitting them pays.
jit = off
max_parallel_workers_per_gather = 0
# Nothing replicates from here, so the workers would only sit in the process list.
max_logical_replication_workers = 0

# What was committed survives a power cut.
fsync = on
synchronous_commit = on
full_page_writes = on
autovacuum = on

# An open transaction keeps dead rows from being removed, for everybody.
idle_in_transaction_session_timeout = 5min
{client_check}
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
cluster_name = 'bough'

# Refused calls are normal; their statements and rows may hold secrets and stay out of the log.
log_min_error_statement = panic
log_error_verbosity = terse
log_checkpoints = off
logging_collector = off
"""
# A killed client must not go on waiting for locks. Older servers offer this on Linux only.
_CLIENT_CHECK = "client_connection_check_interval = 10s\n"
_HBA = "# Written by bough at every start; why trust: see postgresql.conf.\nlocal all all trust\n"

# libpq and unix_socket_directories read lists: any other character would need quoting in both.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+~-]+")
# macOS allows 104 bytes with the final zero, Linux 108.
_SOCKET_DIR_BYTES = 103 - len("/.s.PGSQL.5432")


def socket_dir(home: Path) -> Path:
    """Where the server of this home puts its socket: `<home>/run`, or a short path elsewhere.

    Elsewhere is not XDG_RUNTIME_DIR, which vanishes at logout while the server lives on, and for
    root not /tmp, where others could be first to take the name.
    """
    inside = home / "run"
    if len(os.fsencode(inside)) <= _SOCKET_DIR_BYTES and _PLAIN_PATH.fullmatch(str(inside)):
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path("/var/run" if os.geteuid() == 0 else "/tmp") / f"bough-{digest}"  # noqa: S108


def make_socket_dir(home: Path, account: Account) -> Path:
    """Make the socket directory, or check that the one found there is private and the account's.

    Raises EmbeddedError when somebody else owns it or may enter it.
    """
    path = socket_dir(home)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        # Root's own is one that a killed process made and had no time to hand over.
        if not private or found.st_uid not in (account.uid, os.geteuid()):
            raise EmbeddedError(
                f"{path} is not a private directory of user {account.name}, so its socket cannot"
                " be trusted: remove it, or set BOUGH_HOME to a shorter path"
            ) from None
    if account.user is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    return path


def write_settings(data_dir: Path, sockets: Path) -> None:
    """Bring postgresql.conf and pg_hba.conf to the text of this version of bough."""
    client_check = _CLIENT_CHECK if sys.platform == "linux" else ""
    text = SETTINGS.format(socket_dir=sockets, client_check=client_check)
    replace_file(data_dir / "postgresql.conf", text)
    replace_file(data_dir / "pg_hba.conf", _HBA)


def replace_file(path: Path, text: str) -> None:
    """Replace a file, whole or not at all, without following a link that stands there.

    Also when root writes it, it belongs to whoever owns the directory.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
    fresh.replace(path)


async def make_data_dir(
    home: Path, programs: Programs, account: Account, *, lock_fd: int, timeout_s: float
) -> None:
    """Run initdb and create the database `bough`, under another name, then rename.

    The programs inherit `lock_fd`, so that an initdb whose starter was killed keeps the next
    starter away until it is gone.
    """
    partial = home / f"{DATA}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    if account.user is not None:
        os.chown(partial, account.uid, account.gid)
    # The same order and letter case rules on every machine, whatever locales it has.
    locale = ["--locale=C"]
    if programs.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb = [programs.bin_dir / "initdb", "-D", partial, "-U", "bough", "-A", "trust"]
    initdb += ["-E", "UTF8", "--data-checksums", "--no-instructions", *locale]
    try:
        async with asyncio.timeout(timeout_s):
            await _run(initdb, b"", account, lock_fd)
            write_settings(partial, socket_dir(home))
            single = [programs.bin_dir / "postgres", "--single", "-D", partial, "template1"]
            await _run(single, b"create database bough\n", account, lock_fd)
    except TimeoutError:
        raise EmbeddedError(
            f"{home / DATA} could not be made within {timeout_s:.0f} s: try again with more time"
        ) from None
    partial.rename(home / DATA)
    directory = os.open(home, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


async def _run(argv: list[str | Path], stdin: bytes, account: Account, lock_fd: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=PIPE if stdin else DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        cwd="/",
        env=clean_environment(),
        user=account.user,
        group=account.group,
        extra_groups=account.groups,
        umask=0o077,
        start_new_session=True,
        pass_fds=(lock_fd,),
    )
    try:
        output, _ = await process.communicate(stdin or None)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    # The single-user server ends with 0 even when its statement failed.
    told = [
        line.strip()
        for line in output.decode(errors="replace").splitlines()
        if re.search(r"\b(error|ERROR|FATAL|PANIC):", line)
    ]
    if process.returncode != 0 or told:
        why = "; ".join(told) or f"exit status {process.returncode}"
        raise EmbeddedError(
            f"{Path(argv[0]).name} could not make {argv[argv.index('-D') + 1]}: {why}. Free some"
            " disk space or set BOUGH_HOME to another directory, then try again"
        )


def check_data_dir(data_dir: Path, programs: Programs) -> None:
    """Raise EmbeddedError unless these programs can run this data directory."""
    version_file = data_dir / "PG_VERSION"
    if not version_file.is_file():
        raise EmbeddedError(
            f"{data_dir} is not a PostgreSQL data directory (it has no PG_VERSION): move it away"
            " and try again, or set BOUGH_HOME to another directory"
        )
    major = version_file.read_text().strip()
    if major != str(programs.major):
        raise EmbeddedError(
            f"{data_dir} was made by PostgreSQL {major} and {programs.bin_dir} is"
            f" {programs.version}: set BOUGH_PG_BIN to the bin directory of a PostgreSQL {major},"
            " or move the directory away to begin with an empty one"
        )
