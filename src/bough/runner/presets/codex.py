"""Codex CLI: OpenAI's Responses API, MCP, sessions that resume, clean stops at a limit.

Settings and sessions are in the agent's own CODEX_HOME. A provider of our own is named there, since
the built-in one tries web sockets first; its web search runs at the provider and cannot be bounded,
so it is off.
"""

import json

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets import preset
from bough.runner.presets.preset import Preset
from bough.runner.roles.briefing import briefing


def _toml(text: str) -> str:
    # A JSON string is a TOML string, but for this one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _settings(agent: Claimed, own: Own) -> str:
    base = own.env.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    lines = [
        'model_provider = "bough"',
        f"developer_instructions = {_toml(briefing(agent, mcp=True))}",
        'web_search = "disabled"',
        "check_for_update_on_startup = false",
        # A login shell would set PATH anew, and lose the way to bough.
        "allow_login_shell = false",
        "",
        "[analytics]",
        "enabled = false",
        "",
        "[shell_environment_policy]",
        'inherit = "all"',
        "ignore_default_excludes = true",
        "",
        "[model_providers.bough]",
        'name = "bough"',
        f"base_url = {_toml(base)}",
        f'env_key = "{_key(own)}"',
        'wire_api = "responses"',
    ]
    url = preset.mcp_url(own)
    if url:
        lines += [
            "",
            "[mcp_servers.bough]",
            f"url = {_toml(url)}",
            'bearer_token_env_var = "BOUGH_TOKEN"',
            "required = true",
            "tool_timeout_sec = 3600",
            'default_tools_approval_mode = "approve"',
        ]
    return "\n".join(lines) + "\n"


def _key(own: Own) -> str:
    return "OPENAI_API_KEY" if own.env.get("OPENAI_API_KEY") else "CODEX_API_KEY"


def _launch(agent: Claimed, own: Own) -> Launch:
    home = own.home / ".codex"
    again = any(home.glob("sessions/**/rollout-*.jsonl"))
    argv = ["codex", "exec", "--skip-git-repo-check"]
    if "edit" in preset.denied(agent.program):
        argv += ["--sandbox", "read-only"]
    else:
        argv += ["--dangerously-bypass-approvals-and-sandbox"]
    model = preset.model_of(agent)
    if model:
        argv += ["--model", model]
    argv += ["resume", "--last"] if again else []
    argv += [preset.said(agent, again=again)]
    files = {"home/.codex/config.toml": _settings(agent, own)}
    return Launch(argv, {"CODEX_HOME": str(home)}, files)


CODEX = Preset(
    name="codex",
    program="codex",
    install="npm install -g @openai/codex",
    wires=("responses",),
    keys=("OPENAI_API_KEY", "CODEX_API_KEY"),
    mcp=True,
    resumes=True,
    deniable=frozenset({"edit", "web"}),
    launch=_launch,
)
