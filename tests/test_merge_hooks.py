"""Hooks and signatures of the repository hold for merges, without a prompt."""

from pathlib import Path

import pytest
from git_scenes import sh
from merge_scenes import commit, state

from bough.runner.workspaces.git import GitError, Repo
from bough.runner.workspaces.merge import Merged, merge
from bough.runner.workspaces.settings import MergeSettings, Strategy
from bough.runner.workspaces.trial import HookFailed

pytest_plugins = ["merge_scenes"]


async def bring(repository: Repo, settings: MergeSettings, strategy: Strategy = "merge") -> Merged:
    return await merge(
        repository,
        source="side",
        target="main",
        message="Merge it\n",
        author_name="A",
        author_email="a@localhost",
        strategy=strategy,
        settings=settings,
    )


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def leftovers(repository: Repo) -> list[str]:
    return [p.name for p in repository.git_dir.glob("worktrees/bough-merge-*")]


@pytest.fixture
async def apart(forked: Repo, side: Path) -> Repo:
    commit(side, {"theirs.txt": "t\n"})
    commit(forked.root, {"ours.txt": "o\n"})
    return forked


async def test_hooks_see_the_merged_files_and_may_change_the_message(
    apart: Repo, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    program(
        apart.git_dir / "hooks" / "pre-merge-commit",
        f'{{ ls; git diff --cached --name-only HEAD; pwd; }} > "{seen}"',
    )
    program(apart.git_dir / "hooks" / "commit-msg", 'echo "Reviewed: yes" >> "$1"')
    await bring(apart, MergeSettings(sign=False))
    *files, place = seen.read_text().split("\n")[:-1]
    assert files == ["a.txt", "old.txt", "ours.txt", "theirs.txt", "theirs.txt"]
    assert not Path(place).exists()
    assert str(apart.root) not in place
    assert sh(apart.root, "log", "-1", "--format=%B", "main") == "Merge it\nReviewed: yes"
    assert leftovers(apart) == []


@pytest.mark.parametrize("name", ["pre-merge-commit", "commit-msg"])
async def test_a_hook_that_fails_refuses_with_its_last_line_and_changes_nothing(
    apart: Repo, name: str
) -> None:
    program(apart.git_dir / "hooks" / name, "echo first; echo 'no ticket in it' >&2; exit 3")
    before = state(apart)
    with pytest.raises(HookFailed, match=f"hook {name} exited with 3: no ticket in it") as caught:
        await bring(apart, MergeSettings(sign=False))
    assert "\n" not in str(caught.value)
    assert state(apart) == before
    assert leftovers(apart) == []
    await bring(apart, MergeSettings(sign=False, hooks=False))


async def test_a_hook_that_never_ends_is_stopped_with_all_that_it_started(
    apart: Repo, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    program(apart.git_dir / "hooks" / "commit-msg", f'sleep 1000 & echo $! > "{pid}"; wait')
    with pytest.raises(HookFailed, match="was stopped after 1 s"):
        await bring(apart, MergeSettings(sign=False, gate_timeout_s=1))
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


async def test_a_squash_runs_the_hooks_of_a_commit_and_a_rebase_none(
    apart: Repo, tmp_path: Path
) -> None:
    for name in ("pre-commit", "pre-merge-commit", "commit-msg"):
        program(apart.git_dir / "hooks" / name, f'echo {name} >> "{tmp_path}/ran"')
    await bring(apart, MergeSettings(sign=False), "squash")
    assert (tmp_path / "ran").read_text().split() == ["pre-commit", "commit-msg"]
    sh(apart.root, "reset", "-q", "--hard", "main~1")
    await bring(apart, MergeSettings(sign=False), "rebase")
    assert (tmp_path / "ran").read_text().split() == ["pre-commit", "commit-msg"]


async def test_hooks_lie_where_the_repository_says_and_never_in_the_merged_files(
    apart: Repo, tmp_path: Path
) -> None:
    sh(apart.root, "config", "core.hooksPath", ".hooks")
    program(apart.root / ".hooks" / "pre-merge-commit", f'touch "{tmp_path}/ran"')
    await bring(apart, MergeSettings(sign=False))
    assert (tmp_path / "ran").exists()


def signer(apart: Repo, tmp_path: Path, script: str) -> None:
    sh(apart.root, "config", "gpg.program", str(program(tmp_path / "gpg", script)))
    sh(apart.root, "config", "user.signingKey", "KEY")
    sh(apart.root, "config", "user.name", "Person")
    sh(apart.root, "config", "user.email", "person@localhost")


SIGNS = 'cat >/dev/null; echo "[GNUPG:] SIG_CREATED " >&2; echo "-----BEGIN PGP SIGNATURE-----"'


@pytest.mark.parametrize("strategy", ["merge", "squash", "rebase"])
@pytest.mark.parametrize(("said", "config", "signed"), [(None, True, True), (None, False, False)])
async def test_merges_are_signed_when_the_repository_signs(
    apart: Repo, tmp_path: Path, strategy: Strategy, said: None, config: bool, signed: bool
) -> None:
    signer(apart, tmp_path, SIGNS)
    sh(apart.root, "config", "commit.gpgSign", str(config).lower())
    await bring(apart, MergeSettings(sign=said), strategy)
    raw = sh(apart.root, "cat-file", "commit", "main")
    assert ("\ngpgsig -----BEGIN" in raw) == signed
    committer = sh(apart.root, "log", "-1", "--format=%cn", "main")
    assert committer == ("Person" if signed else "A")


async def test_the_setting_wins_over_what_the_repository_signs(apart: Repo, tmp_path: Path) -> None:
    signer(apart, tmp_path, SIGNS)
    sh(apart.root, "config", "commit.gpgSign", "true")
    await bring(apart, MergeSettings(sign=False))
    assert "gpgsig" not in sh(apart.root, "cat-file", "commit", "main")


async def test_a_signature_that_fails_refuses_in_one_line_and_changes_nothing(
    apart: Repo, tmp_path: Path
) -> None:
    signer(apart, tmp_path, 'echo "no secret key" >&2; [ -z "$GPG_TTY$DISPLAY" ] && exit 2')
    before = state(apart)
    with pytest.raises(
        GitError, match=r"cannot be signed: error: gpg failed to sign.*nothing was changed"
    ) as caught:
        await bring(apart, MergeSettings(sign=True))
    assert "\n" not in str(caught.value)
    assert state(apart) == before
