"""Which agent changed which file is recorded with its work, whatever the file is called."""

import json
import os
import random
from uuid import UUID

import pytest
from cli import Shell
from conftest import Kernel, run_agent
from hypothesis import given
from hypothesis import strategies as st

from bough.client.errors import AgentNotFound, RuleBroken, StaleLease
from bough.client.paths import path_of, text_of
from bough.client.work_rows import FileChange

pytest_plugins = ["cli"]
HEAD = "c" * 40


async def save(kernel: Kernel, agent_id: UUID, *paths: str, epoch: int = 1, disk: int = 0) -> None:
    changed = [FileChange(path, "modified", 2, 1) for path in paths]
    count = len(paths)
    await kernel.save_workspace(
        agent_id,
        epoch=epoch,
        head_commit=HEAD,
        files=count,
        added=2 * count,
        removed=count,
        disk_bytes=disk,
        changed=changed,
    )


async def worker(kernel: Kernel, parent: UUID | None = None, repo: str = "/r") -> UUID:
    agent = await run_agent(kernel, parent, budget=100 if parent else 1000, repo_path=repo,
                            base_commit=HEAD)  # fmt: skip
    await kernel.open_workspace(
        agent.id, epoch=1, path=f"/w/{agent.id}", branch="bough/x/y", base_commit=HEAD
    )
    return agent.id


async def paths(kernel: Kernel, agent_id: UUID | None, glob: str | None = None) -> list[str]:
    return [f.path for f in await kernel.files(agent_id, glob=glob)]


@given(st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b))
def test_any_name_of_a_file_becomes_harmless_text_and_the_same_name_again(name: bytes) -> None:
    path = name.decode("utf-8", "surrogateescape")
    text = text_of(path)
    assert path_of(text).encode("utf-8", "surrogateescape") == name
    assert text.encode().decode() == text
    assert not any(ord(character) < 32 for character in text)


def test_a_name_is_quoted_only_when_it_must_be_and_then_as_git_does() -> None:
    same = ("a b.txt", "ü/é.py", "a\\b", 'say "hi"', "修正")
    assert [text_of(path) for path in same] == list(same)
    assert text_of("caf\udce9") == '"caf\\351"'
    assert text_of('"quoted\\') == '"\\"quoted\\\\"'
    assert text_of("new\nline\x1b") == '"new\\nline\\033"'
    assert text_of("\u009b") == '"\\302\\233"'


async def test_a_save_replaces_what_was_said_before_and_a_refused_one_changes_nothing(
    kernel: Kernel,
) -> None:
    agent = await worker(kernel)
    await save(kernel, agent, "a", "b")
    await save(kernel, agent, "b", "c")
    assert await paths(kernel, agent) == ["b", "c"]
    with pytest.raises(StaleLease):
        await save(kernel, agent, "stale", epoch=7)
    with pytest.raises(RuleBroken, match="at most 10000 files an agent"):
        await save(kernel, agent, *(f"f{n}" for n in range(10_001)))
    assert await paths(kernel, agent) == ["b", "c"]
    assert (await kernel.show(agent)).files_changed == 2


async def test_a_name_too_long_for_an_index_is_kept_and_found(kernel: Kernel) -> None:
    agent = await worker(kernel)
    letters = random.Random(1)
    long = "/".join("".join(chr(letters.randrange(0x4E00, 0x9FFF)) for _ in range(80))
                    for _ in range(17))  # fmt: skip
    assert len(long.encode()) > 4000
    await save(kernel, agent, long, long[:-1] + "x")
    assert await paths(kernel, None, long) == [long]
    assert len(await paths(kernel, None, long[:300] + "*")) == 2


async def test_files_are_found_by_name_by_directory_and_by_wild_cards(kernel: Kernel) -> None:
    agent = await worker(kernel)
    await save(kernel, agent, "src", "src/a.py", "src/lib/b.py", "srcs/c.py", "100%.py", "x_y")
    found = {
        "src": ["src", "src/a.py", "src/lib/b.py"],
        "src/": ["src", "src/a.py", "src/lib/b.py"],
        "src/*.py": ["src/a.py", "src/lib/b.py"],
        "src/?.py": ["src/a.py"],
        "*.py": ["src/a.py", "src/lib/b.py", "srcs/c.py", "100%.py"],
        "100%.py": ["100%.py"],
        "100%*": ["100%.py"],
        "x?y": ["x_y"],
        "%": [],
        "x\\_y": [],
    }
    for glob, names in found.items():
        assert await paths(kernel, None, glob) == names, glob
        assert await paths(kernel, agent, glob) == names, glob


async def test_a_renamed_file_is_found_by_both_its_names(kernel: Kernel) -> None:
    agent = await worker(kernel)
    renamed = FileChange("new.py", "renamed", 0, 0, "old.py")
    await kernel.save_workspace(
        agent, epoch=1, head_commit=HEAD, files=1, added=0, removed=0, changed=[renamed]
    )
    for glob in ("new.py", "old.py", "old*"):
        assert await paths(kernel, None, glob) == ["new.py"]


