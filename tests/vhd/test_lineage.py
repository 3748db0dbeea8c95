"""Readers beside a merge: at every instant, whether they came before it began or in the middle of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from remotes.faults import CHANGES, Faults
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.errors import Malformed, MissingParent
from vhd.lineage import ATTEMPTS, LineageOpener, open_chain, read_states
from vhd.merge.progress import MergeOptions
from vhd.merge.run import apply_merge
from vhd.merge.state import MergeState, Step, state_name
from xotest.pictures import expand, flatten, uuid_of
from xotest.workspace import CODECS, RemoteWorkspace, write_pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from vhd.chain import Chain

KINDS = pytest.mark.parametrize("directory", [False, True], ids=["files", "directories"])
BUFFER = BlockBuffer()


class Watched(Faults):
    """No faults: calls ``watch`` after every change."""

    def __init__(self, watch: Callable[[], None]) -> None:
        super().__init__()
        self._watch = watch
        self._one_at_a_time = threading.Lock()

    def perform(  # type: ignore[no-untyped-def]
        self, kind: str, remote: str, name: str, action, torn: Callable[[Random], None] | None = None
    ):
        found = super().perform(kind, remote, name, action, torn)
        if kind in CHANGES:
            with self._one_at_a_time:
                self._watch()
        return found


def blocks_of(pictures: list[str]) -> list[bytes]:
    return [expand(letters) for letters in flatten(pictures)]


def read_all(chain: Chain) -> list[bytes]:
    blocks = []
    for index in range(chain.virtual_size_bytes // BLOCK_BYTES):
        chain.read_block(index, BUFFER)
        blocks.append(bytes(BUFFER.data))
    return blocks


CHAINS = [["AB-", "-C-D", "E---"], ["AB--", "-C-D", "E-F-", "-GG-"]]


@KINDS
@pytest.mark.parametrize("pictures", CHAINS, ids=["one-child", "several-children"])
def test_readers_that_came_before_and_readers_that_come_now_read_the_same_at_every_change(
    pictures: list[str], directory: bool
) -> None:
    remote = MemoryRemote()
    workspace = RemoteWorkspace(remote)
    names = write_pictures(workspace, pictures, directory=directory, entries=4 if directory else None)
    retained = {names[-2]: blocks_of(pictures[:-1]), names[-1]: blocks_of(pictures)}
    before = {name: open_chain(workspace, name, CODECS) for name in retained}
    changes = 0

    def watch() -> None:
        nonlocal changes
        changes += 1
        for name, expected in retained.items():
            assert read_all(before[name]) == expected, f"{name} opened before"
            chain = open_chain(workspace, name, CODECS)
            assert read_all(chain) == expected, f"{name} opened now"
            chain.close()

    watched = RemoteWorkspace(FaultyRemote(remote, Watched(watch)))
    apply_merge(watched, names[:-1], CODECS, MergeOptions(checkpoint_s=0, workers_max=1))
    assert changes > 8
    for name, expected in retained.items():
        assert read_all(before[name]) == expected


def test_a_reader_outlives_a_second_merge_of_directories_too() -> None:
    pictures = ["AB--", "-C-D", "E---", "---F"]
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, pictures, directory=True)
    reader = open_chain(workspace, names[-1], CODECS)
    apply_merge(workspace, names[:2], CODECS)
    apply_merge(workspace, names[1:3], CODECS)
    assert read_all(reader) == blocks_of(pictures)


def test_while_the_cleanup_lasts_the_root_is_the_target() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "B", "-"], directory=False)
    state = MergeState(root_uuid=uuid_of(0), target_uuid=uuid_of(1), chain=tuple(names[:2]), step=Step.CLEANUP)
    workspace.put(state_name(names[0]), state.pack())
    opener = LineageOpener(workspace, CODECS)
    assert opener.place_of(names[1]) == names[0]
    assert opener.place_of(names[2]) == names[2]
    assert opener.uuids_of(names[0]) == {uuid_of(0), uuid_of(1)}
    workspace.move(names[0], names[1])
    assert LineageOpener(workspace, CODECS).place_of(names[1]) == names[1]


@pytest.mark.parametrize("raw", [b"", b"{}", b"not json", b'{"child":{},"parent":{}}', b"[1]"])
def test_state_files_that_make_no_sense_do_not_stop_a_reader(raw: bytes) -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "-B"], directory=False)
    workspace.put(state_name(names[0]), raw)
    assert read_states(workspace, CODECS) == []
    assert read_all(open_chain(workspace, names[1], CODECS)) == blocks_of(["A", "-B"])


def test_what_is_really_missing_is_said_after_a_few_tries() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "-B"], directory=False)
    workspace.delete(names[0])
    with pytest.raises(MissingParent):
        open_chain(workspace, names[1], CODECS)
    assert ATTEMPTS == 3


def test_a_directory_without_its_footer_is_the_storages_error_not_a_missing_parent() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A", "-B"], directory=True)
    workspace.delete("data/0.vhd/footer")
    with pytest.raises(workspace.missing):
        open_chain(workspace, names[1], CODECS)


def test_a_lost_block_is_damage_though_a_merge_of_others_is_under_way() -> None:
    workspace = RemoteWorkspace(MemoryRemote())
    names = write_pictures(workspace, ["A-", "-B", "C-", "-D"], directory=True)
    state = MergeState(root_uuid=uuid_of(0), target_uuid=uuid_of(1), chain=tuple(names[:2]))
    workspace.put(state_name(names[0]), state.pack())
    workspace.delete("data/3.vhd/blocks/0/1")
    with pytest.raises(Malformed, match="block-missing"):
        read_all(open_chain(workspace, names[3], CODECS))
