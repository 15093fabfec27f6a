"""Server-sent events cut out of a stream, bytes as they came.

An event ends with an empty line; what is not whole yet stays in `rest`. Something that never ends
is handed on in pieces of 32 MiB, which no meter understands: such a call is charged in full.
"""

import re

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_MOST_BYTES = 32 * 2**20


class Events:
    """Takes chunks, gives whole events."""

    def __init__(self) -> None:
        self.rest = b""
        self._seen = 0

    def take(self, chunk: bytes) -> list[bytes]:
        """The events that this chunk makes whole, each with the empty line that ends it."""
        buffer = self.rest + chunk
        found: list[bytes] = []
        start, at = 0, max(self._seen - 3, 0)
        while end := _END.search(buffer, at):
            found.append(buffer[start : end.end()])
            start = at = end.end()
        self.rest = buffer[start:]
        self._seen = len(self.rest)
        if self._seen > _MOST_BYTES:
            found.append(self.rest)
            self.rest, self._seen = b"", 0
        return found
