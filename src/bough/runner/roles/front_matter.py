"""Takes a Markdown file with YAML front matter apart: its keys and the text below.

Only plain YAML is made of the front matter, never an object. Files of other programs often hold
descriptions with a colon that YAML does not allow; those are read too. Raises ValueError.
"""

import json
import re
from typing import Any, cast

import yaml

_BLOCK = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)(.*)\Z", re.S | re.M)
_PLAIN = re.compile(r"^([A-Za-z][\w-]*):[ \t]+([^\s\"'\[{|>&*!#].*?)[ \t]*\r?$", re.M)


def split(text: str) -> tuple[dict[str, Any], str]:
    """The keys of the front matter ({} when there is none) and the text. Raises ValueError."""
    found = _BLOCK.match(text)
    if found is None:
        return {}, text.strip()
    return _keys(found[1]), found[2].strip()


def _keys(block: str) -> dict[str, Any]:
    try:
        keys = _loaded(block)
    except yaml.YAMLError as error:
        try:
            keys = _loaded(_PLAIN.sub(lambda m: f"{m[1]}: {json.dumps(m[2])}", block))
        except yaml.YAMLError:
            raise ValueError(f"its front matter is no YAML: {_line_of(error)}") from error
    if keys is None:
        return {}
    if not isinstance(keys, dict):
        raise ValueError("its front matter is no list of keys and values")
    return {str(key): value for key, value in cast("dict[object, Any]", keys).items()}


def _loaded(block: str) -> object:
    try:
        return yaml.safe_load(block)
    except (RecursionError, ValueError) as error:
        # A date like 2026-13-40, or brackets a thousand deep.
        raise yaml.YAMLError(str(error)) from error


def _line_of(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 2}"
    return str(error).splitlines()[0]
