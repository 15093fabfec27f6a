"""Serves an HTTP application on a loopback port, inside the event loop of the command that does.

It lives as long as the block that opens it; a request that is under way when it closes is cut.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    """Leaves signals to the command that runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def served(make: Callable[[int], ASGIApp], *, port: int = 0) -> AsyncGenerator[str]:
    """Serve what `make` gives for the port, 0: any that is free; the address.

    Raises OSError when the port is taken.
    """
    # Our applications tell their own failures; this would tell every answer that is cut on purpose.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            make(port),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            with contextlib.suppress(Exception):
                await serving
