"""Cut the power at every change of a merge: what is retained reads right, before and after the next run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.lineage import open_chain, read_states
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge, resume_merge
from vhd.merge.state import root_of
from xotest.pictures import expand, flatten
from xotest.sweep import sweep
from xotest.workspace import CODECS, RemoteWorkspace, write_pictures

if TYPE_CHECKING:
    from remotes.contract import Remote
    from vhd.chain import Chain

KINDS = pytest.mark.parametrize("directory", [False, True], ids=["files", "directories"])
OFTEN = MergeOptions(checkpoint_s=0, workers_max=1)
"""The state file is rewritten after every block, so that every resume begins elsewhere."""

CHAINS = {
    "one-child": ["AB-", "-C-D", "E---"],
    "in-place": ["ABC", "DEF", "--G"],
    "several-children": ["AB--", "-C-D", "E-F-", "--G-"],
    "partial": ["Aa-c", "bb-a", "c-ba", "-a--"],
    "grown": ["AB", "-CD", "E--F"],
}


STRIDES = {("partial", False): 211}
"""A partial block of a file is copied run by run, and the pictures have hundreds: not every one of them is cut."""


BUFFER = BlockBuffer()


@cache
def block_data(letters: bytes) -> bytes:
    return expand(letters)


def blocks_of(pictures: list[str]) -> list[bytes]:
    return [block_data(letters) for letters in flatten(pictures)]


def read_all(chain: Chain) -> list[bytes]:
    blocks = []
    for index in range(chain.virtual_size_bytes // BLOCK_BYTES):
        chain.read_block(index, BUFFER)
        blocks.append(bytes(BUFFER.data))
    return blocks


@cache
def prepared(name: str, directory: bool) -> MemoryRemote:
    remote = MemoryRemote()
    write_pictures(RemoteWorkspace(remote), CHAINS[name], directory=directory, tight=True)
    return remote


def merge_again(remote: Remote, pictures: list[str], directory: bool) -> None:
    """What the next run does: finish what is under way, else merge if there is still something to merge."""
    workspace = RemoteWorkspace(remote)
    names = [f"{number}.alias.vhd" if directory else f"{number}.vhd" for number in range(len(pictures))]
    for name in workspace.names(""):
        root = root_of(name)
        if root is not None:
            resume_merge(workspace, root, CODECS, OFTEN)
    if workspace.exists(names[0]):
        apply_merge(workspace, names[:-1], CODECS, OFTEN)


@KINDS
@pytest.mark.parametrize("name", CHAINS)
def test_a_power_cut_anywhere_leaves_every_retained_point_readable_and_the_next_run_finishes(
    name: str, directory: bool
) -> None:
    pictures = CHAINS[name]
    last = len(pictures) - 1
    suffix = "alias.vhd" if directory else "vhd"
    retained = {f"{last - 1}.{suffix}": blocks_of(pictures[:-1]), f"{last}.{suffix}": blocks_of(pictures)}

    def check(remote: Remote) -> None:
        workspace = RemoteWorkspace(remote)
        for tip, expected in retained.items():
            chain = open_chain(workspace, tip, CODECS)
            assert read_all(chain) == expected, tip
            chain.close()

    def finished(remote: Remote) -> None:
        workspace = RemoteWorkspace(remote)
        assert read_states(workspace, CODECS) == []
        left = [name for name in workspace.names("") if not name.endswith(".tmp")]  # of a torn put: the remote's
        assert left == sorted([*retained, *(["data"] if directory else [])])
        if directory:
            assert workspace.names("data") == ["0.vhd", f"{last}.vhd"]

    cuts = sweep(
        prepared(name, directory).snapshot,
        lambda remote: merge_again(remote, pictures, directory),
        check,
        finished,
        every=STRIDES.get((name, directory), 1),
    )
    assert cuts > 10
