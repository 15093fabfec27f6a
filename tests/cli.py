"""A user at a shell: the real `bough` command in a scratch repository, on a database of its own.

PYTEST_DONT_REWRITE: it is imported as a module as well as loaded as a plugin. Every wait is for a
condition and has a bound; a test that leaves a program or a `bough` behind fails when it ends.
"""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import fresh_database
from live import BOUND_S, Done, Live, until
from psycopg.types.json import Jsonb

import bough
from bough import kernel as bough_kernel

BOUGH = [sys.executable, "-m", "bough"]
Env = dict[str, str]
IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
SHORT_LEASE_RUNNER = """
import asyncio, sys
from pathlib import Path
from bough.client.database import open_client
from bough.runner.runner import Runner
from bough.surfaces.agent_api.server import open_door
async def main(dsn, home, lease_s):
    async with open_client(dsn, actor="runner", pooled=4) as client:
        runner = Runner(client, dsn, home=Path(home), slots=10, lease_s=int(lease_s))
        async with open_door(runner, dsn):
            await runner.enroll()
            print(runner.id, flush=True)
            await runner.run()
asyncio.run(main(*sys.argv[1:]))
"""
IN_A_ROW = """
import contextlib, io, json, sys, traceback
from bough.surfaces.cli.main import main
for args in json.load(sys.stdin):
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape") for _ in range(2))
    sys.argv, code = ["bough", *args], None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
    for text in (out, err):
        text.seek(0)
    print(json.dumps([code, out.read(), err.read()]))
"""


def hold(gate: Path, then: str = "") -> list[str]:
    """A program that says it is there, waits for the file `gate`, then goes on with `then`."""
    here = f'touch "{gate}.$BOUGH_AGENT_ID.$BOUGH_ATTEMPT"'
    return ["sh", "-c", f'{here}; until [ -e "{gate}" ]; do sleep 0.01; done; {then or "true"}']


