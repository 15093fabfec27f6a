"""Writes commits that last: who made them, when, and signed if the repository wants it.

Guarantees: no ref moves, no editor opens, nobody is asked for a passphrase. When it breaks:
GitError, one line; a signature that cannot be made in time is one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bough.runner.workspaces.git import GitError, git

_SIGN_S = 60.0
# A program that signs must not find a terminal or a screen on which it could ask.
_NOBODY_TO_ASK = {
    "GPG_TTY": "",
    "DISPLAY": "",
    "WAYLAND_DISPLAY": "",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """All of a commit but its files: message, author, author's date (None: now), committer.

    Signed ones are committed by the repository's user, whose key signs.
    """

    message: str
    name: str
    email: str
    date: str | None = None
    committer: tuple[str, str] = ("bough", "bough@localhost")
    sign: bool = False


async def write(where: Path, tree: str, parents: Sequence[str], recipe: Recipe) -> str:
    """Write a commit object and return its id."""
    who = {"GIT_AUTHOR_NAME": recipe.name, "GIT_AUTHOR_EMAIL": recipe.email}
    who |= {"GIT_AUTHOR_DATE": recipe.date} if recipe.date else {}
    words = [word for parent in parents for word in ("-p", parent)]
    args = ["commit-tree", *words, "-F", "-"]
    if not recipe.sign:
        name, email = recipe.committer
        who |= {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email}
        return (await git(where, *args, tree, env=who, input=recipe.message)).strip()
    try:
        async with asyncio.timeout(_SIGN_S):
            made = await git(
                where, *args, "-S", tree, env=who | _NOBODY_TO_ASK, input=recipe.message
            )
    except TimeoutError as error:
        raise _not_signed(f"no signature within {_SIGN_S:g} s") from error
    except GitError as error:
        said = " ".join(error.stderr.split())[:200] or str(error)
        raise _not_signed(said) from error
    return made.strip()


def _not_signed(why: str) -> GitError:
    advice = "unlock the key, or set [merge] sign = false in bough.toml"
    return GitError(f"the merge cannot be signed: {why}; nothing was changed: {advice}")


async def recipe_of(where: Path, commit: str, like: Recipe) -> Recipe:
    """Message, author and author's date of a commit, with the committer of `like`."""
    form = "--format=%an%x00%ae%x00%ad%x00%B"
    shown = await git(where, "show", "-s", "--date=raw", "--encoding=UTF-8", form, commit)
    name, email, date, message = shown.split("\0", 3)
    return replace(like, message=message.rstrip("\n") + "\n", name=name, email=email, date=date)


async def wants_signatures(where: Path) -> bool:
    """Say whether the repository's own settings ask for signed commits."""
    args = ("config", "--show-scope", "--type=bool", "--get-all", "commit.gpgSign")
    lines = (await git(where, *args, check=False)).splitlines()
    said = [line.split("\t") for line in lines]
    # Ours on the command line wins over the repository's and is not asked here.
    own = [value for scope, value in said if scope != "command"]
    return own[-1:] == ["true"]
