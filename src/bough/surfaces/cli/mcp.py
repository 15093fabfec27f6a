"""The verb mcp: Bough's words as tools for an editor or an agent program, over stdin and stdout."""

from typing import cast

import click

from bough.client.database import open_client, operator
from bough.client.remote import RemoteClient
from bough.surfaces.cli.session import asynchronous, chosen_address, connected, inside


@click.command(
    epilog="\b\nExamples:\n  claude mcp add bough -- bough mcp       in the repository\n"
    "  bough mcp                               inside an agent: as that agent\n\n"
    "At a runner the same tools are at $BOUGH_URL/mcp, with the header Authorization: Bearer "
    "$BOUGH_TOKEN."
)
@asynchronous
async def mcp() -> None:
    """Serve these verbs as MCP tools on stdin and stdout."""
    # The SDK takes seconds to import.
    from bough.surfaces.mcp.acting import as_agent, as_operator
    from bough.surfaces.mcp.server import serve_stdio

    me = inside()
    if me:
        async with connected() as client:
            remote = cast("RemoteClient", client)
            tools = cast("list[str] | None", (await remote.call("whoami", {}))["tools"])
            await serve_stdio(as_agent(remote, me), tools=tools)
        return
    dsn = await chosen_address()
    async with open_client(dsn, actor=operator(), pooled=4) as client:
        await serve_stdio(as_operator(client, dsn))
