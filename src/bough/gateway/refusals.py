"""What a program is told when a call is refused, in the shape and with the status of its wire.

The status of a refusal that must stop a program depends on the wire: what one client obeys another
retries for ever. 402 stops those of Messages, 400 those of Responses, 403 those of Chat. Every
refusal that a repeat would not change says so by `x-should-retry: false`.
"""

import json
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "budget", "set_up", "token", "foreign", "input", "encoding", "too_large", "nowhere",
    "timeout", "cut", "unreachable", "away", "defect",
]  # fmt: skip
Shape = Literal["messages", "chat", "responses"]

_STATUS: dict[Kind, int] = {
    "token": 401,
    "foreign": 403,
    "input": 400,
    "encoding": 415,
    "too_large": 413,
    "nowhere": 404,
    "timeout": 504,
    "cut": 502,
    "unreachable": 502,
    "away": 503,
    "defect": 500,
}
_STOPS: dict[Shape, int] = {"messages": 402, "chat": 403, "responses": 400}
_SET_UP: dict[Shape, int] = {"messages": 403, "chat": 403, "responses": 400}
_MAY_HELP: set[Kind] = {"cut", "unreachable", "away", "defect"}
_TYPES: dict[Kind, str] = {
    "budget": "billing_error",
    "set_up": "permission_error",
    "token": "authentication_error",
    "foreign": "permission_error",
    "input": "invalid_request_error",
    "encoding": "invalid_request_error",
    "too_large": "request_too_large",
    "nowhere": "not_found_error",
    "timeout": "timeout_error",
}
_CODES: dict[Kind, str] = {
    "budget": "budget_exhausted",
    "set_up": "gateway_not_set_up",
    "token": "invalid_api_key",
    "too_large": "request_too_large",
    "nowhere": "not_found",
}


class Refused(Exception):
    """A call that is not made, or whose answer cannot be given; one line says why."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer as it goes to the program."""

    status: int
    headers: dict[str, str]
    body: bytes


def told(refused: Refused, shape: Shape) -> Answer:
    """A refusal as the clients of this wire understand it."""
    kind = refused.kind
    if kind == "budget":
        status = _STOPS[shape]
    else:
        status = _SET_UP[shape] if kind == "set_up" else _STATUS[kind]
    headers = {"content-type": "application/json"}
    if kind not in _MAY_HELP:
        headers["x-should-retry"] = "false"
    if shape == "messages":
        error = {"type": _TYPES.get(kind, "api_error"), "message": refused.message}
        found: dict[str, object] = {"type": "error", "error": error}
    else:
        type_ = "server_error" if status >= 500 else "invalid_request_error"
        code = _CODES.get(kind)
        found = {"error": {"message": refused.message, "type": type_, "param": None, "code": code}}
    return Answer(status, headers, json.dumps(found).encode())