async def test_files_of_a_subtree_are_told_apart_from_others_and_the_newest_come_first(
    kernel: Kernel,
) -> None:
    root = await worker(kernel)
    child = await worker(kernel, root)
    leaf = await worker(kernel, child)
    other = await worker(kernel, repo="/elsewhere")
    for place, agent in enumerate((leaf, root, child, other)):
        await kernel.set_clock(place - 100.0)
        await save(kernel, agent, "same")
    assert [f.id for f in await kernel.files(None, glob="same")] == [other, child, root, leaf]
    assert [f.id for f in await kernel.files(child)] == [child, leaf]
    assert [f.id for f in await kernel.files(None, repo_path="/elsewhere")] == [other]
    assert [f.id for f in await kernel.files(None, page=1)] == [other]
    with pytest.raises(AgentNotFound):
        await kernel.files(UUID(int=0))


async def test_work_below_an_agent_counts_each_file_once_and_what_is_beyond_the_list(
    kernel: Kernel,
) -> None:
    root = await worker(kernel)
    child = await worker(kernel, root)
    await save(kernel, root, "a", "b", disk=100)
    await save(kernel, child, "b", "c", disk=30)
    work = await kernel.subtree_work(root)
    assert (work.agents, work.files_changed, work.disk_bytes) == (2, 3, 130)
    assert (work.lines_added, work.lines_removed) == (8, 4)
    assert (await kernel.subtree_work(child)).files_changed == 2
    listed = [FileChange(f"f{n}", "created", 1, 0) for n in range(10_000)]
    await kernel.save_workspace(
        child, epoch=1, head_commit=HEAD, files=12_345, added=1, removed=0, changed=listed
    )
    assert (await kernel.subtree_work(child)).files_changed == 12_345


async def test_statistics_tell_work_by_agent_role_depth_and_subtree_and_none_by_model(
    kernel: Kernel,
) -> None:
    root = await worker(kernel)
    child = await worker(kernel, root)
    await save(kernel, root, "a", "b", disk=100)
    await save(kernel, child, "b", disk=30)
    told: dict[str, dict[str, tuple[int | None, int | None]]] = {}
    for by in ("agent", "role", "depth", "subtree", "model"):
        rows = await kernel.statistics(root, by=by)
        told[by] = {s.what: (s.files_changed, s.disk_bytes) for s in rows}
    assert told["agent"] == {str(root): (2, 100), str(child): (1, 30)}
    assert told["role"] == {"agent": (2, 130)}
    assert told["depth"] == {"0": (2, 100), "1": (1, 30)}
    assert told["subtree"] == {str(root): (2, 130), str(child): (1, 30)}
    assert told["model"] == {}
    everywhere = {s.what: s.lines_added for s in await kernel.statistics(None, by="subtree")}
    assert everywhere[str(root)] == 6


def test_files_lines_and_disk_of_real_work_are_shown_whatever_the_names(shell: Shell) -> None:
    (shell.repo / "gone").write_text("1\n2\n")
    (shell.repo / "moved").write_text("".join(f"{n}\n" for n in range(50)))
    shell.commit("more")
    hostile = "touch \"$(printf 'c\\377')\"; touch \"$(printf 'l\\nine')\""
    script = f"echo 4 >> a.txt; rm gone; git mv moved kept; printf '\\0' > bin; {hostile}"
    done = shell("run", "t", "--json", "--", "sh", "-c", script)
    agent = json.loads(done.out)["id"]
    whole, listed, by_path, shown, stats, nobody = shell.in_a_row(
        ["files", agent[:8], "--json"],
        ["files", "--path", "moved"],
        ["files", "--path", os.fsdecode(b"c\xff")],
        ["show", agent, "--json"],
        ["stats", agent, "--by", "subtree"],
        ["files", "--path", "nothing*", "--repo", str(shell.repo)],
    )
    rows = {row["path"]: row for row in json.loads(whole.out)}
    assert {path: row["kind"] for path, row in rows.items()} == {
        "a.txt": "modified",
        "bin": "created",
        "c\udcff": "created",
        "gone": "deleted",
        "kept": "renamed",
        "l\nine": "created",
    }
    assert (rows["kept"]["old_path"], rows["bin"]["lines_added"]) == ("moved", None)
    assert rows["gone"]["lines_removed"] == 2
    assert listed.out.split("\t")[0] == agent[:8]
    assert listed.out.rstrip("\n").split("\t")[-1] == "moved => kept"
    assert by_path.out.rstrip("\n").split("\t")[-1] == '"c\\377"'
    workspace = json.loads(shown.out)["workspace"]
    assert workspace["files_changed"] == 6
    assert workspace["disk_bytes"] >= 4096
    assert json.loads(shown.out)["subtree"]["files_changed"] == 6
    assert stats.out.split("\t")[7:9] == ["6", "+1 -2"]
    assert (nobody.code, nobody.out) == (0, "")
    assert "changed    6 files +1 -2" in shell("show", agent).out


def test_an_agent_sees_the_files_of_its_own_subtree_only(shell: Shell) -> None:
    shell("run", "another", "--", "sh", "-c", "echo x > other")
    spawn = "id=$(bough spawn c --budget 10 -- sh -c 'echo x > ours'); bough wait $id"
    done = shell("run", "t", "--budget", "1000", "--", "sh", "-c", f"{spawn}; bough files")
    assert "\tours\n" in done.err
    assert "other" not in done.err
