"""opencode and pi: programs that speak several APIs, by the model that is asked for.

opencode's files are below XDG directories of the agent's own, pi's in its PI_CODING_AGENT_DIR.
pi has no MCP and ends with 0 when it was refused.
"""

from typing import Any

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets import preset
from bough.runner.presets.preset import Preset
from bough.runner.roles.briefing import briefing

_PERMISSIONS = {"edit": ("edit",), "shell": ("bash",), "web": ("webfetch", "websearch")}
_PI_TOOLS = {"edit": ("edit", "write"), "read": ("read", "grep", "find", "ls"), "shell": ("bash",)}
_PI_WIRES = {"anthropic": "anthropic-messages", "openai": "openai-completions"}


def _opencode_settings(agent: Claimed, own: Own, model: str) -> dict[str, Any]:
    asked = preset.upstream(own, model)
    anthropic = asked.kind == "anthropic"
    provider = {
        "npm": "@ai-sdk/anthropic" if anthropic else "@ai-sdk/openai-compatible",
        "name": "bough",
        "options": {
            "baseURL": f"{asked.url}/v1" if anthropic else asked.url,
            "apiKey": f"{{env:{asked.key}}}",
        },
        "models": {model: {"name": model, "limit": {"context": 200_000, "output": 16_384}}},
    }
    gone = {p: "deny" for k in preset.denied(agent.program) for p in _PERMISSIONS[k]}
    settings: dict[str, Any] = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {"bough": provider},
        "model": f"bough/{model}",
        "small_model": f"bough/{model}",
        "instructions": [str(own.directory / preset.BRIEFING)],
        "permission": {"edit": "allow", "bash": "allow", "webfetch": "allow"} | gone,
        "share": "disabled",
        "autoupdate": False,
    }
    url = preset.mcp_url(own)
    if url:
        settings["mcp"] = {
            "bough": {
                "type": "remote",
                "url": url,
                "oauth": False,
                "timeout": 600_000,
                "headers": {"Authorization": "Bearer {env:BOUGH_TOKEN}"},
            }
        }
    return settings


def _opencode(agent: Claimed, own: Own) -> Launch:
    model = preset.model_of(agent) or ""
    again = (own.home / ".local/share/opencode").is_dir()
    argv = ["opencode", "run", "--model", f"bough/{model}"]
    argv += ["--continue"] if again else []
    argv += [preset.said(agent, again=again)]
    places = {"CONFIG": ".config", "DATA": ".local/share", "STATE": ".local/state"}
    env = {f"XDG_{name}_HOME": str(own.home / path) for name, path in places.items()}
    env |= {
        "XDG_CACHE_HOME": str(own.home / ".cache"),
        # It installs the part that speaks to the model, through npm.
        "npm_config_cache": str(own.home / ".npm"),
        "OPENCODE_CONFIG": str(own.directory / "opencode.json"),
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
    }
    files = {
        "opencode.json": preset.document(_opencode_settings(agent, own, model)),
        preset.BRIEFING: briefing(agent, mcp=True),
    }
    return Launch(argv, env, files)


OPENCODE = Preset(
    name="opencode",
    program="opencode",
    install="npm install -g opencode-ai",
    wires=("messages", "chat"),
    keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
    needs_model=True,
    mcp=True,
    resumes=True,
    deniable=frozenset(_PERMISSIONS),
    launch=_opencode,
)


def _pi(agent: Claimed, own: Own) -> Launch:
    model = preset.model_of(agent) or ""
    asked = preset.upstream(own, model)
    home = own.home / ".pi"
    again = any(home.glob("sessions/**/*.jsonl"))
    provider = {
        "baseUrl": asked.url,
        "api": _PI_WIRES[asked.kind],
        "apiKey": asked.key,
        "models": [
            {
                "id": model,
                "name": model,
                "reasoning": False,
                "input": ["text"],
                "contextWindow": 200_000,
                "maxTokens": 16_384,
                "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            }
        ],
    }
    argv = ["pi", "-p", "--provider", "bough", "--model", model]
    argv += ["--append-system-prompt", str(own.directory / preset.BRIEFING)]
    gone = preset.denied(agent.program)
    if gone:
        left = [name for kind, names in _PI_TOOLS.items() if kind not in gone for name in names]
        argv += ["--tools", ",".join(left)] if left else ["--no-builtin-tools"]
    argv += ["--continue"] if again else []
    argv += [preset.said(agent, again=again)]
    files = {
        "home/.pi/models.json": preset.document({"providers": {"bough": provider}}),
        preset.BRIEFING: briefing(agent, mcp=False),
    }
    env = {"PI_CODING_AGENT_DIR": str(home), "PI_TELEMETRY": "0", "PI_OFFLINE": "1"}
    return Launch(argv, env, files)


PI = Preset(
    name="pi",
    program="pi",
    install="npm install -g @mariozechner/pi-coding-agent",
    wires=("messages", "chat"),
    keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
    needs_model=True,
    resumes=True,
    exits="ends with 0 when it was refused or its model failed",
    deniable=frozenset({*_PI_TOOLS, "web"}),
    launch=_pi,
)
