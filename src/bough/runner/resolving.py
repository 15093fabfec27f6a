"""Hands a conflict on: an agent starts from both sides and brings the work in with its own.

Guarantees: the resolver starts from a commit whose parents are the branch and the agent's work and
whose files hold git's markers; a ref keeps that commit until the resolver has a branch; when the
resolver's work is merged, the original counts as merged too, in one transaction. What still holds
markers is refused. When it breaks: what `spawn` refuses; then only the note of who resolves stays.
"""

from dataclasses import dataclass
from uuid import UUID, uuid4

from bough.client.client import Spawn
from bough.client.errors import NoWorkspace
from bough.client.merges import Merge
from bough.client.rows import Json
from bough.client.runner_calls import RunnerClient
from bough.runner.lineage import email_of
from bough.runner.merging import Wish
from bough.runner.workspaces.commits import Recipe, write
from bough.runner.workspaces.git import commit_of, git
from bough.runner.workspaces.trees import merge_trees

_MOST_PATHS = 100


@dataclass(frozen=True, slots=True)
class Means:
    """What the resolver gets: tokens, driver and program."""

    budget: int
    driver: str
    program: Json


async def spawn_resolver(client: RunnerClient, wish: Wish, merge: Merge, means: Means) -> UUID:
    """Spawn who resolves a merge that conflicts, below the agent's parent or as a root; its id."""
    agent, root = wish.agent, wish.repository.root
    tip = await commit_of(root, f"refs/heads/{wish.target}")
    source = str(merge.source_commit)
    if tip is None:
        raise NoWorkspace(f"{root} has no branch {wish.target!r} any more")
    tree, kinds = await merge_trees(root, tip, source)
    if not kinds:
        raise NoWorkspace(f"{agent.branch_name} and {wish.target} conflict no more; merge again")
    key = uuid4()
    recipe = Recipe(
        f"Both sides of {agent.branch_name} and {wish.target}, conflicts marked\n",
        "bough",
        email_of(key),
    )
    base = await write(root, tree, (tip, source), recipe)
    await git(root, "update-ref", f"refs/bough/resolve/{key}", base, "")
    await client.resolve_merge(merge.id, key)
    what = Spawn(
        key=key,
        task=await _task(wish, tip, source, kinds),
        budget=means.budget,
        parent_id=agent.parent_id,
        role="resolver",
        driver=means.driver,
        program=means.program,
        repo_path=agent.repo_path,
        base_commit=base,
        target_branch=wish.target,
    )
    return (await client.spawn(what)).id


async def _task(wish: Wish, tip: str, source: str, kinds: dict[str, str]) -> str:
    agent, root = wish.agent, wish.repository.root
    base = (await git(root, "merge-base", tip, source, check=False)).strip()
    paths = [f"- {path} ({kind})" for path, kind in list(kinds.items())[:_MOST_PATHS]]
    if len(kinds) > _MOST_PATHS:
        paths.append(f"- and {len(kinds) - _MOST_PATHS} more, all with markers")
    task = agent.task.strip().splitlines()[0][:200]
    text = [
        f"Resolve the conflict between {wish.target} and {agent.branch_name} ({task})",
        "",
        "The files hold both sides. Where they disagree git's markers stand: above ======= is what",
        f"{wish.target} has, below it the agent's work. Edit these files so that both intents",
        "hold, remove every marker, and leave everything else as it is:",
        *paths,
    ]
    for name, old, new in ((wish.target, base, tip), (str(agent.branch_name), base, source)):
        listed = ("log", "--format=- %h %s", "-10", f"{old}..{new}", "--", *kinds)
        done = (await git(root, *listed, check=False)).strip() if old else ""
        text += ["", f"What {name} did there:", done or "- (see git log)"]
    full = "\n".join(text).encode("utf-8", "backslashreplace")
    return full[:90_000].decode("utf-8", "ignore")
