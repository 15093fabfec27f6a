"""How a program reaches the runner to act as its agent, and models: URLs and a token of its own.

The token is made for one attempt, told to the program alone, and known to the kernel by its hash.
"""

import secrets
from collections.abc import Mapping

from bough.client.insist import insist
from bough.client.loopback import hash_of
from bough.client.rows import Claimed
from bough.client.runner_calls import RunnerClient
from bough.runner.models import ModelDoor, variables


async def door_of(
    client: RunnerClient,
    agent: Claimed,
    url: str | None,
    models: ModelDoor | None,
    environment: Mapping[str, str],
) -> dict[str, str]:
    """Variables for the program; none when no door is open. Raises StaleLease."""
    if url is None and models is None:
        return {}
    token = secrets.token_urlsafe(32)
    await insist(
        lambda: client.issue_token(agent.id, epoch=agent.lease_epoch, token_hash=hash_of(token))
    )
    found = {"BOUGH_TOKEN": token} | ({"BOUGH_URL": url} if url else {})
    return found | (variables(models, token, environment) if models else {})
