"""Acts as one agent by asking a model: `python -m bough.runner.llm`, started by a runner.

Guarantees: what the agent ends with is told to the kernel before the program ends; when the agent
waits, the program ends and a new one goes on when it is woken. Its worktree is its current
directory. When the agent was taken over, or the runner is gone: one line, exit code 1.
"""

import asyncio
import io
import os
import sys
from pathlib import Path
from typing import cast
from uuid import UUID

from bough.client.errors import BoughError
from bough.client.remote import acting_agent
from bough.runner.journal import NotYet, PatientClient
from bough.runner.llm.conversation import Conversation, UnknownShape
from bough.runner.llm.loop import End, Loop
from bough.runner.llm.mailbox import Mailbox
from bough.runner.llm.model import Model
from bough.runner.llm.tools import Tools
from bough.runner.llm.trace import line


async def _work(client: PatientClient, agent_id: UUID) -> End:
    env, root = dict(os.environ), Path.cwd()
    granted: list[str] | None = (await client.call("whoami", {}))["tools"]
    talk = await Conversation.read(client, agent_id)
    mailbox = Mailbox(client, agent_id, talk)
    tools = Tools(client, agent_id, talk, mailbox, root=root, env=env, granted=granted)
    model = Model(client, agent_id, model=env["BOUGH_MODEL"], env=env, tools=tools.mine)
    loop = Loop(
        client=client, agent_id=agent_id, talk=talk, mailbox=mailbox, tools=tools, model=model
    )
    if talk.entries:
        line(f"goes on after entry {len(talk.entries)} of the conversation")
    role = Path(env["BOUGH_ROLE_FILE"]).read_text("utf-8")
    await loop.begin(role=role, task=env["BOUGH_TASK"], root=root)
    return await loop.run()


async def _live(agent_id: UUID) -> None:
    client = PatientClient(os.environ["BOUGH_URL"], os.environ["BOUGH_TOKEN"])
    try:
        end = await _work(client, agent_id)
    except NotYet as wait:
        await client.call("park", wait.conditions)
        line("waits")
        return
    except UnknownShape as error:
        end = End(None, str(error))
    await client.finish(
        agent_id, epoch=0, result=end.result, error_message=end.error, error_code=end.code
    )


def main() -> int:
    """Act for the agent of this process, as its environment says; the exit code."""
    agent_id = acting_agent()
    if agent_id is None or not os.environ.get("BOUGH_MODEL"):
        sys.stderr.write("a runner starts this: bough run TASK --driver llm --model NAME\n")
        return 78
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    try:
        asyncio.run(_live(agent_id))
    except BoughError as error:
        sys.stderr.write(f"bough: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
