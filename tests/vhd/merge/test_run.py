"""Merging chains of pictures, files and directories alike, and reading what builds on them."""

from __future__ import annotations

import random

import pytest

from remotes.memory import MemoryRemote
from vhd.errors import MergeError
from vhd.lineage import open_chain
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge, show_merge
from xotest.pictures import ALPHABET, flat_of, flatten, uuid_of
from xotest.workspace import CODECS, RemoteWorkspace, write_pictures

KINDS = pytest.mark.parametrize("directory", [False, True], ids=["files", "directories"])

CHAINS = {
    "disjoint": ["AB--", "--C-", "---D"],
    "in-place": ["ABCD", "-E-F", "G---"],
    "several": ["AB---", "-C-D-", "E--F-", "-G---", "H----"],
    "partial-in-place": ["ABCD", "a-bc", "c---"],
    "partial-appended": ["----", "abc-", "-c--"],
    "partial-many": ["Aab-b", "babac", "cc-ab", "a-b-c"],
    "partial-root": ["abca", "bcab", "----"],
    "nothing": ["AB", "--", "-C"],
    "grown": ["AB", "-CD", "---E"],
    "grown-partly": ["Aa", "b-ab", "c---C"],
}


@KINDS
@pytest.mark.parametrize("name", CHAINS)
def test_the_target_and_what_builds_on_it_read_the_same_after_the_merge(directory: bool, name: str) -> None:
    pictures = CHAINS[name]
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, pictures, directory=directory)
    result = apply_merge(workspace, names[:-1], CODECS)
    assert result.name == names[-2]
    assert not result.resumed
    assert sorted(workspace.names("")) == sorted(([] if not directory else ["data"]) + names[-2:])
    if directory:
        assert workspace.names("data") == ["0.vhd", f"{len(pictures) - 1}.vhd"]
    merged = open_chain(workspace, names[-2], CODECS)
    assert len(merged.members) == 1
    assert merged.footer.uuid == uuid_of(len(pictures) - 2)
    assert flat_of(merged) == flatten(pictures[:-1])
    assert flat_of(open_chain(workspace, names[-1], CODECS)) == flatten(pictures)


@KINDS
@pytest.mark.parametrize("seed", range(12))
def test_random_chains_merge_right_wherever_they_are_cut(directory: bool, seed: int) -> None:
    rng = random.Random(seed)
    length = rng.randint(1, 5)
    pictures = []
    for _ in range(rng.randint(3, 6)):
        length += rng.choice((0, 0, 1))
        pictures.append("".join(rng.choice(ALPHABET + "--") for _ in range(length)))
    low = rng.randint(0, len(pictures) - 2)
    high = rng.randint(low + 2, len(pictures))
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, pictures, directory=directory)
    before = [flatten(pictures[: at + 1]) for at in range(len(pictures))]
    apply_merge(workspace, names[low:high], CODECS)
    for at in (*range(low), *range(high - 1, len(pictures))):
        assert flat_of(open_chain(workspace, names[at], CODECS)) == before[at], (pictures, low, high, at)


@KINDS
def test_showing_a_merge_changes_nothing_and_says_why(directory: bool) -> None:
    remote = MemoryRemote()
    workspace = RemoteWorkspace(remote)
    names = write_pictures(workspace, ["AB-", "-CDE"], directory=directory, entries=4 if directory else None)
    before = {name: workspace.get(name) for name in names}
    plan = show_merge(workspace, names, CODECS)
    assert {name: workspace.get(name) for name in names} == before
    assert (plan.blocks, plan.in_place, plan.appended) == (3, 1, 2)
    assert f"{names[0]} takes 3 blocks of 1 disks up to {names[1]}: 1 replaced, 2 added" in plan.reason


@KINDS
def test_progress_counts_every_block_and_cancelling_stops_before_the_next(directory: bool) -> None:
    class Stop(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def cancel() -> None:
        if len(seen) == 2:
            raise Stop

    workspace = RemoteWorkspace(MemoryRemote())
    pictures = ["ABCDE", "FGHIJ", "K----"]
    names = write_pictures(workspace, pictures, directory=directory)
    options = MergeOptions(
        progress=lambda progress: seen.append((progress.blocks_done, progress.blocks_total)),
        cancel=cancel,
        workers_max=1,
    )
    with pytest.raises(Stop):
        apply_merge(workspace, names[:2], CODECS, options)
    assert seen == [(1, 5), (2, 5)]
    assert flat_of(open_chain(workspace, names[1], CODECS)) == flatten(pictures[:2])
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)
    result = apply_merge(workspace, names[:2], CODECS)
    assert result.resumed
    assert flat_of(open_chain(workspace, names[2], CODECS)) == flatten(pictures)


@KINDS
def test_another_merge_under_way_has_to_be_finished_first(directory: bool) -> None:
    class Stop(Exception):
        pass

    def cancel() -> None:
        raise Stop

    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["AB", "C-", "-D", "E-"], directory=directory)
    with pytest.raises(Stop):
        apply_merge(workspace, names[:2], CODECS, MergeOptions(cancel=cancel))
    with pytest.raises(MergeError, match="has to be finished first"):
        apply_merge(workspace, names[:3], CODECS)
