"""The embedded PostgreSQL: one private server per home, whatever happens to its files."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import embedded_homes
import psycopg
import pytest
from embedded_homes import USER, names_in, proc, processes_of, said, until

from bough.client import embedded, guardian, postgres_files
from bough.client.embedded import EmbeddedError
from bough.client.postgres_programs import Account, account_for

# Fixtures, so that pytest finds them here.
place, initialised, user = embedded_homes.place, embedded_homes.initialised, embedded_homes.user
empty_home, home = embedded_homes.empty_home, embedded_homes.home
Start = Callable[..., "subprocess.Popen[str]"]
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def ask(dsn: str, query: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return str(row[0]) if row else ""


def complaint(error: pytest.ExceptionInfo[EmbeddedError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_the_first_start_makes_a_durable_server_with_the_database_bough(empty_home: Path):
    before = embedded.status(empty_home)
    assert (before.running, before.pid, before.version) == (False, None, None)
    assert names_in(empty_home) == []
    server = await embedded.start(empty_home)
    assert server == embedded.status(empty_home)
    assert server.dsn == f"host={empty_home}/run port=5432 user=bough dbname=bough"
    assert ask(server.dsn, "select current_database()") == "bough"
    assert ask(server.dsn, "show server_version").split()[0] == server.version
    assert ask(server.dsn, "show fsync") == ask(server.dsn, "show data_checksums") == "on"
    assert ask(server.dsn, "show server_encoding") == "UTF8"
    assert ask(server.dsn, "select upper('ä')") == "Ä"


async def test_twenty_processes_at_once_start_one_server(empty_home: Path, user: Start):
    answers = {said(process) for process in [user() for _ in range(20)]}
    assert len(answers) == 1
    assert next(iter(answers)).endswith("dbname=bough")
    await until(lambda: len(processes_of(empty_home)) == 2)


async def test_a_warm_start_runs_no_program_and_loads_no_driver(home: Path, user: Start):
    await embedded.start(home)
    events = "('subprocess.Popen', 'os.fork', 'os.posix_spawn')"
    script = (
        f"import sys\nused = []\nsys.addaudithook(lambda e, _: e in {events} and used.append(e))\n"
        f"{USER}\nprint(used, {{'psycopg', 'platformdirs'}} & set(sys.modules))"
    )
    process = user(script)
    assert "dbname=bough" in said(process)
    assert said(process) == "[] set()"


async def test_an_initdb_whose_starter_was_killed_does_not_break_the_next_start(
    empty_home: Path, user: Start
):
    process = user()
    partial = empty_home / "postgres.partial"
    await until((partial / "PG_VERSION").exists)
    process.kill()
    server = await embedded.start(empty_home)
    assert ask(server.dsn, "select 1") == "1"
    assert not partial.exists()


async def test_half_made_leftovers_are_swept_away(empty_home: Path):
    partial = empty_home / "postgres.partial"
    (partial / "base").mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    server = await embedded.start(empty_home)
    assert server.running
    assert not partial.exists()


async def test_kill_9_of_the_postmaster_loses_no_committed_row(home: Path):
    server = await embedded.start(home)
    assert server.pid
    connection = psycopg.connect(server.dsn)
    connection.execute("create table kept as select generate_series(1, 1000) as n")
    connection.commit()
    connection.execute("insert into kept values (0)")
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not embedded.status(home).running)
    again = await embedded.start(home)
    connection.close()
    assert again.pid != server.pid
    assert ask(again.dsn, "select count(*) from kept") == "1000"


@contextlib.contextmanager
def sleeping(account: Account) -> Generator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"], user=account.user, group=account.group) as sleeper:
        yield sleeper
        sleeper.kill()


async def test_a_stale_pid_file_whose_pid_now_belongs_to_another_program_fools_nobody(home: Path):
    server = await embedded.start(home)
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: guardian.postmaster_pid(home / "postgres") is None)
    account = account_for(home)
    with sleeping(account) as sleeper:
        for stale in (home / "postgres/postmaster.pid", home / "run/.s.PGSQL.5432.lock"):
            _, _, rest = stale.read_text().partition("\n")
            stale.write_text(f"{sleeper.pid}\n{rest}")
        assert not embedded.status(home).running
        assert await embedded.stop(home) is False
        again = await embedded.start(home)
        assert sleeper.poll() is None
    assert again.running
    assert again.pid not in (server.pid, sleeper.pid)


async def test_nothing_listens_beyond_a_private_unix_socket(home: Path):
    server = await embedded.start(home)
    assert ask(server.dsn, "show listen_addresses") == ""
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700
    links = [str(fd.readlink()) for fd in proc(server.pid, "fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    assert inodes
    for table in ("tcp", "tcp6", "udp", "udp6"):
        rows = proc("net", table).read_text().splitlines()[1:]
        assert not inodes & {row.split()[9] for row in rows}


@contextlib.contextmanager
def odd(home: Path) -> Generator[tuple[Path, Path]]:
    path = home / ("a, b 'c\" $d ü" + "x" * 120)
    sockets = postgres_files.socket_dir(path)
    assert len(f"{sockets}/.s.PGSQL.5432") < 60
    try:
        yield path, sockets
    finally:
        shutil.rmtree(sockets)


async def test_a_long_home_with_odd_characters_gets_a_short_socket_directory(home: Path):
    with odd(home) as (path, sockets):
        path.mkdir(mode=0o755)
        (home / "postgres").rename(path / "postgres")
        server = await embedded.start(path)
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert ask(server.dsn, "select 1") == "1"
        assert await embedded.stop(path)


async def test_a_socket_directory_that_others_can_enter_is_refused(home: Path):
    with odd(home) as (path, sockets):
        path.mkdir(mode=0o755)
        (home / "postgres").rename(path / "postgres")
        sockets.mkdir()
        with pytest.raises(EmbeddedError) as error:
            await embedded.start(path)
    assert str(sockets) in complaint(error)


@pytest.mark.skipif(not DEBIAN, reason="no PostgreSQL of Debian here")
async def test_an_older_postgresql_can_be_chosen(empty_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BOUGH_PG_BIN", str(DEBIAN[0].parent))
    server = await embedded.start(empty_home)
    assert (server.version or "").split(".")[0] == DEBIAN[0].parts[-3]
    assert ask(server.dsn, "show server_version").split()[0] == server.version


async def test_a_data_directory_of_another_major_version_is_explained(empty_home: Path):
    (empty_home / "postgres").mkdir()
    shutil.chown(empty_home / "postgres", account_for(empty_home / "none").uid)
    (empty_home / "postgres/PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedError) as error:
        await embedded.start(empty_home)
    assert "made by PostgreSQL 13" in complaint(error)
    assert "BOUGH_PG_BIN" in complaint(error)


async def test_missing_programs_are_explained(empty_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BOUGH_PG_BIN", "/nowhere/bin")
    with pytest.raises(EmbeddedError) as error:
        await embedded.start(empty_home)
    assert "/nowhere/bin" in complaint(error)


async def test_a_home_below_a_file_is_explained(empty_home: Path):
    (empty_home / "file").write_text("")
    with pytest.raises(EmbeddedError) as error:
        await embedded.start(empty_home / "file" / "home")
    assert "BOUGH_HOME" in complaint(error)


@pytest.mark.parametrize("seconds", ["soon", "-1", "nan", "inf"])
async def test_a_bad_linger_time_refuses_to_start(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, seconds: str
):
    monkeypatch.setenv("BOUGH_LINGER_S", seconds)
    with pytest.raises(EmbeddedError) as error:
        await embedded.start(empty_home)
    assert repr(seconds) in complaint(error)
    assert processes_of(empty_home) == []
    assert not (empty_home / "postgres").exists()


async def test_the_log_is_kept_short_while_the_server_runs(home: Path):
    server = await embedded.start(home)
    os.truncate(home / "postgres.log", 17_000_000)
    await embedded.start(home)
    with psycopg.connect(server.dsn) as connection, pytest.raises(psycopg.Error):
        connection.execute("select still_written")
    log = (home / "postgres.log").read_bytes()
    assert len(log) < 10_000
    assert b"still_written" in log
    assert (home / "postgres.log.old").stat().st_size == 17_000_000


def test_the_home_is_bough_home_or_where_the_server_can_get(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BOUGH_HOME", "/srv/bough")
    assert embedded.default_home() == Path("/srv/bough")
    monkeypatch.delenv("BOUGH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert embedded.default_home() == Path("/var/lib/bough" if os.geteuid() == 0 else "/x/bough")
