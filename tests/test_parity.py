"""One word in five places: what the kernel offers and what the client calls are the same list."""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

from conftest import Kernel

from bough import kernel as bough_kernel
from bough.client import (
    budget_rows,
    budgets,
    conversations,
    errors,
    mail,
    mail_rows,
    merges,
    rows,
    runner_calls,
    steps,
    work,
    work_rows,
)
from bough.client import client as client_module
from bough.client.client import Client, Spawn
from bough.client.runner_calls import RunnerClient

SQL = "\n".join(
    path.read_text()
    for path in sorted(Path(bough_kernel.__file__).parent.glob("*/*.sql"))
    if not path.stem.endswith(".rollback")
)

READS = {"show", "ps", "tree", "runners"}
"""Methods that read a view; there is no function to call."""

ELSEWHERE = {"listen", "verify"}
"""Functions that hints.py and kernel.verify call; there is no method."""

ROWS: dict[str, type[Any]] = {
    "spawn": rows.Spawned,
    "claim": rows.Claimed,
    "heartbeat": rows.Held,
    "pause": rows.Changed,
    "resume": rows.Changed,
    "terminate": rows.Terminated,
    "complete": rows.Finish,
    "fail": rows.Finish,
    "strays": rows.Stray,
    "take_ports": rows.Port,
    "logs": rows.LogLine,
    "events": rows.Event,
    "news": rows.Version,
    "send": mail_rows.Sent,
    "send_many": mail_rows.SentMany,
    "broadcast": mail_rows.Delivered,
    "receive": mail_rows.Message,
    "inbox": mail_rows.Mail,
    "thread": mail_rows.Said,
    "park": mail_rows.Parked,
    "purge_mail": mail_rows.Count,
    "request_approval": mail_rows.Requested,
    "approvals": mail_rows.Approval,
    "decide": mail_rows.Decided,
    "admit": mail_rows.Admitted,
    "reserve": budget_rows.Reserved,
    "spender": budget_rows.Spender,
    "settle": budget_rows.Charged,
    "release": budget_rows.Released,
    "charge": budget_rows.Charged,
    "expire": budget_rows.Expired,
    "grant_budget": budget_rows.Granted,
    "transfer_budget": budget_rows.Transferred,
    "freeze_budget": budget_rows.Id,
    "unfreeze_budget": budget_rows.Id,
    "account": budget_rows.Account,
    "ledger": budget_rows.Movement,
    "statistics": budget_rows.Spending,
    "record_step": rows.StepRecorded,
    "steps": rows.Step,
    "files": work_rows.ChangedFile,
    "subtree_work": work_rows.Work,
    "kept_workspaces": work_rows.KeptWorkspace,
    "queue_merge": merges.Queued,
    "merge_queue": merges.InLine,
    "plan_merges": merges.Planned,
    "withdraw_merge": merges.Withdrawn,
    "merges": merges.Merge,
    "append_conversation": rows.Appended,
    "conversation": rows.Entry,
}


def methods() -> dict[str, Callable[..., Any]]:
    found = inspect.getmembers(RunnerClient, inspect.iscoroutinefunction)
    return {name: method for name, method in found if not name.startswith("_")}


async def functions(kernel: Kernel) -> dict[str, tuple[list[str], list[str]]]:
    """The parameters and result columns of every function that bough_program may call."""
    cur = await kernel.conn.execute(
        "select proname, coalesce(proargmodes::text[], '{}'), coalesce(proargnames, '{}')"
        " from pg_proc where pronamespace = 'bough_api'::regnamespace"
        " and has_function_privilege('bough_program', oid, 'execute')"
    )
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name, modes, names in await cur.fetchall():
        kinds = modes or ["i"] * len(names)
        pairs = list(zip(kinds, names, strict=True))
        assert name not in found, f"{name} is overloaded"
        found[name] = ([n for k, n in pairs if k == "i"], [n for k, n in pairs if k == "t"])
    return found


async def test_every_function_of_the_kernel_has_a_method_and_the_other_way_round(
    kernel: Kernel,
) -> None:
    assert (await functions(kernel)).keys() - ELSEWHERE == methods().keys() - READS
    assert methods().keys() >= READS
    assert not [name for name in await functions(kernel) if name.startswith("_")]


async def test_spawn_takes_the_same_values_in_both_languages(kernel: Kernel) -> None:
    parameters, _ = (await functions(kernel))["spawn"]
    assert sorted(parameters) == sorted(f.name for f in fields(Spawn))


