"""How calls travel between an agent's program and its runner: JSON of the same methods and rows.

A value becomes JSON by what it is and comes back by the type that the method or row declares, so
both ends need nothing but the signatures of `Client`. Raises InvalidInput for what does not fit.
"""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, cast, get_args, get_origin
from uuid import UUID

from bough.client.errors import InvalidInput

_TEXT: dict[type, Callable[[str], Any]] = {
    UUID: UUID,
    datetime: datetime.fromisoformat,
    Decimal: Decimal,
    bytes: bytes.fromhex,
}


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in cast("Sequence[Any]", value)]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, UUID | Decimal) else value


@cache
def hints(thing: Any) -> dict[str, Any]:
    """The declared types of a function's parameters and result, or of a row's fields."""
    return typing.get_type_hints(thing)


def value_of(kind: Any, found: Any, name: str) -> Any:
    """What JSON holds, as the declared type. Raises InvalidInput naming the value."""
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = [k for k in get_args(kind) if k is not type(None)]
        return None if found is None else value_of(options[0], found, name)
    if kind in (Any, None, type(None)):
        return found
    if origin in (list, Sequence):
        items = _checked(list, found, name)
        return [value_of(get_args(kind)[0], v, name) for v in items]
    if origin is dict:
        return _checked(dict, found, name)
    if is_dataclass(kind):
        return _record(kind, found, name)
    if kind in _TEXT:
        try:
            return _TEXT[kind](_checked(str, found, name))
        except (ValueError, ArithmeticError) as error:
            raise InvalidInput(f"{name} '{found[:40]}' is no {kind.__name__}") from error
    return float(found) if kind is float and type(found) is int else _checked(kind, found, name)


def _checked(kind: type[Any], found: Any, name: str) -> Any:
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise InvalidInput(f"{name} is of the wrong kind; give {kind.__name__}")
    return found


def _record(kind: Any, found: Any, name: str) -> Any:
    known = {f.name for f in fields(kind)}
    if not isinstance(found, dict) or not cast("dict[str, Any]", found).keys() <= known:
        raise InvalidInput(f"{name} has the fields {', '.join(sorted(known))}")
    declared = hints(kind)
    given = cast("dict[str, Any]", found)
    try:
        return kind(**{key: value_of(declared[key], v, key) for key, v in given.items()})
    except TypeError as error:
        raise InvalidInput(f"{name} is not complete: {error}") from error


def arguments(method: Callable[..., Any], found: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a method from JSON. Raises InvalidInput."""
    declared = hints(method)
    parameters = [p for p in inspect.signature(method).parameters if p != "self"]
    unknown = found.keys() - set(parameters)
    if unknown:
        raise InvalidInput(f"{', '.join(sorted(unknown))} unknown; there is {parameters}")
    # What may be None need not be said.
    given = {n: None for n in parameters if type(None) in get_args(declared[n])} | found
    optional = {
        n for n, p in inspect.signature(method).parameters.items() if p.default is not p.empty
    }
    return {
        name: value_of(declared[name], value, name)
        for name, value in given.items()
        if name in found or name not in optional
    }
