"""aider, mini-swe-agent and OpenHands: programs that reach models through litellm.

Each has a home of the agent's own; aider and mini-swe-agent have no MCP, so they use the `bough`
command. aider and OpenHands end with 0 when they were refused; none but aider can be kept from a
tool, and aider only from editing.
"""

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets import preset
from bough.runner.presets.preset import Preset
from bough.runner.roles.briefing import briefing

_LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
_KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")


def _model(agent: Claimed, own: Own) -> tuple[str, dict[str, str]]:
    """The model as litellm names it, and the variables by which it is reached."""
    model = preset.model_of(agent) or ""
    asked = preset.upstream(own, model)
    if asked.kind == "anthropic":
        return f"anthropic/{model}", {"ANTHROPIC_BASE_URL": asked.url} | _LITELLM
    named = {"OPENAI_API_BASE": asked.url, "OPENAI_BASE_URL": asked.url}
    return f"openai/{model}", named | _LITELLM


def _aider(agent: Claimed, own: Own) -> Launch:
    model, env = _model(agent, own)
    kept = {"chat": "chat.md", "input": "input", "llm": "llm"}
    argv = ["aider", "--model", model, "--message", preset.said(agent), "--yes-always"]
    argv += ["--no-check-update", "--analytics-disable", "--no-show-model-warnings"]
    # Its map of the repository would leave a cache in the worktree.
    argv += ["--no-gitignore", "--map-tokens", "0", "--no-suggest-shell-commands"]
    for name, file in kept.items():
        argv += [f"--{name}-history-file", str(own.home / file)]
    argv += ["--restore-chat-history"] if (own.home / "chat.md").is_file() else []
    argv += ["--read", str(own.directory / preset.BRIEFING)]
    if "edit" in preset.denied(agent.program):
        argv += ["--chat-mode", "ask"]
    files = {preset.BRIEFING: briefing(agent, mcp=False)} | preset.home_files(agent, own)
    return Launch(argv, env | preset.moved_home(own), files)


AIDER = Preset(
    name="aider",
    program="aider",
    install="pip install aider-chat",
    wires=("messages", "chat"),
    keys=_KEYS,
    needs_model=True,
    resumes=True,
    exits="ends with 0 when it was refused or its model failed",
    deniable=frozenset({"edit", "shell", "web"}),
    launch=_aider,
)


def _mini(agent: Claimed, own: Own) -> Launch:
    model, env = _model(agent, own)
    told = f"{briefing(agent, mcp=False)}\n# Your task\n\n{agent.task}"
    argv = ["mini", "-m", model, "-t", told, "-y", "--exit-immediately"]
    argv += ["-o", str(own.directory / "trajectory.json")]
    env |= {
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_GLOBAL_CONFIG_DIR": str(own.home / ".mini"),
        # It tries what was refused ten times, up to a minute apart.
        "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "2",
    }
    return Launch(argv, env, {"home/.mini/.env": ""})


MINI = Preset(
    name="mini",
    program="mini",
    install="pip install mini-swe-agent mcp",
    wires=("messages", "chat"),
    keys=_KEYS,
    needs_model=True,
    exits="ends with 0 when it gave up",
    deniable=frozenset({"web"}),
    launch=_mini,
)


def _openhands(agent: Claimed, own: Own) -> Launch:
    model, env = _model(agent, own)
    asked = preset.upstream(own, preset.model_of(agent))
    told = f"{briefing(agent, mcp=True)}\n# Your task\n\n{agent.task}"
    argv = ["openhands", "--headless", "--json", "--override-with-envs", "-t", told]
    env |= preset.moved_home(own)
    env |= {"LLM_MODEL": model, "LLM_BASE_URL": asked.url, "LLM_API_KEY": own.env[asked.key]}
    files = preset.home_files(agent, own)
    url = preset.mcp_url(own)
    if url:
        # It puts no variables in, so the token stands in this file, which is the user's alone.
        headers = {"Authorization": f"Bearer {own.env['BOUGH_TOKEN']}"}
        server = {"transport": "http", "url": url, "headers": headers}
        files["home/.openhands/mcp.json"] = preset.document({"mcpServers": {"bough": server}})
    return Launch(argv, env, files)


OPENHANDS = Preset(
    name="openhands",
    program="openhands",
    install="uv tool install openhands --python 3.12",
    wires=("messages", "chat"),
    keys=_KEYS,
    needs_model=True,
    mcp=True,
    exits="ends with 0 when it was refused or its model failed",
    deniable=frozenset({"web"}),
    launch=_openhands,
)
