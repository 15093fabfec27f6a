"""Merge, squash and rebase: nothing of either side is lost, no commit is empty."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from git_scenes import sh
from merge_scenes import LINES, commit, state

from bough.runner.workspaces.git import GitError, Repo
from bough.runner.workspaces.merge import MergeConflict, Merged, merge
from bough.runner.workspaces.settings import STRATEGIES, MergeSettings, Strategy
from bough.runner.workspaces.trial import HookFailed

pytest_plugins = ["merge_scenes"]


async def bring(
    repository: Repo, strategy: Strategy, source: str = "side", *, hooks: bool = False
) -> Merged:
    return await merge(
        repository,
        source=source,
        target="main",
        message="Tidy\n\nAgent: x\n",
        author_name="A",
        author_email="a@localhost",
        strategy=strategy,
        settings=MergeSettings(sign=False, hooks=hooks),
    )


def subjects(repository: Repo, old: str) -> list[str]:
    return sh(repository.root, "log", "--reverse", "--format=%s", f"{old}..main").splitlines()


def parents(repository: Repo, of: str) -> list[str]:
    return sh(repository.root, "rev-parse", f"{of}^@").split()


async def test_a_squash_is_one_commit_on_the_target_with_the_agents_trailer(
    forked: Repo, side: Path
) -> None:
    for number in range(3):
        commit(side, {f"s{number}": "s\n"})
    ours = commit(forked.root, {"ours": "o\n"})
    merged = await bring(forked, "squash")
    assert parents(forked, "main") == [ours]
    assert merged.previous == ours
    assert sh(forked.root, "log", "-1", "--format=%B", "main") == "Tidy\n\nAgent: x"
    names = sh(forked.root, "ls-tree", "--name-only", "main").split()
    assert {"s0", "s1", "s2", "ours", "a.txt"} <= set(names)
    assert sh(forked.root, "status", "--porcelain") == ""


async def test_a_rebase_replays_commits_with_their_authors_and_dates_and_drops_empty_ones(
    forked: Repo, side: Path
) -> None:
    (side / "one").write_text("1\n")
    sh(side, "add", "-A")
    author, date = "Ädä <ada@example.org>", "2001-02-03T04:05:06+0700"
    sh(side, "commit", "-q", "-m", "first\n\nwith a body", f"--author={author}", f"--date={date}")
    commit(side, {"same": "same\n"})
    sh(side, "commit", "-q", "--allow-empty", "-m", "empty")
    commit(side, {"two": "2\n"})
    ours = commit(forked.root, {"same": "same\n", "ours": "o\n"})
    await bring(forked, "rebase")
    assert subjects(forked, ours) == ["first", "work"]
    assert sh(forked.root, "rev-list", "--merges", "main") == ""
    first = sh(forked.root, "log", "-1", "--format=%an <%ae>|%aI|%b|%cn", "main~1")
    assert first == f"{author}|2001-02-03T04:05:06+07:00|with a body\n|A"
    assert parents(forked, "main~1") == [ours]
    assert (forked.root / "two").read_text() == "2\n"


async def test_a_rebase_keeps_what_the_agents_own_merges_resolved(forked: Repo, side: Path) -> None:
    start = sh(side, "rev-parse", "HEAD")
    sh(side, "checkout", "-q", "-b", "child", start)
    commit(side, {"c.txt": "child\n"})
    sh(side, "checkout", "-q", "side")
    commit(side, {"s.txt": "side\n"})
    sh(side, "merge", "-q", "--no-ff", "--no-commit", "child")
    (side / "resolved.txt").write_text("only in the merge\n")
    sh(side, "add", "-A")
    sh(side, "commit", "-q", "-m", "merge of a child")
    ours = commit(forked.root, {"ours": "o\n"})
    await bring(forked, "rebase")
    assert sh(forked.root, "rev-list", "--merges", f"{ours}..main") == ""
    assert sh(forked.root, "show", "main:resolved.txt") == "only in the merge"
    assert sorted(subjects(forked, ours)) == ["What merges in side resolved", "work", "work"]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_conflict_changes_nothing_whatever_the_strategy(
    forked: Repo, side: Path, strategy: Strategy
) -> None:
    commit(side, {"fine": "f\n"})
    commit(side, {"a.txt": "theirs\n", "old.txt": None})
    commit(forked.root, {"a.txt": "ours\n", "old.txt": "edited\n"})
    before = state(forked)
    with pytest.raises(MergeConflict) as caught:
        await bring(forked, strategy)
    assert caught.value.kinds == {"a.txt": "contents", "old.txt": "modify/delete"}
    assert state(forked) == before


async def test_a_rebase_conflicts_at_the_commit_and_not_only_at_the_end(
    forked: Repo, side: Path
) -> None:
    commit(side, {"a.txt": "theirs\n"})
    commit(side, {"a.txt": LINES})
    commit(forked.root, {"a.txt": "ours\n"})
    with pytest.raises(MergeConflict, match=r"'a\.txt'"):
        await bring(forked, "rebase")
    assert (await bring(forked, "merge")).commit == sh(forked.root, "rev-parse", "main")


@pytest.mark.parametrize("strategy", ["squash", "rebase"])
async def test_what_is_in_the_target_already_makes_no_empty_commit(
    forked: Repo, side: Path, strategy: Strategy
) -> None:
    commit(side, {"same": "same\n"})
    commit(forked.root, {"same": "same\n"})
    merged = await bring(forked, strategy)
    assert merged.already_contained


async def test_a_history_of_its_own_is_not_rebased(forked: Repo, side: Path) -> None:
    sh(side, "checkout", "-q", "--orphan", "stranger")
    commit(side, {"s.txt": "s\n"})
    with pytest.raises(GitError, match="unrelated histories"):
        await bring(forked, "rebase", "stranger")


async def test_no_editor_ever_opens(
    forked: Repo, side: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "editor-ran"
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    editor.chmod(0o755)
    for name in ("GIT_EDITOR", "EDITOR", "VISUAL", "GIT_SEQUENCE_EDITOR"):
        monkeypatch.setenv(name, str(editor))
    sh(forked.root, "config", "core.editor", str(editor))
    sh(forked.root, "config", "commit.verbose", "true")
    hook = forked.git_dir / "hooks" / "pre-merge-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ngit commit --allow-empty\n")
    hook.chmod(0o755)
    for strategy in STRATEGIES:
        commit(side, {strategy: "x\n"})
        commit(forked.root, {f"main {strategy}": "x\n"})
        refused = pytest.raises(HookFailed) if strategy == "merge" else nullcontext()
        with refused:
            await bring(forked, strategy, hooks=True)
    assert not mark.exists()
