"""What programs printed is kept in order in a bounded ring, and what was dropped is counted."""

from uuid import UUID

import pytest
from conftest import Kernel, Sessions, end_merge, run_agent, saved_agent
from locks import collide

from bough.client.errors import InvalidInput, RuleBroken
from bough.client.rows import LogLine

RING = 8 * 1024 * 1024


async def write(kernel: Kernel, agent_id: UUID, *contents: str) -> None:
    await kernel.log(agent_id, epoch=1, streams=["stdout"] * len(contents), contents=list(contents))


async def test_output_comes_back_in_the_order_it_was_written(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await kernel.log(
        agent.id, epoch=1, streams=["stdout", "stderr", "bough"], contents=["a\n", "", "c ü\r"]
    )
    await write(kernel, agent.id)
    await write(kernel, agent.id, "d")
    lines = await kernel.logs(agent.id)
    assert [(line.seq, line.stream, line.content) for line in lines] == [
        (1, "stdout", "a\n"),
        (2, "stderr", ""),
        (3, "bough", "c ü\r"),
        (4, "stdout", "d"),
    ]
    assert {line.dropped_bytes for line in lines} == {0}


async def test_output_is_read_in_pages_that_meet_without_gap_or_overlap(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    for n in range(0, 25, 5):
        await write(kernel, agent.id, *(f"line {i}" for i in range(n, n + 5)))
    pages: list[list[LogLine]] = []
    after = 0
    while page := await kernel.logs(agent.id, after_seq=after, page=10):
        pages.append(page)
        after = page[-1].seq
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [line.content for page in pages for line in page] == [f"line {i}" for i in range(25)]


async def test_a_program_that_prints_without_end_keeps_its_last_8_mib(kernel: Kernel) -> None:
    """A program that prints 1 GB."""
    agent = await run_agent(kernel)
    piece, pieces, kept = 64 * 1024 - 7, 400, 0
    for first in range(0, pieces, 20):
        await write(kernel, agent.id, *(f"{n:07}" + "x" * piece for n in range(first, first + 20)))
        kept = await kernel.value(
            "select sum(octet_length(content)) from bough.logs where agent_id = %s", agent.id
        )
        assert kept <= RING
    lines = await kernel.logs(agent.id, page=1000)
    seqs = [line.seq for line in lines]
    assert seqs == list(range(seqs[0], pieces + 1))
    assert [int(line.content[:7]) + 1 for line in lines] == seqs
    assert kept > RING * 3 / 4
    assert lines[0].dropped_bytes == pieces * (piece + 7) - kept
    tail = await kernel.value(
        "select kept_bytes from bough.log_tails where agent_id = %s", agent.id
    )
    assert tail == kept


async def test_a_single_piece_larger_than_the_ring_is_still_shown(kernel: Kernel) -> None:
    agent = await run_agent(kernel)
    await write(kernel, agent.id, "before")
    await write(kernel, agent.id, "ü" * (RING // 2 + 1))
    (line,) = await kernel.logs(agent.id)
    assert (line.seq, len(line.content), line.dropped_bytes) == (2, RING // 2 + 1, 6)
    await write(kernel, agent.id, "after")
    (line,) = await kernel.logs(agent.id)
    assert (line.content, line.dropped_bytes) == ("after", RING + 2 + 6)


@pytest.mark.parametrize(
    ("streams", "contents"), [(["stdin"], ["x"]), ([], ["x"]), (["stdout"], [])]
)
async def test_output_of_an_unknown_stream_is_refused_whole(
    kernel: Kernel, streams: list[str], contents: list[str]
) -> None:
    agent = await run_agent(kernel)
    with pytest.raises(RuleBroken):
        await kernel.log(agent.id, epoch=1, streams=streams, contents=contents)
    with pytest.raises(InvalidInput, match="NUL"):
        await write(kernel, agent.id, "good", "b\0d")
    assert await kernel.logs(agent.id) == []
    await write(kernel, agent.id, "first")
    assert [line.seq for line in await kernel.logs(agent.id)] == [1]


async def test_two_writers_of_one_agents_output_at_once_share_one_numbering(
    sessions: Sessions,
) -> None:
    client = await sessions.client()
    agent = await run_agent(client)
    await collide(
        sessions,
        lambda kernel: write(kernel, agent.id, "a", "b"),
        lambda kernel: write(kernel, agent.id, "c"),
    )
    lines = await client.logs(agent.id)
    assert [(line.seq, line.content) for line in lines] == [(1, "a"), (2, "b"), (3, "c")]


async def test_a_workspace_is_recorded_from_made_to_merged(kernel: Kernel) -> None:
    agent = await saved_agent(kernel)
    await end_merge(kernel, agent.id, "conflicted", conflicts=["a b.txt", "ü"])
    conflicted = await kernel.show(agent.id)
    assert (conflicted.isolation_status, conflicted.conflicts) == ("conflicted", ["a b.txt", "ü"])
    await end_merge(kernel, agent.id, "merged", previous="d" * 40, commit="e" * 40)
    shown = await kernel.show(agent.id)
    assert (shown.worktree_path, shown.branch_name, shown.base_commit) == (
        f"/w/{agent.id}",
        "bough/x",
        "b" * 40,
    )
    assert (shown.files_changed, shown.lines_added, shown.lines_removed) == (1, 2, 3)
    assert (shown.isolation_status, shown.head_commit) == ("merged", "c" * 40)
    assert (shown.merged_into, shown.merged_commit, shown.conflicts) == ("main", "e" * 40, [])
    names = await kernel.value(
        "select array_agg(name::text order by id) from bough.events where name like 'workspace.%%'"
    )
    assert names == [
        "workspace.active",
        "workspace.saved",
        "workspace.conflicted",
        "workspace.merged",
    ]


async def test_two_living_agents_never_share_a_worktree(kernel: Kernel) -> None:
    one, two = [await run_agent(kernel, repo_path="/r", base_commit="a" * 40) for _ in range(2)]
    await kernel.open_workspace(one.id, epoch=1, path="/w", branch="x", base_commit="a" * 40)
    with pytest.raises(RuleBroken, match="one agent per worktree"):
        await kernel.open_workspace(two.id, epoch=1, path="/w", branch="y", base_commit="a" * 40)
    await kernel.fail_workspace(two.id, epoch=1)
    shown = await kernel.show(two.id)
    assert (shown.isolation_status, shown.worktree_path) == ("failed", None)
