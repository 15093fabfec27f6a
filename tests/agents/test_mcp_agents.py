"""Real Claude Code and Codex, by their presets, against a model that answers by a script.

Not part of `make test`: they are looked for on PATH and below .tools/agents, and what is not there
is skipped. Run with: pytest tests/agents/test_mcp_agents.py
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents.scripted_model import Model, Run, Say, Turn, Use, serve, tools_of
from cli import Shell, until

pytest_plugins = ["cli"]
ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join(
    [*map(str, (ROOT / ".tools/agents").glob("**/node_modules/.bin")), os.environ["PATH"]]
)
PROGRAMS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.6"}
every_program = pytest.mark.parametrize("name", PROGRAMS)


class Scene:
    """A shell whose programs ask a scripted model."""

    def __init__(self, shell: Shell, name: str, turns: list[Turn]) -> None:
        if shutil.which(name, path=PATH) is None:
            pytest.skip(f"NOT TESTED: {name} is not installed")
        self.shell, self.name = shell, name
        self.model = Model(turns)
        self.server = serve(self.model)
        self.env = {
            "PATH": PATH,
            "ANTHROPIC_BASE_URL": self.model.url,
            "ANTHROPIC_API_KEY": "key-of-nobody",
            "OPENAI_BASE_URL": f"{self.model.url}/v1",
            "OPENAI_API_KEY": "key-of-nobody",
        }
        self.options = ["--driver", name, "--model", PROGRAMS[name], "--budget", "200k"]

    def run(self, task: str, *more: str, code: int = 0) -> dict[str, Any]:
        done = self.shell("run", task, *self.options, *more, "--json", env=self.env, code=code)
        return json.loads(done.out)

    def untouched(self) -> None:
        """Nothing is left in the person's home."""
        assert list((self.shell.place / "user").rglob("*")) == []


@pytest.fixture
def scenes(shell: Shell) -> Iterator[list[Scene]]:
    made: list[Scene] = []
    yield made
    for scene in made:
        scene.server.shutdown()
        scene.server.server_close()


def begin(scenes: list[Scene], shell: Shell, name: str, *turns: Turn) -> Scene:
    scenes.append(Scene(shell, name, list(turns)))
    return scenes[-1]


@every_program
def test_it_edits_in_its_worktree_knows_its_role_and_leaves_nothing_elsewhere(
    shell: Shell, scenes: list[Scene], name: str
) -> None:
    scene = begin(scenes, shell, name, Run("echo made > new.txt; bough report half"), Say("done"))
    found = scene.run("make new.txt", "--role", "implementer")
    workspace = found["workspace"]
    assert shell.git("show", f"{workspace['branch']}:new.txt") == "made"
    assert workspace["files_changed"] == 1
    assert found["progress_note"] == "half"
    asked = scene.model.asked[0].text()
    assert "You implement one task, no more." in asked
    assert "bough finish" in asked
    assert shell.git("status", "--porcelain") == ""
    scene.untouched()


@every_program
def test_it_spawns_waits_and_finishes_by_the_tools_of_bough(
    shell: Shell, scenes: list[Scene], name: str
) -> None:
    child = {"task": "w", "budget": "5k", "command": ["sh", "-c", "echo work > w.txt"]}
    scene = begin(
        scenes,
        shell,
        name,
        Use("spawn", child),
        Use("inbox", {"seconds": 30}),
        Use("finish", {"result": {"by": name}}),
        Say("done"),
    )
    found = scene.run("lead")
    assert found["status"] == "completed"
    assert found["result"] == {"by": name}
    [child_id] = found["children"]
    assert shell.json("show", child_id)["status"] == "completed"
    heard = scene.model.asked[-1].text()
    assert "child.completed" in heard, heard[-3000:]
    scene.untouched()


@every_program
def test_a_role_without_editing_has_no_tool_that_edits(
    shell: Shell, scenes: list[Scene], name: str
) -> None:
    scene = begin(scenes, shell, name, Run("echo sneaked > new.txt"), Say("done"))
    found = scene.run("look at it", "--role", "reviewer")
    offered = tools_of(scene.model.asked[-1].body)
    assert not {"Edit", "Write", "apply_patch"} & offered.keys() or name == "codex"
    workspace = found["workspace"]
    if name == "codex":
        assert workspace["files_changed"] == 0


@every_program
def test_after_a_kill_of_the_runner_it_goes_on_with_its_own_session(
    shell: Shell, scenes: list[Scene], name: str
) -> None:
    gate = shell.gate
    hold = f"touch {gate}.here; until [ -e {gate} ]; do sleep 0.05; done"
    scene = begin(scenes, shell, name, Run("echo first > one.txt"), Run(hold))
    shell.env |= scene.env
    runner = shell.short_lease_runner()
    agent = shell.spawn("remember the word kumquat", *scene.options)
    until(lambda: Path(f"{gate}.here").exists(), "its second tool call runs")
    runner.signal(signal.SIGKILL)
    before = len(scene.model.asked)
    gate.touch()
    shell.runner()
    until(lambda: len(scene.model.asked) > before, "it asks its model again")
    shell.reaches(agent, "completed")
    again = scene.model.asked[-1].text()
    assert "echo first" in again
    assert "started again where you were" in again
