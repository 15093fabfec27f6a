"""What is wrong is said in one line, with its exit code, and nothing is made."""

import json
import socket
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import psycopg
from cli import BOUND_S, Shell
from conftest import fresh_database
from psycopg.conninfo import make_conninfo

pytest_plugins = ["cli"]

NOBODY = "00000000"
RUN = ["run", "t", "--", "true"]
MAX = 2**63 - 1
Case = tuple[int, Sequence[object], str]
BAD: list[Case] = [
    (2, ["run", "t", "--budget", "0", "--", "true"], "'0' is no number of tokens"),
    (2, ["run", "t", "--budget", "-5", "--", "true"], "'-5' is no number of tokens"),
    (2, ["run", "t", "--budget", "lots", "--", "true"], "like 2000 or 30k"),
    (2, ["run", "t", "--budget", "1.2.3", "--", "true"], "'1.2.3' is no number of tokens"),
    (2, ["run", "t", "--budget", "0.5", "--", "true"], "'0.5' is no number of tokens"),
    (2, ["run", "t", "--budget", 2**63, "--", "true"], f"from 1 to {MAX}"),
    (2, ["run", "t", "--budget", "9" * 500, "--", "true"], "is no number of tokens"),
    (2, ["run", "t", "--timeout", "0", "--", "true"], "'0' is no duration"),
    (2, ["run", "t", "--timeout", "9" * 5000, "--", "true"], "is no duration"),
    (2, ["run", "t", "--max-running", "0", "--", "true"], "--max-running"),
    (2, ["run", "", "--", "true"], "the task is empty"),
    (2, ["spawn", " \n ", "--", "true"], "the task is empty"),
    (2, ["run", "\udcff\udcfe", "--", "true"], "not valid Unicode"),
    (2, ["run", "t", "--role", " ", "--", "true"], "a role has a name"),
    (2, ["run"], "Missing argument 'TASK'"),
    (2, ["run", "t"], "say which program does the work: bough run TASK -- CMD"),
    (2, ["run", "t", "--driver", "warp", "--", "true"], "there is no driver 'warp'"),
    (3, ["run", "t", "--", "no-such-program"], "there is no program 'no-such-program'"),
    (3, ["run", "t", "--", "/no/such/program"], "there is no program '/no/such/program'"),
    (3, ["run", "t", "--repo", "/no/such/place", "--", "true"], "/no/such/place does not exist"),
    (3, ["spawn", "t", "--parent", NOBODY, "--budget", 5, "--", "true"], "no agent 00000000"),
    (3, ["show", NOBODY], "no agent 00000000; see bough ps --all"),
    (3, ["tree", "xyz"], "'xyz' is not an id"),
    (3, ["kill", NOBODY], "no agent 00000000"),
    (3, ["pause", ""], "'' is not an id"),
    (3, ["merge", NOBODY], "no agent 00000000"),
    (2, ["rnu", "t"], "there is no verb 'rnu'; did you mean 'run'?"),
    (2, ["xyzzy"], "there is no verb 'xyzzy' (see bough --help)"),
    (2, ["ps", "--bogus"], "--bogus"),
    (2, ["wait"], "ID"),
    (2, ["completion", "tcsh"], "tcsh"),
]  # fmt: skip


def all_refused(shell: Shell, cases: Sequence[Case]) -> None:
    """Each is refused with its exit code in one line, which has the text."""
    done = shell.in_a_row(*[args for _, args, _ in cases])
    for (code, args, text), found in zip(cases, done, strict=True):
        assert (found.code, found.out) == (code, ""), (args, found)
        assert found.err.startswith("bough: ")
        assert found.err.count("\n") == 1, found.err
        assert text in found.err


def test_bad_input_is_refused_in_one_line_and_makes_nothing(shell: Shell) -> None:
    all_refused(shell, BAD)
    assert shell.traces() == []
    assert shell.value("select count(*) from bough_api.runner_details") == 0


def test_numbers_that_are_right_to_the_last_token_are_kept_so(shell: Shell) -> None:
    wanted = {"9007199254740993": 2**53 + 1, "1.5k": 1500, "2_000": 2000, str(MAX): MAX}
    done = shell.in_a_row(
        *[["spawn", "t", "--json", "--budget", text, "--", "true"] for text in wanted]
    )
    assert [json.loads(d.out)["budget"]["allocated"] for d in done] == list(wanted.values())


def test_errors_with_json_are_json_on_stderr(shell: Shell) -> None:
    done = shell("show", NOBODY, "--json", code=3)
    assert done.out == ""
    assert json.loads(done.err) == {
        "error": {"code": "agent_not_found", "message": "no agent 00000000; see bough ps --all"}
    }
    usage = json.loads(shell("run", "--json", code=2).err)
    assert usage["error"]["code"] == "usage"
    # What belongs to the program is not ours.
    assert "no program" in shell.refused("run", "t", "--", "no-such-program", "--json", code=3)


