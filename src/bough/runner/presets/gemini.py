"""Gemini CLI and qwen-code, which grew from it: settings.json, MCP, a home of the agent's own.

Gemini CLI speaks Google's API, for which there is no gateway: what it uses is not metered.
qwen-code speaks Chat Completions.
"""

from typing import Any

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets import preset
from bough.runner.presets.preset import Preset
from bough.runner.roles.briefing import briefing

_TOOLS = {
    "edit": ("replace", "edit", "write_file"),
    "read": (
        *("read_file", "read_many_files", "list_directory"),
        *("glob", "search_file_content", "grep_search"),
    ),
    "shell": ("run_shell_command",),
    "web": ("web_fetch", "google_web_search", "web_search"),
}


def _settings(agent: Claimed, own: Own, kind: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "security": {"auth": {"selectedType": kind}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
    }
    gone = [name for kind in sorted(preset.denied(agent.program)) for name in _TOOLS[kind]]
    if gone:
        settings["tools"] = {"exclude": gone}
    url = preset.mcp_url(own)
    if url:
        settings["mcpServers"] = {
            "bough": {
                "httpUrl": url,
                "headers": {"Authorization": "Bearer $BOUGH_TOKEN"},
                "timeout": 600_000,
                "trust": True,
            }
        }
    return settings


def _gemini(agent: Claimed, own: Own) -> Launch:
    again = any(own.home.glob(".gemini/tmp/*/chats/*"))
    argv = ["gemini", "-p", preset.said(agent, again=again), "--yolo", "--skip-trust"]
    model = preset.model_of(agent)
    argv += ["--model", model] if model else []
    argv += ["--resume", "latest"] if again else []
    files = {
        "home/.gemini/settings.json": preset.document(_settings(agent, own, "gemini-api-key")),
        "home/.gemini/GEMINI.md": briefing(agent, mcp=True),
    }
    return Launch(argv, {"GEMINI_CLI_HOME": str(own.home)}, files)


GEMINI = Preset(
    name="gemini",
    program="gemini",
    install="npm install -g @google/gemini-cli",
    wires=("gemini",),
    keys=("GEMINI_API_KEY",),
    limit="none",
    mcp=True,
    resumes=True,
    exits="ends with the last byte of an HTTP status, like 147 for 403",
    deniable=frozenset(_TOOLS),
    launch=_gemini,
)


def _qwen(agent: Claimed, own: Own) -> Launch:
    again = any(own.home.glob(".qwen/projects/*/chats/*"))
    argv = ["qwen", "-p", preset.said(agent, again=again), "--yolo"]
    argv += ["--append-system-prompt", briefing(agent, mcp=True)]
    argv += ["--continue"] if again else []
    env = preset.moved_home(own) | {"OPENAI_MODEL": preset.model_of(agent) or ""}
    files = {"home/.qwen/settings.json": preset.document(_settings(agent, own, "openai"))}
    files |= preset.home_files(agent, own)
    return Launch(argv, env, files)


QWEN = Preset(
    name="qwen",
    program="qwen",
    install="npm install -g @qwen-code/qwen-code (Node 22 or newer)",
    wires=("chat",),
    keys=("OPENAI_API_KEY",),
    needs_model=True,
    mcp=True,
    resumes=True,
    deniable=frozenset(_TOOLS),
    launch=_qwen,
)
