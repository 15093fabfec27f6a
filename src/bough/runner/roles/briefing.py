"""What a program is told besides its task: its role, and how to act as an agent of Bough.

`briefing` is for programs that know nothing of Bough; `project_notes` is the text that a repository
keeps for agents, for loops that do not read it by themselves.
"""

from pathlib import Path

from bough.client.rows import Claimed

MOST_NOTE_BYTES = 32_768
_NOTES = ("AGENTS.md", "CLAUDE.md")
_HOW = """\
# You are an agent of Bough

You work alone in a git worktree of your own, on a branch of your own; nobody types answers. Your
task is done when you stop; all files you leave are committed. You have {budget} tokens, shared with
every agent you start; a refusal that names the budget is final, so stop and say what is done.
{how}
- `bough report --progress 0.5 "half of the tests pass"`: say now and then how far you are.
- `bough inbox`, `bough ack MESSAGE`, `bough send parent "text"`: your mail; also to `operator`, a
  person.
- `bough spawn "task" --role implementer --budget 30k`: start an agent below you, paid by you; then
  `bough wait ID`, `bough diff ID`, `bough merge ID` bring its work into your branch.
- `bough request-approval "question" --wait`: ask a person before what cannot be undone.
- `bough finish --result '{{"summary": "what you did"}}'`: say at the end what came out, or
  `bough finish --error "why not"` if you could not do it.
"""
_BY_MCP = "You act through the tools of the server `bough`, or the same words in a shell:"
_BY_SHELL = "You act through the command `bough` in a shell:"


def prompt_of(agent: Claimed) -> str:
    """The text of the agent's role; empty when its role is a bare name."""
    prompt = agent.program.get("prompt")
    return prompt if isinstance(prompt, str) else ""


def briefing(agent: Claimed, *, mcp: bool) -> str:
    """The role's text and how to act, for the system prompt of a program."""
    how = _HOW.format(budget=f"{agent.allocated:,}", how=_BY_MCP if mcp else _BY_SHELL)
    prompt = prompt_of(agent)
    return f"{prompt}\n\n{how}" if prompt else how


def project_notes(directory: Path, *, most_bytes: int = MOST_NOTE_BYTES) -> str:
    """The text of AGENTS.md, else of CLAUDE.md, cut at most_bytes; empty when there is none."""
    for name in _NOTES:
        file = directory / name
        try:
            # A link could lead out of the worktree, to what the agent must not be told.
            if not file.is_file() or not file.resolve().is_relative_to(directory.resolve()):
                continue
            with file.open("rb") as stream:
                found = stream.read(most_bytes + 1)
        except OSError:
            continue
        text = found[:most_bytes].decode("utf-8", "ignore")
        return (
            text if len(found) <= most_bytes else f"{text}\n[{name} is cut at {most_bytes} bytes]"
        )
    return ""
