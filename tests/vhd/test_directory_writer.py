"""Writing VHD directories: what is whole when, room for growth, growing in place."""

from __future__ import annotations

import pytest

from remotes import errors
from remotes.faults import CHANGES, Cut, Faults, PowerCut
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from vhd.directory import VhdDirectory
from vhd.directory_writer import VhdDirectoryUpdater, VhdDirectoryWriter, generous_entries
from vhd.errors import Unsupported
from vhd.footer import DiskType, new_footer
from vhd.header import ENTRIES_MAX
from xotest.pictures import draw, picture_of, uuid_of
from xotest.workspace import CODECS, RemoteWorkspace, write_directory

GIB = 1 << 30


def test_tables_have_room_to_double_and_never_too_many_entries() -> None:
    assert generous_entries(GIB) == 4096
    assert generous_entries(100 * GIB) == 102_400
    assert generous_entries(2040 * GIB) == 2 * 2040 * 512
    assert generous_entries(ENTRIES_MAX * BLOCK_BYTES) == ENTRIES_MAX


def test_an_unfinished_directory_has_no_footer_at_any_moment() -> None:
    assert CHANGES
    for number in range(1, 20):
        remote = MemoryRemote()
        faulty = FaultyRemote(remote, Faults(cut=Cut(at=number)))
        try:
            write_directory(RemoteWorkspace(faulty), "a.vhd", "Ab-C")
        except PowerCut:
            with pytest.raises(errors.NotFound):
                VhdDirectory.open(RemoteWorkspace(remote), "a.vhd", CODECS)
            continue
        assert picture_of(VhdDirectory.open(RemoteWorkspace(remote), "a.vhd", CODECS)) == "Ab-C"
        assert number > 6
        return
    pytest.fail("the writer never finished")


def test_the_reported_size_is_xos() -> None:
    store = RemoteWorkspace(MemoryRemote())
    footer = new_footer(size_bytes=2 * BLOCK_BYTES, disk_type=DiskType.DYNAMIC, uuid=uuid_of(0), timestamp=0)
    writer = VhdDirectoryWriter.create(store, "a.vhd", footer=footer, entries=130)
    buffer = BlockBuffer()
    writer.write_block(Block(1, draw("A", buffer), buffer))
    expected = 512 + 1024 + 1024 + 512 + 2 * 1024 * 1024 + 512
    assert writer.finish() == expected
    assert VhdDirectory.open(store, "a.vhd", CODECS).streamed_size_bytes == expected


def test_a_table_too_small_for_the_disk_or_too_large_for_anybody_is_refused() -> None:
    footer = new_footer(size_bytes=9 * BLOCK_BYTES, disk_type=DiskType.DYNAMIC, uuid=uuid_of(0), timestamp=0)
    for entries in (8, ENTRIES_MAX + 1):
        with pytest.raises(Unsupported):
            VhdDirectoryWriter.create(RemoteWorkspace(MemoryRemote()), "a.vhd", footer=footer, entries=entries)


def test_growing_keeps_the_directory_readable_at_every_moment() -> None:
    for number in range(1, 10):
        remote = MemoryRemote()
        write_directory(RemoteWorkspace(remote), "a.vhd", "Ab-C", entries=4)
        store = RemoteWorkspace(FaultyRemote(remote, Faults(cut=Cut(at=number))))
        try:
            disk = VhdDirectoryUpdater.open(store, "a.vhd", CODECS)
            disk.grow(5000)
            disk.replace_footer(disk.footer.with_size(5000 * BLOCK_BYTES))
        except PowerCut:
            picture = picture_of(VhdDirectory.open(RemoteWorkspace(remote), "a.vhd", CODECS))
            assert picture == "Ab-C"
            continue
        grown = VhdDirectory.open(RemoteWorkspace(remote), "a.vhd", CODECS)
        assert grown.block_count == 5000
        assert grown.block_indexes() == [0, 1, 3]
        assert number > 2
        return
    pytest.fail("growing never finished")
