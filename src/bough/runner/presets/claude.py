"""Claude Code: Anthropic's Messages API, MCP, sessions that resume, clean stops at a limit.

Settings and sessions are in the agent's own CLAUDE_CONFIG_DIR. It edits without asking: Bough's
worktree is where it works, and nobody is there to answer.
"""

from bough.client.rows import Claimed
from bough.runner.launch import Launch, Own
from bough.runner.presets import preset
from bough.runner.presets.preset import Preset
from bough.runner.roles.briefing import briefing

_TOOLS = {
    "edit": ("Edit", "Write", "MultiEdit", "NotebookEdit"),
    "read": ("Read", "Glob", "Grep", "LS"),
    "shell": ("Bash", "BashOutput", "KillShell", "Monitor", "PowerShell", "REPL"),
    "web": ("WebFetch", "WebSearch"),
}


def _launch(agent: Claimed, own: Own) -> Launch:
    config = own.home / ".claude"
    session = str(agent.id)
    again = any(config.glob(f"projects/*/{session}.jsonl"))
    argv = ["claude", "-p", preset.said(agent, again=again)]
    argv += ["--resume" if again else "--session-id", session]
    argv += ["--permission-mode", "bypassPermissions"]
    argv += ["--append-system-prompt-file", str(own.directory / preset.BRIEFING)]
    files = {preset.BRIEFING: briefing(agent, mcp=True)}
    url = preset.mcp_url(own)
    if url:
        server = {
            "type": "http",
            "url": url,
            "headers": {"Authorization": "Bearer ${BOUGH_TOKEN}"},
            "alwaysLoad": True,
        }
        files["mcp.json"] = preset.document({"mcpServers": {"bough": server}})
        argv += ["--mcp-config", str(own.directory / "mcp.json"), "--strict-mcp-config"]
    gone = [name for kind in sorted(preset.denied(agent.program)) for name in _TOOLS[kind]]
    if gone:
        argv += [f"--disallowedTools={','.join(gone)}"]
    model = preset.model_of(agent)
    if model:
        argv += ["--model", model]
    env = {
        "CLAUDE_CONFIG_DIR": str(config),
        # Its logs of MCP go there whatever the setting above says.
        "XDG_CACHE_HOME": str(own.home / ".cache"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # What a call may answer is set aside before it is made: else up to 128,000 tokens.
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": own.env.get("CLAUDE_CODE_MAX_OUTPUT_TOKENS") or "32000",
    }
    if preset.is_root():
        # It does not skip its questions for root unless told that the place is fenced.
        env["IS_SANDBOX"] = "1"
    return Launch(argv, env, files)


CLAUDE = Preset(
    name="claude",
    program="claude",
    install="npm install -g @anthropic-ai/claude-code (Node 22 or newer)",
    wires=("messages",),
    keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    mcp=True,
    resumes=True,
    deniable=frozenset(_TOOLS),
    launch=_launch,
)
