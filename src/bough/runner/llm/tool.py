"""What a tool is: a name, arguments with a schema, and what it does; and how a call is understood.

Whatever a tool refuses or a call has wrong goes back to the model as one line; it never ends the
program. Arguments are checked before anything is done.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError


class Refusal(Exception):
    """The tool did not do it; one line for the model."""


class Malformed(Exception):
    """The call cannot be understood; one line for the model."""


class Arguments(BaseModel):
    """The arguments of a tool: what is not declared is refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Gave:
    """What a tool gave; mail that its text holds is acknowledged when it is recorded."""

    text: str
    acknowledged: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool. `act` gets the checked arguments and the call's key.

    needs: what a role must leave for it to be there; None: it always is. changes: it changes what
    the program cannot look up again, so that a call that was cut is not simply repeated.
    """

    name: str
    text: str
    arguments: type[Arguments]
    act: Callable[[Any, UUID], Awaitable[Gave]]
    needs: str | None = None
    changes: bool = False

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        for found in cast("dict[str, dict[str, Any]]", schema.get("properties", {})).values():
            found.pop("title", None)
        schema.setdefault("properties", {})
        return schema

    def understood(self, given: object) -> Arguments:
        """The arguments of a call. Raises Malformed."""
        try:
            found: object = json.loads(given or "{}") if isinstance(given, str) else given
        except ValueError as error:
            raise Malformed(f"the arguments of {self.name} are no JSON: {error}") from error
        if not isinstance(found, dict):
            raise Malformed(f"the arguments of {self.name} are no JSON object")
        try:
            return self.arguments.model_validate(found)
        except ValidationError as error:
            wrong = "; ".join(_said(e["loc"], e["msg"]) for e in error.errors()[:3])
            names = ", ".join(self.arguments.model_fields)
            raise Malformed(f"{self.name} has the arguments {names}; {wrong}") from error


def _said(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, place))}: {message}" if place else message
