"""A small program that speaks the Agent Client Protocol: it asks, writes a file, and says how.

Its task is a word: "write", "refuse" (it stops by refusal) or "break" (it answers with an error).
"""

import asyncio
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import acp
from acp import schema


class Program:
    """The agent's side of the protocol."""

    def on_connect(self, conn: Any) -> None:
        self.client = conn

    async def initialize(self, protocol_version: int, **kwargs: Any) -> schema.InitializeResponse:
        can = schema.AgentCapabilities(
            load_session=True,
            mcp_capabilities=schema.McpCapabilities(http="http" in sys.argv),
        )
        return schema.InitializeResponse(protocol_version=protocol_version, agent_capabilities=can)

    async def new_session(
        self, cwd: str, mcp_servers: list[Any] | None = None, **kwargs: Any
    ) -> schema.NewSessionResponse:
        self.servers = mcp_servers or []
        return schema.NewSessionResponse(session_id=str(uuid4()))

    async def load_session(
        self, cwd: str, session_id: str, mcp_servers: list[Any] | None = None, **kwargs: Any
    ) -> schema.LoadSessionResponse:
        self.servers = mcp_servers or []
        await self._say(session_id, f"loaded {session_id}\n")
        return schema.LoadSessionResponse()

    async def prompt(
        self, session_id: str, prompt: list[Any], **kwargs: Any
    ) -> schema.PromptResponse:
        told = prompt[0].text
        if told.endswith("break"):
            raise acp.RequestError(-32603, "the budget is used up")
        options = [
            schema.PermissionOption(option_id="n", name="no", kind="reject_once"),
            schema.PermissionOption(option_id="y", name="yes", kind="allow_once"),
        ]
        call = schema.ToolCallUpdate(tool_call_id="1", title="write")
        asked = await self.client.request_permission(
            session_id=session_id, tool_call=call, options=options
        )
        Path("written.txt").write_text(asked.outcome.option_id)
        kinds = [f"{type(s).__name__} {getattr(s, 'url', '')}" for s in self.servers]
        await self._say(session_id, f"{session_id} {kinds}\n{told}\n")
        if "hold" in told and "again" not in told:
            Path(sys.argv[-1]).touch()
            await asyncio.sleep(1000)
        return schema.PromptResponse(
            stop_reason="refusal" if told.endswith("refuse") else "end_turn"
        )

    async def _say(self, session_id: str, text: str) -> None:
        chunk = schema.AgentMessageChunk(
            session_update="agent_message_chunk", content=acp.text_block(text)
        )
        await self.client.session_update(session_id=session_id, update=chunk)


if __name__ == "__main__":
    program: Any = Program()
    asyncio.run(acp.run_agent(program))
