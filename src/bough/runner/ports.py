"""Ports for an agent's servers: free on this machine's loopback and no other agent's.

The kernel says whose a port is, so agents of several runners never share one. When it breaks:
LimitReached (too few are left), StaleLease.
"""

import contextlib
import random
import socket

from bough.client.rows import Claimed
from bough.client.runner_calls import RunnerClient

_FIRST, _LAST = 20_000, 32_767  # below the ports that systems give to outgoing connections
_MORE = 200  # candidates beyond what is asked for: others hold some of them


def _free(count: int) -> list[int]:
    """Ports that nothing listens on now, from a random place on."""
    start = random.randrange(_FIRST, _LAST + 1)  # noqa: S311 - spreads, hides nothing
    found: list[int] = []
    for port in (*range(start, _LAST + 1), *range(_FIRST, start)):
        if len(found) == count:
            break
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


async def take_ports(client: RunnerClient, agent: Claimed, count: int) -> list[int]:
    """So many ports for an agent until it ends. Raises LimitReached, StaleLease."""
    taken = await client.take_ports(
        agent.id,
        epoch=agent.lease_epoch,
        host=socket.gethostname(),
        count=count,
        candidates=_free(count + _MORE),
    )
    return [row.port for row in taken]
