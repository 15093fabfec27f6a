"""The MCP server: which tools there are for an agent and for a person, over stdio.

An agent whose role takes words away is not offered their tools; the door refuses them anyway.
"""

import logging
from collections.abc import Awaitable, Callable, Collection

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

from bough import __version__
from bough.client.tools import WORDS
from bough.surfaces.mcp.acting import Acting, Call, Who, told
from bough.surfaces.mcp.talk import AgentTools, OperatorTools, TalkTools
from bough.surfaces.mcp.tree import TreeTools

_READS = {"approval", "approvals", "budget", "diff", "inbox", "logs", "ps", "show", "tree", "wait"}
"""Tools that change nothing, so that an editor need not ask."""
Tool = Callable[..., Awaitable[str]]
_AGENT = """\
You are an agent of Bough: a git worktree of your own, a budget in tokens, perhaps agents below you.
spawn starts one, wait and merge bring its work back, inbox and send are your mail, report says how
far you are, finish what came out. Ids may be shortened to their first digits."""
_PERSON = """\
Bough runs trees of coding agents on a git repository, each with a token budget and a worktree.
spawn starts one (a runner must be running: bough runner), ps and tree show them, diff and merge
take their work, approvals lists what they ask of you. Ids may be shortened to first digits."""


def build(who: Who, *, agent: bool, tools: Collection[str] | None = None) -> MCPServer:
    """A server with the tools of an agent or of a person; tools: what its role leaves it."""
    server = MCPServer(
        "bough",
        version=__version__,
        instructions=_AGENT if agent else _PERSON,
        log_level="WARNING",
    )
    for name, tool in _tools(who, agent=agent).items():
        word = "budget" if name == "grant" else name
        if tools is None or word not in WORDS or name == "budget" or word in tools:
            server.add_tool(
                told(tool),
                name=name,
                description=" ".join((tool.__doc__ or "").split()),
                annotations=ToolAnnotations(
                    read_only_hint=name in _READS, destructive_hint=name == "kill"
                ),
                structured_output=False,
            )
    return server


def _tools(who: Who, *, agent: bool) -> dict[str, Tool]:
    tree, talk = TreeTools(who), TalkTools(who)
    found: list[Tool] = [tree.spawn, tree.wait, tree.ps, tree.tree, tree.show, tree.logs, tree.diff]
    found += [tree.merge, tree.budget, tree.grant, tree.kill, tree.pause, tree.resume]
    found += [talk.send, talk.reply, talk.inbox, talk.ack]
    if agent:
        own = AgentTools(who)
        found += [own.report, own.finish, own.request_approval, own.approval, own.charge]
    else:
        person = OperatorTools(who)
        found += [person.approvals, person.approve, person.reject]
    return {tool.__name__: tool for tool in found}


async def serve_stdio(acting: Acting, *, tools: Collection[str] | None = None) -> None:
    """Serve one program over stdin and stdout until it closes them."""
    # stdout is the protocol's; what is logged goes to stderr.
    logging.basicConfig(level=logging.WARNING)

    async def who(_: Call) -> Acting:
        return acting

    await build(who, agent=acting.me is not None, tools=tools).run_stdio_async()