def statements() -> list[tuple[str, str]]:
    """Every statement in the client's modules, with the method it stands in."""
    found: list[tuple[str, str]] = []
    for module in (
        *(client_module, budgets, conversations, mail, merges, steps, work, runner_calls),
    ):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.AsyncFunctionDef):
                found += [(node.name, text) for text in _texts(node)]
    return found


def _texts(method: ast.AsyncFunctionDef) -> list[str]:
    constants = [n.value for n in ast.walk(method) if isinstance(n, ast.Constant)]
    return [c for c in constants if isinstance(c, str) and "bough_api." in c]


async def test_every_call_of_the_client_names_a_function_with_just_these_parameters(
    kernel: Kernel,
) -> None:
    known = await functions(kernel)
    called: set[str] = set()
    for method, text in statements():
        call = re.search(r"bough_api\.(\w+)\((.*)\)$", text, re.DOTALL)
        if call is None:
            assert method in READS, text
            continue
        name, arguments = call.groups()
        assert name == method
        given = [a.partition("=>")[0].strip() for a in arguments.split(",") if "=>" in a]
        count = len(re.findall(r"%(?:\(\w+\))?s", arguments))
        parameters = known[name][0]
        assert count == len(parameters), (text, parameters)
        assert not given or given == parameters
        called.add(name)
        # The server resolves names, types and casts when it prepares the call.
        for number in range(1, count + 1):
            text = re.sub(r"%(?:\(\w+\))?s", f"${number}", text, count=1)
        await kernel.conn.execute(f"prepare call_{name} as {text}".encode())
    assert called == methods().keys() - READS


async def test_result_columns_are_the_fields_of_the_row_in_order(kernel: Kernel) -> None:
    known = await functions(kernel)
    without_row = {name for name, (_, columns) in known.items() if columns} - ROWS.keys()
    assert without_row == {"find", "verify"}
    for name, row in ROWS.items():
        assert known[name][1] == [f.name for f in fields(row)], name


VIEWS: dict[str, type[Any]] = {"agent_details": rows.Agent, "runner_details": rows.Runner}


async def test_view_columns_are_the_fields_of_the_row_in_order(kernel: Kernel) -> None:
    cur = await kernel.conn.execute(
        "select c.relname, array_agg(a.attname::text order by a.attnum) from pg_class c"
        " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " where c.relnamespace = 'bough_api'::regnamespace and c.relkind = 'v' group by 1"
    )
    columns = dict(await cur.fetchall())
    assert columns == {view: [f.name for f in fields(row)] for view, row in VIEWS.items()}


PYTHON: dict[str, type[Any]] = {
    "uuid": UUID,
    "text": str,
    "bigint": int,
    "integer": int,
    "boolean": bool,
    "real": float,
}


async def test_view_columns_have_the_types_of_the_fields(kernel: Kernel) -> None:
    cur = await kernel.conn.execute(
        "select c.relname, a.attname,"
        " format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null)"
        " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " join pg_type t on t.oid = a.atttypid"
        " where c.relnamespace = 'bough_api'::regnamespace and c.relkind = 'v'"
    )
    compared = 0
    for view, column, kind in await cur.fetchall():
        hint = get_type_hints(VIEWS[view])[column]
        types = set(get_args(hint)) if get_origin(hint) is UnionType else {hint}
        if kind in PYTHON:
            assert PYTHON[kind] in types, (view, column, kind, hint)
            compared += 1
    assert compared > 30


def test_every_sqlstate_of_the_kernel_is_one_class_and_the_other_way_round() -> None:
    raised = set(re.findall(r"errcode = '(\w+)'", SQL))
    assert raised == errors.BY_SQLSTATE.keys()
    assert all(re.fullmatch(r"TR\d{3}", state) for state in raised)
    assert SQL.count("raise exception") == SQL.count("errcode = 'TR")
    classes = [c for c in errors.BoughError.__subclasses__() if c.sqlstate]
    assert len(classes) == len(errors.BY_SQLSTATE)


def test_every_error_has_a_code_and_a_meaning_of_its_own() -> None:
    classes = errors.BoughError.__subclasses__()
    assert len({c.code for c in classes}) == len(classes)
    assert all(c.__doc__ for c in classes)


def test_client_methods_say_what_they_do() -> None:
    assert [n for n, m in methods().items() if not m.__doc__] == []
    assert issubclass(RunnerClient, Client)
