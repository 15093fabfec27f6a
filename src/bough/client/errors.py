"""Every way a call can fail, one class per rule of the kernel.

A kernel rule raises one SQLSTATE of class TR; here each has one class with the same number, a
stable code for programs and the exit code of the command line. A test compares both lists.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar

import psycopg
from psycopg import errors as pg


class BoughError(Exception):
    """Something was refused or went wrong; the message is one line that says what to do."""

    sqlstate: ClassVar[str | None] = None
    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class AgentNotFound(BoughError):
    """No agent has this id."""

    sqlstate, code, exit_code = "TR001", "agent_not_found", 3


class AgentEnded(BoughError):
    """The agent has ended and takes no more calls."""

    sqlstate, code, exit_code = "TR002", "agent_ended", 5


class IllegalTransition(BoughError):
    """The agent's status does not allow this."""

    sqlstate, code, exit_code = "TR003", "illegal_transition", 5


class BudgetExceeded(BoughError):
    """More tokens were asked for than are available."""

    sqlstate, code, exit_code = "TR004", "budget_exceeded", 6


class InvalidInput(BoughError):
    """A value makes no sense: empty, out of range, or of the wrong kind."""

    sqlstate, code, exit_code = "TR005", "invalid_input", 2


class LimitReached(BoughError):
    """A limit that an ancestor set on the tree does not allow this."""

    sqlstate, code, exit_code = "TR006", "limit_reached", 4


class StaleLease(BoughError):
    """Another runner has taken the agent over; what this one says is not applied."""

    sqlstate, code, exit_code = "TR007", "stale_lease", 5


class AmbiguousId(BoughError):
    """A shortened id fits more than one agent."""

    sqlstate, code, exit_code = "TR008", "ambiguous_id", 2


class RunnerGone(BoughError):
    """The runner has lost its lease and must enrol anew."""

    sqlstate, code, exit_code = "TR009", "runner_gone", 5


class NoWorkspace(BoughError):
    """The agent has no workspace."""

    sqlstate, code, exit_code = "TR010", "no_workspace", 3


class BudgetBusy(BoughError):
    """The tokens are there but held by others; they will fit when those give back."""

    sqlstate, code, exit_code = "TR011", "budget_busy", 6


class BudgetFrozen(BoughError):
    """The account pays for nothing new until it is unfrozen."""

    sqlstate, code, exit_code = "TR012", "budget_frozen", 6


class ReservationEnded(BoughError):
    """The reservation was settled, released or expired before, in another way."""

    sqlstate, code, exit_code = "TR013", "reservation_ended", 5


class ReservationNotFound(BoughError):
    """The agent made no reservation with this key."""

    sqlstate, code, exit_code = "TR014", "reservation_not_found", 3


class MailboxFull(BoughError):
    """The recipient has too many unread messages; nothing was sent."""

    sqlstate, code, exit_code = "TR015", "mailbox_full", 5


class MessageNotFound(BoughError):
    """No message or approval has this id, or it is somebody else's."""

    sqlstate, code, exit_code = "TR016", "message_not_found", 3


class ApprovalDecided(BoughError):
    """The approval was decided before, by a person or because it expired."""

    sqlstate, code, exit_code = "TR017", "approval_decided", 5


class TokenInvalid(BoughError):
    """The token is unknown, or its agent has ended or was taken over."""

    sqlstate, code, exit_code = "TR018", "token_invalid", 4


class NotYours(BoughError):
    """An agent acts only on itself and on what is below it."""

    sqlstate, code, exit_code = "TR019", "not_yours", 4


class RuleBroken(BoughError):
    """A named constraint of the database refused the change."""

    code, exit_code = "rule_broken", 5


class ServerUnavailable(BoughError):
    """PostgreSQL cannot be reached, or went away in the middle; it is safe to try again."""

    code, exit_code = "server_unavailable", 69


class BadConfiguration(BoughError):
    """The set-up is wrong: not migrated, wrong password, a bad address."""

    code, exit_code = "bad_configuration", 78


BY_SQLSTATE: dict[str, type[BoughError]] = {
    cls.sqlstate: cls for cls in BoughError.__subclasses__() if cls.sqlstate
}


def from_code(code: str, message: str) -> BoughError:
    """The error that has this code."""
    known = {cls.code: cls for cls in BoughError.__subclasses__()}
    return known.get(code, BoughError)(message)


def from_postgres(error: psycopg.Error) -> BoughError:
    """The error of ours that stands for one of PostgreSQL's; the message stays one line."""
    diag = error.diag
    text = (diag.message_primary or str(error)).strip().splitlines()[0]
    known = BY_SQLSTATE.get(error.sqlstate or "")
    if known:
        return known(text)
    if isinstance(error, pg.IntegrityError):
        rule = (diag.constraint_name or diag.column_name or text).replace("_", " ")
        return RuleBroken(f"refused by the rule: {rule}")
    if isinstance(error, pg.DataError):
        return InvalidInput(text)
    if isinstance(error, pg.InvalidSchemaName | pg.UndefinedFunction | pg.UndefinedTable):
        return BadConfiguration(f"the database is not migrated ({text}); run: bough db migrate")
    if isinstance(error, pg.InsufficientPrivilege):
        return BadConfiguration(f"{text}; grant the role bough_program to this user")
    return _from_connection(error, text)


def _from_connection(error: psycopg.Error, text: str) -> BoughError:
    if isinstance(error, pg.InvalidAuthorizationSpecification) or "authentication failed" in text:
        return BadConfiguration(f"{text}; check user and password in BOUGH_DATABASE_URL")
    if isinstance(error, pg.InvalidCatalogName) or "does not exist" in text:
        return BadConfiguration(f"{text}; check BOUGH_DATABASE_URL")
    if isinstance(error, pg.DeadlockDetected | pg.SerializationFailure):
        return ServerUnavailable("PostgreSQL undid this call to let another pass; try it again")
    if isinstance(error, psycopg.OperationalError):
        return ServerUnavailable(f"PostgreSQL does not answer ({text}); see: bough doctor")
    return BoughError(text)


@contextmanager
def translated() -> Generator[None]:
    """Turn PostgreSQL's errors inside the block into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise from_postgres(error) from error
    except UnicodeEncodeError as error:
        # An argument of a command line that is not UTF-8 arrives with lone surrogates.
        raise InvalidInput(f"the text is not valid Unicode: {error.reason}") from error
