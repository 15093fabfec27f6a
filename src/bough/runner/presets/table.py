"""All presets by name, in the order in which they are shown."""

from bough.runner.presets.claude import CLAUDE
from bough.runner.presets.codex import CODEX
from bough.runner.presets.gemini import GEMINI, QWEN
from bough.runner.presets.opencode import OPENCODE, PI
from bough.runner.presets.preset import Preset
from bough.runner.presets.python import AIDER, MINI, OPENHANDS

PRESETS: dict[str, Preset] = {
    p.name: p for p in (CLAUDE, CODEX, OPENCODE, AIDER, GEMINI, QWEN, MINI, PI, OPENHANDS)
}