class Shell:
    """Runs `bough` as a user without a git identity, in `repo`, with `home` as BOUGH_HOME."""

    def __init__(self, place: Path, dsn: str) -> None:
        self.place, self.dsn = place, dsn
        self.home, self.repo, self.gate = place / "bough", place / "repo", place / "go"
        for own in ("user", "tmp"):
            (place / own).mkdir()
        self.repo.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(place / "user"),
            "TMPDIR": str(place / "tmp"),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PYTHONPATH": str(Path(bough.__file__).parents[1]),
            "BOUGH_HOME": str(self.home),
            "BOUGH_DATABASE_URL": dsn,
        }
        self.look = psycopg.Connection[Any].connect(dsn, autocommit=True)
        self.live: list[Live] = []
        self.git("init", "-q", "--template=", "-b", "main")
        (self.repo / "a.txt").write_text("one\ntwo\nthree\n")
        self.commit("start")

    def __call__(
        self, *args: object, code: int = 0, cwd: Path | None = None, env: Env | None = None
    ) -> Done:
        """Run `bough` to its end; the exit code must be `code`, and never is there a traceback."""
        done = self.begin(*args, cwd=cwd, env=env).ends()
        assert done.code == code, (args, done)
        assert "Traceback" not in done.err
        return done

    def json(self, *args: object, code: int = 0) -> Any:
        done = self(*args, "--json", code=code)
        return json.loads(done.out)

    def begin(self, *args: object, cwd: Path | None = None, env: Env | None = None) -> Live:
        live = Live([*BOUGH, *map(str, args)], cwd or self.repo, self.env | (env or {}))
        self.live.append(live)
        return live

    def in_a_row(self, *commands: Sequence[object]) -> list[Done]:
        """Run several, whatever their exit codes, in one process: starting one takes 0.3 s."""
        live = Live([sys.executable, "-c", IN_A_ROW], self.repo, self.env)
        self.live.append(live)
        assert live.process.stdin
        live.process.stdin.write(json.dumps([list(map(str, c)) for c in commands]).encode())
        live.process.stdin.close()
        done = [Done(*json.loads(line)) for line in live.ends().out.splitlines()]
        assert len(done) == len(commands)
        assert not [d for d in done if "Traceback" in d.err]
        return done

    def refused(self, *args: object, code: int, env: Env | None = None) -> str:
        """Run `bough`, which must refuse in one line; that line."""
        done = self(*args, code=code, env=env)
        assert done.out == ""
        assert done.err.startswith("bough: ")
        assert done.err.count("\n") == 1, done.err
        return done.err

    def spawn(self, *args: object) -> str:
        return self("spawn", *args).out.strip()

    def plant(
        self,
        *argv: str,
        task: str = "t",
        parent: str | None = None,
        budget: int = 1000,
        key: str | None = None,
    ) -> str:
        """Spawn an agent at main without the command line, which takes a hundred times as long."""
        return self.value(
            "select id::text from bough_api.spawn(key => coalesce(%s::uuid, gen_random_uuid()),"
            " parent_id => %s, task => %s, role => 'agent', budget => %s, driver => 'command',"
            " program => %s, repo_path => %s, base_commit => %s, target_branch => 'main',"
            " runner_id => null, timeout_s => null, max_depth => null, max_children => null,"
            " max_running => null)",
            key,
            parent,
            task,
            budget,
            Jsonb({"argv": argv or ("true",)}),
            str(self.repo),
            self.git("rev-parse", "main"),
        )

    def runner(self, *args: object) -> Live:
        """A `bough runner` that waits for agents."""
        live = self.begin("runner", *args)
        live.says("waits for agents", on="err")
        return live

    def short_lease_runner(self, lease_s: int = 1) -> Live:
        argv = [sys.executable, "-c", SHORT_LEASE_RUNNER, self.dsn, str(self.home), str(lease_s)]
        live = Live(argv, self.repo, self.env)
        self.live.append(live)
        live.says("\n")
        return live

    def terminal(self, *args: object, columns: int = 100, **env: str) -> str:
        """What `bough` shows on a terminal of so many columns; it must succeed."""
        mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        argv = [*BOUGH, *map(str, args)]
        process = subprocess.Popen(
            argv, cwd=self.repo, env=self.env | env, stdin=its, stdout=its, stderr=its
        )
        os.close(its)
        shown = b""
        while chunk := _read_terminal(mine):
            shown += chunk
        os.close(mine)
        assert process.wait(BOUND_S) == 0, shown
        return shown.decode().replace("\r\n", "\n")

    def git(self, *args: str, at: Path | None = None) -> str:
        command = ["git", "-C", str(at or self.repo), *IDENTITY, *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def value(self, sql: str, *args: object) -> Any:
        """The first column of the first row."""
        row = self.look.execute(sql.encode(), args).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def ago(self, seconds: float) -> Generator[None]:
        """What is planted and changed by SQL in the block happened so long ago."""
        clock = "select set_config('bough.clock', %s, false)"
        self.value(clock, self.value("select (now() - make_interval(secs => %s))::text", seconds))
        yield
        self.value(clock, "")

    def column(self, name: str, agent_id: str) -> Any:
        """One column of `agent_details` for an agent."""
        return self.value(f"select {name} from bough_api.agent_details where id = %s", agent_id)

    def reaches(self, agent_id: str, status: str) -> None:
        until(lambda: self.column("status", agent_id) == status, f"{agent_id} is {status}")

    def held(self, agent_id: str, attempt: int = 1, gate: Path | None = None) -> None:
        """Wait until a `hold` program of an agent is there."""
        sign = Path(f"{gate or self.gate}.{agent_id}.{attempt}")
        until(sign.exists, f"{sign} exists")

    def beats(self) -> None:
        """Wait until every runner that is alive has beaten twice more."""
        sql = "select min(expires_at)::text from bough.runners where retired_at is null"
        for _ in range(2):
            last = self.value(sql)
            until(lambda last=last: self.value(sql) != last, "the heart beats")

    def events(self, agent_id: str) -> list[str]:
        sql = b"select name from bough.events where agent_id = %s order by id"
        return [row[0] for row in self.look.execute(sql, (agent_id,)).fetchall()]

    def traces(self) -> list[str]:
        """Whatever agents have left: rows, branches and other refs, directories."""
        rows = self.look.execute("select id::text from bough.agents").fetchall()
        found = [row[0] for row in rows]
        if (self.repo / ".git").is_dir():
            found += self.git("for-each-ref", "refs/heads/bough", "refs/bough").splitlines()
            found += self.git("worktree", "list").splitlines()[1:]
        return found + [str(path) for path in self.home.glob("worktrees/*/*")]

    def program_of(self, agent_id: str) -> int | None:
        """The recorded process of an agent's first attempt."""
        sql = "select pid from bough.attempts where agent_id = %s and lease_epoch = 1"
        return self.value(sql, agent_id)

    def programs(self) -> list[int]:
        """The processes of this shell's agents, with all that they started."""
        marker = f"BOUGH_WORKSPACE={self.home}/".encode()
        return [pid for pid in _pids() if marker in _environment(pid)]


def _read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other side has closed: this is a terminal's end of file
        return b""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="session")
async def cli_database(server: str) -> AsyncIterator[str]:
    """A migrated database of the command line tests, emptied after each."""
    async with fresh_database(server) as dsn:
        async with await psycopg.AsyncConnection[Any].connect(dsn, autocommit=True) as conn:
            await bough_kernel.migrate(conn)
        yield dsn


@pytest.fixture
def shell(cli_database: str) -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="bough-cli-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        made = Shell(Path(place), cli_database)
        try:
            yield made
        finally:
            for live in made.live:
                live.close()
            until(lambda: not made.programs(), "no program of an agent is left")
            made.look.execute(
                "truncate bough.agents, bough.runners, bough.events, bough.listeners cascade"
            )
            made.look.close()
