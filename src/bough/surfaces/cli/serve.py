"""The verb serve: a gateway of its own, for runners that are told its address."""

import asyncio
import errno
import logging
import os
import signal
from collections.abc import Callable

import click

from bough.client.errors import BadConfiguration
from bough.gateway.settings import taken
from bough.surfaces.cli import render
from bough.surfaces.cli.session import asynchronous, chosen_address, json_option

PORT = 8484


@click.command(
    epilog="\b\nExamples:\n"
    "  bough serve                        the key: ANTHROPIC_API_KEY\n"
    "  BOUGH_OPENAI_URL=http://127.0.0.1:11434/v1 bough serve --port 9000\n\n"
    "Runners find it by BOUGH_GATEWAY_URL; without that, they serve their own agents."
)
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535))
@json_option
@asynchronous
async def serve(port: int, as_json: bool) -> None:
    """Meter the model calls of agents, on loopback, until stopped."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    settings = taken(os.environ)
    if not settings.upstreams:
        raise BadConfiguration(
            "there is no provider to forward to; set ANTHROPIC_API_KEY or OPENAI_API_KEY, or "
            "BOUGH_ANTHROPIC_URL or BOUGH_OPENAI_URL for a server that needs no key"
        )
    # Starting a server is slow to import, and most commands start none.
    from bough.surfaces.model_door import serving

    dsn = await chosen_address()
    try:
        async with serving(dsn, settings, port=port) as url:
            providers = sorted(settings.upstreams)
            if as_json:
                render.print_json({"url": url, "providers": providers})
            click.echo(
                f"gateway for {' and '.join(providers)} at {url}; "
                f"for runners: export BOUGH_GATEWAY_URL={url}",
                err=True,
            )
            await _stopped()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise BadConfiguration(
            f"port {port} is taken; give another: bough serve --port N"
        ) from error


async def _stopped() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended: Callable[[], None] = stop.set
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored, and so it stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, ended)
    await stop.wait()
