"""Drives a program that speaks the Agent Client Protocol: `--driver acp -- opencode acp`.

It is itself the agent's program: starts the other one, gives it the task, the role and Bough's
tools, allows what it asks for (nobody is there to answer), prints what it says, and ends with 0
only when it ended its turn by itself. Its session is noted in the agent's directory; started
again, it is loaded if the program can. When it breaks: one line on stderr and exit code 1.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import acp
from acp import schema

from bough import __version__

_SESSION = "acp-session"
_MOST_LINE_BYTES = 8 << 20
_GO_ON = "You were interrupted or have waited, and are started again. Go on with your task:\n\n"


class _Listening:
    """Prints what the program says and does, and allows what it asks for."""

    async def request_permission(
        self,
        session_id: str,
        tool_call: schema.ToolCallUpdate,
        options: list[schema.PermissionOption],
        **kwargs: Any,
    ) -> schema.RequestPermissionResponse:
        """The first way to allow it; cancelled when there is none."""
        del session_id, tool_call, kwargs
        for option in options:
            if option.kind.startswith("allow"):
                chosen = schema.AllowedOutcome(outcome="selected", option_id=option.option_id)
                return schema.RequestPermissionResponse(outcome=chosen)
        return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))

    async def session_update(self, session_id: str, update: Any, **kwargs: Any) -> None:
        """Text as it comes, a line for each tool."""
        del session_id, kwargs
        if isinstance(update, schema.AgentMessageChunk):
            print(getattr(update.content, "text", ""), end="", flush=True)  # noqa: T201
        elif isinstance(update, schema.ToolCallStart):
            print(f"\n[{update.title}]", flush=True)  # noqa: T201


def _servers(can: schema.AgentCapabilities | None) -> list[Any]:
    """Bough's tools, by HTTP where the program can, else by the command."""
    url, token = os.environ.get("BOUGH_URL"), os.environ.get("BOUGH_TOKEN")
    if not url or not token:
        return []
    if can and can.mcp_capabilities and can.mcp_capabilities.http:
        header = schema.HttpHeader(name="Authorization", value=f"Bearer {token}")
        server = schema.HttpMcpServer(type="http", name="bough", url=f"{url}/mcp", headers=[header])
        return [server]
    return [schema.McpServerStdio(name="bough", command="bough", args=["mcp"], env=[])]


async def _session(
    program: Any, can: schema.AgentCapabilities | None, kept: Path
) -> tuple[str, bool]:
    """The session to go on with, and whether it was there before."""
    here, servers = str(Path.cwd()), _servers(can)
    if kept.is_file() and can and can.load_session:
        before = kept.read_text()
        await program.load_session(cwd=here, session_id=before, mcp_servers=servers)
        return before, True
    made = await program.new_session(cwd=here, mcp_servers=servers)
    kept.write_text(made.session_id)
    return made.session_id, False


async def drive(own: Path, argv: list[str]) -> int:
    """Run the program through one turn; the exit code."""
    # It has no files and terminals to lend: the program works in the worktree itself.
    listening: Any = _Listening()
    begin = acp.spawn_agent_process(
        listening,
        *argv,
        env=dict(os.environ),
        transport_kwargs={"limit": _MOST_LINE_BYTES, "stderr": None},
    )
    async with begin as (program, _):
        me = schema.Implementation(name="bough", version=__version__)
        begun = await program.initialize(acp.PROTOCOL_VERSION, client_info=me)
        session, again = await _session(program, begun.agent_capabilities, own / _SESSION)
        task = os.environ.get("BOUGH_TASK", "")
        told = _GO_ON + task if again else f"{(own / 'briefing.md').read_text()}\n# Task\n\n{task}"
        ended = await program.prompt(session_id=session, prompt=[acp.text_block(told)])
    print()  # noqa: T201
    if ended.stop_reason != "end_turn":
        print(f"{argv[0]} stopped: {ended.stop_reason}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def main() -> None:
    """Drive the program that the arguments name, after the agent's directory."""
    own, *argv = sys.argv[1:]
    try:
        code = asyncio.run(drive(Path(own), argv))
    except (acp.RequestError, OSError, ConnectionError) as error:
        print(f"{argv[0]} failed: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