def test_without_a_repository_or_a_commit_nothing_starts(shell: Shell) -> None:
    bare = shell.place / "empty"
    bare.mkdir()
    assert "is not inside a git repository; run: git init" in _refused_in(shell, bare)
    shell.git("init", "-q", at=bare)
    assert "without a commit; make a first commit" in _refused_in(shell, bare)
    assert shell.traces() == []
    assert not shell.home.exists()


def _refused_in(shell: Shell, place: Path) -> str:
    done = shell(*RUN, cwd=place, code=3)
    assert (done.out, done.err.count("\n")) == ("", 1)
    return done.err


def test_a_child_gets_no_more_than_its_parent_has_and_no_place_above_a_limit(
    shell: Shell,
) -> None:
    parent = shell.spawn("t", "--budget", "1k", "--max-children", 1, "--max-depth", 1, "--", "true")
    spawn: list[object] = ["spawn", "c", "--parent", parent, "--budget"]
    told = shell.refused(*spawn, 1001, "--", "true", code=6)
    assert "1001" in told
    assert "1000" in told
    first = shell.plant(parent=parent, budget=100)
    cases: list[Case] = [
        (2, [*spawn[:-1], "--", "true"], "say how much of the parent's 900 tokens it gets"),
        (4, [*spawn, 100, "--", "true"], "limit"),
        (4, ["spawn", "c", "--parent", first, "--budget", 10, "--", "true"], "limit"),
    ]
    all_refused(shell, cases)
    shell("kill", parent)
    ended = f"the parent {parent[:8]} has terminated and cannot spawn"
    all_refused(shell, [(5, [*spawn, 1, "--", "true"], ended)])
    assert sorted(shell.traces()) == sorted([parent, first])
    assert shell.column("available", parent) == 1000


def test_a_server_that_is_away_is_exit_code_69(shell: Shell) -> None:
    verbs = (["ps"], RUN, ["spawn", *RUN[1:]], ["runner"], ["db", "status"], ["wait", NOBODY])
    away = ["--database", "host=127.0.0.1 port=1 user=x dbname=x"]
    all_refused(shell, [(69, [*away, *verb], "PostgreSQL does not answer") for verb in verbs])
    told = shell.refused("ps", code=69, env={"BOUGH_DATABASE_URL": away[1]})
    assert "see: bough doctor" in told


def test_what_is_wrong_in_the_address_is_exit_code_78(shell: Shell) -> None:
    wrong = {
        "nonsense://x": "use postgresql://user@host/database",
        "words without sense": "use postgresql://user@host/database",
        make_conninfo(shell.dsn, dbname="no_such_database"): "check BOUGH_DATABASE_URL",
        make_conninfo(shell.dsn, user="no_such_user"): "check",
    }
    all_refused(shell, [(78, ["--database", url, "ps"], text) for url, text in wrong.items()])
    env = {"BOUGH_DATABASE_URL": "nonsense://x"}
    assert "not understood" in shell.refused("ps", code=78, env=env)


@contextmanager
def doorkeeper() -> Generator[int]:
    """A server that takes no password, on a port of its own: it speaks as PostgreSQL does then."""
    said = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "me"\0\0'
    with socket.create_server(("127.0.0.1", 0)) as door:

        def refuse() -> None:
            visitor, _ = door.accept()
            with visitor:
                visitor.recv(8192)
                visitor.sendall(struct.pack("!cII", b"R", 8, 3))
                visitor.recv(8192)
                visitor.sendall(struct.pack("!cI", b"E", 4 + len(said)) + said)

        guard = Thread(target=refuse)
        guard.start()
        yield door.getsockname()[1]
        guard.join(BOUND_S)


def test_a_wrong_password_is_exit_code_78_and_is_not_repeated(shell: Shell) -> None:
    with doorkeeper() as port:
        url = f"postgresql://me:hunter2@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
        told = shell.refused("ps", code=78, env={"BOUGH_DATABASE_URL": url})
    assert "password authentication failed" in told
    assert "check user and password in BOUGH_DATABASE_URL" in told
    assert "hunter2" not in told


async def test_a_database_that_is_not_migrated_or_was_edited_is_exit_code_78(
    shell: Shell, server: str
) -> None:
    async with fresh_database(server) as dsn:
        at = ["--database", dsn]
        missing = "the database is not migrated"
        all_refused(shell, [(78, [*at, *verb], missing) for verb in (["ps"], RUN)])
        commands = (["db", "status"], ["db", "migrate"], ["ps"])
        pending, migrated, ps = shell.in_a_row(*[[*at, *verb] for verb in commands])
        assert (pending.code, migrated.code, ps.code, ps.out) == (1, 0, 0, "")
        assert "pending" in pending.out
        assert "applied 001" in migrated.out
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("update bough.schema_migrations set checksum = 'x' where version = 1")
        edited = "migration 001 initial_schema was edited after it was applied"
        all_refused(shell, [(78, [*at, "db", "migrate"], edited)])
        assert "changed" in shell(*at, "db", "status", code=1).out
    assert shell.traces() == []
