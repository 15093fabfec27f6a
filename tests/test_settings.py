"""What bough.toml says is read from a commit, and refused where it makes no sense."""

import pytest
from git_scenes import commit, sh

from bough.client.errors import BadConfiguration
from bough.runner.workspaces.git import Repo
from bough.runner.workspaces.settings import MergeSettings, Settings, settings_at, settings_of

pytest_plugins = ["git_scenes"]


def test_every_key_of_the_table_merge_is_read() -> None:
    found = settings_of(
        '[merge]\nstrategy = "rebase"\nsign = true\nhooks = false\n'
        'gates = ["make test", "make lint"]\ngate_timeout = "2h"\n'
    )
    expected = MergeSettings("rebase", True, False, ("make test", "make lint"), 7200)
    assert found == Settings(merge=expected)
    assert settings_of("") == Settings()
    assert settings_of("[merge]\ngate_timeout = 90\n").merge.gate_timeout_s == 90


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[merge", "is not TOML"),
        ("[marge]\n", "there is no table 'marge'; known: merge"),
        ("[merge]\ngate = 1\n", r"there is no key in \[merge\] 'gate'; known: strategy"),
        ("merge = 1\n", "merge is a table"),
        ('[merge]\nstrategy = "octopus"\n', "merge.strategy is 'octopus'; give one of merge"),
        ('[merge]\nsign = "yes"\n', "merge.sign is 'yes'; give true or false"),
        ('[merge]\ngates = "make"\n', "merge.gates is 'make'; give a list of shell commands"),
        ('[merge]\ngates = [" "]\n', "merge.gates"),
        ("[merge]\ngates = [1]\n", "merge.gates"),
        ('[merge]\ngate_timeout = "0s"\n', "merge.gate_timeout is '0s'; give a time"),
        ("[merge]\ngate_timeout = true\n", "merge.gate_timeout"),
        ('[merge]\ngate_timeout = "8days"\n', "merge.gate_timeout"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_with_file_and_key(text: str, told: str) -> None:
    with pytest.raises(BadConfiguration, match=told) as caught:
        settings_of(text, where="bough.toml at 0123456789")
    assert str(caught.value).startswith("bough.toml at 0123456789")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78


async def test_the_commit_counts_and_not_what_lies_in_the_work_tree(repository: Repo) -> None:
    root = repository.root
    assert await settings_at(root, "main") == Settings()
    first = commit(root, "bough.toml", '[merge]\nstrategy = "squash"\n')
    commit(root, "bough.toml", "[merge]\nhooks = false\n")
    (root / "bough.toml").write_text("nonsense")
    assert (await settings_at(root, first)).merge.strategy == "squash"
    assert (await settings_at(root, "main")).merge == MergeSettings(hooks=False)


async def test_a_link_or_a_directory_of_that_name_is_no_settings(repository: Repo) -> None:
    (repository.root / "bough.toml").symlink_to("a.txt")
    sh(repository.root, "add", "-A")
    sh(repository.root, "commit", "-q", "-m", "link")
    with pytest.raises(BadConfiguration, match="is no file"):
        await settings_at(repository.root, "main")
