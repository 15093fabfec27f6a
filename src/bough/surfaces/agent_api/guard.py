"""What is checked before a request is looked at: Host, Origin, size, token.

A browser that a page has turned against us sends an Origin or a foreign Host, and has no token. A
token is known by its hash; the kernel says whose it is and what is below that agent.
"""

import json
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse

from bough.client.errors import BoughError, InvalidInput, NotYours, TokenInvalid
from bough.client.loopback import foreign

MOST_BYTES = 2_000_000
_STATUS = {1: 500, 2: 400, 3: 404, 4: 403, 5: 409, 6: 402, 69: 503, 78: 500}


def refusal(error: BoughError) -> JSONResponse:
    """An error as the answer that a program gets."""
    status = 401 if isinstance(error, TokenInvalid) else _STATUS[error.exit_code]
    return JSONResponse({"error": {"code": error.code, "message": str(error)}}, status)


def check_origin(request: Request, port: int) -> None:
    """Refuse what does not come from a program on this machine. Raises NotYours."""
    why = foreign(request.headers, port)
    if why:
        raise NotYours(why)


def token_of(request: Request) -> str:
    """The token of a request. Raises TokenInvalid."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenInvalid("there is no token; send Authorization: Bearer $BOUGH_TOKEN")
    return token.strip()


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request, {} when it is empty. Raises InvalidInput."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BYTES:
            raise InvalidInput(f"the request has more than {MOST_BYTES} bytes")
        parts.append(chunk)
    try:
        found: object = json.loads(b"".join(parts) or b"{}")
    except ValueError as error:
        raise InvalidInput(f"the request is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("the request is a JSON object")
    return cast("dict[str, Any]", found)
