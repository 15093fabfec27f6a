"""What every door on loopback checks of a request before anything else, and how tokens are known.

A browser that a page has turned against us sends an Origin or a foreign Host. A token is known to
the kernel by its hash only.
"""

import hashlib
from collections.abc import Mapping


def foreign(headers: Mapping[str, str], port: int) -> str | None:
    """Why a request does not come from a program on this machine; None when it does."""
    if headers.get("host", "") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        return "the Host header is not that of this door; use its address as it was given"
    if "origin" in headers or "sec-fetch-site" in headers:
        return "pages in a browser cannot act as an agent"
    return None


def hash_of(token: str) -> bytes:
    """What the kernel knows of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
