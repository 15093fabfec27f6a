"""What the scripted provider says to real coding agents: one command, then a last word.

A task with the word "forever" gets one command after the other and never a last word. It is found
by looking: which tool of the program runs commands, and whether one has run already.
"""

import json
import shlex
from typing import Any

from provider_wires import Call, Said

COMMAND = "echo scripted > made.txt; git add -A; git commit -q -m made; echo committed"
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
WORDS = [f"thought{n} " for n in range(150)]


def says(path: str, body: Any, tokens: int) -> Said:
    tool = tool_of(body)
    said = json.dumps(body.get("messages") or body.get("input"))
    ran = sum(said.count(mark) for mark in ('"tool_result"', '"role": "tool"', '_call_output"'))
    if tool is None:
        return Said(text=["A ", "title. "][:tokens])
    forever = "forever" in said
    if forever:
        return Said(text=WORDS[: max(tokens - 1, 0)], call=call_of(tool, f"echo step {ran}"))
    if not ran:
        return Said(text=["First ", "I ", "write. "], call=call_of(tool, COMMAND))
    if path.endswith("/chat/completions"):
        # mini-swe-agent ends by a command.
        return Said(text=["All ", "done. "], call=call_of(tool, SUBMIT))
    return Said(text=["All ", "done. "])


def tool_of(body: Any) -> Any:
    """The tool that runs commands, if the program offers one."""
    tools: list[Any] = body.get("tools") or []
    for tool in tools:
        name: Any = tool.get("name") or tool.get("function", {}).get("name")
        if name in ("Bash", "bash", "shell", "shell_command", "exec_command", "local_shell"):
            return name
    return None


def call_of(name: str, command: str) -> Call:
    if name == "exec_command":
        return Call(name, {"cmd": command})
    if name in ("shell", "local_shell"):
        return Call(name, {"command": ["sh", "-c", command]})
    if name == "Bash":
        return Call(name, {"command": command, "description": shlex.split(command)[0]})
    return Call(name, {"command": command})
