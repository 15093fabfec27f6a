"""Paths of files as text that a database and a terminal can hold, and back.

git's paths are bytes without NUL. Those that are UTF-8 without control characters stay as they
are; any other, and one that begins with a quotation mark, is written in git's quoted form,
`"caf\\351"`, so nothing is lost and nothing is ambiguous. In Python a path is text with
surrogateescape.
"""

import re

_LETTERS = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_BYTES = {letter: byte for byte, letter in _LETTERS.items()}
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPED = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)


def text_of(path: str) -> str:
    """The path as text: itself, or in git's quoted form."""
    if not _HARMFUL.search(path) and not path.startswith('"'):
        return path
    return f'"{"".join(map(_quoted, path))}"'


def _quoted(character: str) -> str:
    if not _HARMFUL.match(character) and character not in '"\\':
        return character
    number = ord(character)
    if number in _LETTERS:
        return f"\\{_LETTERS[number]}"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def path_of(text: str) -> str:
    """The path that `text_of` wrote."""
    if not text.startswith('"'):
        return text
    found = bytearray()
    end = 0
    body = text[1:-1]
    for match in _ESCAPED.finditer(body):
        found += body[end : match.start()].encode()
        found.append(_BYTES[match[1]] if match[1] in _BYTES else int(match[1], 8))
        end = match.end()
    return (found + body[end:].encode()).decode("utf-8", "surrogateescape")
