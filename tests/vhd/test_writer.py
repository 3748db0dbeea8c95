from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from vhd.block import BLOCK_BYTES, FULL_BITMAP, SLOT_BYTES, Block, BlockBuffer
from vhd.check import check_file
from vhd.errors import Malformed, Unsupported
from vhd.file import ParentLink, VhdFile, VhdFileWriter
from vhd.footer import DiskType, Footer, new_footer
from vhd.layout import SIZE_MAX_BYTES, first_slot_offset
from vhd.storage import read_exactly
from xotest.memory_file import MemoryFile
from xotest.pictures import draw, flat_of, flatten, picture_of, uuid_of, write_picture

if TYPE_CHECKING:
    from vhd.storage import Buffer

PARENT = ParentLink(name="20260104T030000Z.vhd", uuid=uuid_of(3), timestamp=11)


def footer_of(size_bytes: int, kind: DiskType = DiskType.DYNAMIC) -> Footer:
    return new_footer(size_bytes=size_bytes, disk_type=kind, uuid=uuid_of(4), timestamp=12)


def begin(size_bytes: int = 4 * BLOCK_BYTES, **options: int) -> tuple[MemoryFile, VhdFileWriter]:
    file = MemoryFile()
    return file, VhdFileWriter.create(file, footer=footer_of(size_bytes), **options)


def put(writer: VhdFileWriter, index: int, character: str) -> None:
    buffer = BlockBuffer()
    writer.write_block(Block(index, draw(character, buffer), buffer))


def test_the_layout_byte_by_byte() -> None:
    file = write_picture("-Ab", parent=PARENT)
    data = file.data()
    assert data[:512] == data[-512:]
    assert data[512:520] == b"cxsparse"
    assert data[1536:2048].decode("utf-16-le").rstrip("\0") == ".\\20260104T030000Z.vhd"
    assert data[2048:2060] == b"\xff\xff\xff\xff" + (15).to_bytes(4, "big") + (15 + 4104).to_bytes(4, "big")
    assert data[2060:2560] == b"\xff" * 500
    assert data[2560 : 4096 + 3584].strip(b"\0") == b""
    assert data[4096 + 3584 : 8192] == FULL_BITMAP
    assert data[8192 : 8192 + BLOCK_BYTES] == b"A" * BLOCK_BYTES
    assert len(data) == 4096 + 2 * SLOT_BYTES + 512


def test_each_block_is_one_write_of_a_slot_on_4_kib_and_then_final() -> None:
    file, writer = begin()
    put(writer, 2, "A")
    put(writer, 0, "b")
    assert file.calls == [
        ("write_at", 4096, SLOT_BYTES),
        ("written", 4096, SLOT_BYTES),
        ("write_at", 4096 + SLOT_BYTES, SLOT_BYTES),
        ("written", 4096 + SLOT_BYTES, SLOT_BYTES),
    ]


def test_what_a_buffer_holds_before_its_bitmap_is_not_written() -> None:
    file, writer = begin()
    buffer = BlockBuffer()
    buffer.slot[:] = b"x" * SLOT_BYTES
    writer.write_block(Block(0, None, buffer))
    assert read_exactly(file, 4096, 4096) == bytes(3584) + FULL_BITMAP


def test_the_footer_at_0_comes_last_after_everything_is_durable() -> None:
    file, writer = begin()
    put(writer, 0, "A")
    file.calls.clear()
    length = writer.finish()
    end = 4096 + SLOT_BYTES
    assert file.calls == [("write_at", 512, 2048), ("write_at", end, 512), ("sync",), ("write_at", 0, 512), ("sync",)]
    assert length == file.size() == end + 512


class Fragile(MemoryFile):
    """Fails at one of its writes or syncs, and ever after."""

    budget = 1 << 30

    def write_at(self, offset: int, data: Buffer) -> None:
        self._spend()
        super().write_at(offset, data)

    def sync(self) -> None:
        self._spend()
        super().sync()

    def _spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("budget", range(8))
def test_an_unfinished_file_is_no_vhd(budget: int) -> None:
    file = Fragile()
    file.budget = budget
    writer = VhdFileWriter.create(file, footer=footer_of(2 * BLOCK_BYTES))
    if budget == 7:  # two blocks, head, end, sync, front, sync
        put(writer, 0, "A")
        put(writer, 1, "B")
        writer.finish()
        assert picture_of(VhdFile.open(file)) == "AB"
        return
    with pytest.raises(OSError, match="No space left"):
        put(writer, 0, "A")
        put(writer, 1, "B")
        writer.finish()
    if budget == 6:  # only the last sync failed: all is in the file, though perhaps not durable
        return
    assert read_exactly(file, 0, 512).strip(b"\0") == b""
    for trailing_footer in (True, False):
        if budget >= 4 and not trailing_footer:
            continue  # the end is whole, and a merge's reader would take it: but nothing names this file
        with pytest.raises(Malformed):
            VhdFile.open(file, trailing_footer=trailing_footer)


@pytest.mark.parametrize("size_bytes", [512, BLOCK_BYTES, 15_000_576, 64 << 20, SIZE_MAX_BYTES])
def test_sizes(size_bytes: int) -> None:
    file, writer = begin(size_bytes)
    last = -(-size_bytes // BLOCK_BYTES) - 1
    put(writer, last, "Z")
    length = writer.finish()
    disk = VhdFile.open(file)
    assert disk.virtual_size_bytes == size_bytes
    assert disk.block_indexes() == [last]
    assert length == first_slot_offset(last + 1) + SLOT_BYTES + 512
    assert check_file(file, now_vhd_s=12, data=True) == []


def test_a_table_with_room_to_grow() -> None:
    file, writer = begin(entries=4096)
    put(writer, 3, "A")
    assert writer.streamed_size_bytes == 512 + 1024 + 4096 * 4 + 512 + BLOCK_BYTES + 512
    writer.finish()
    disk = VhdFile.open(file)
    assert disk.header is not None
    assert disk.header.table_entries == 4096
    assert disk.block_count == 4
    assert picture_of(disk) == "---A"
    assert check_file(file) == []
    file, writer = begin(entries=1)
    assert writer.header.table_entries == 4, "never fewer than the disk needs"


def test_a_disk_without_blocks() -> None:
    file, writer = begin()
    assert writer.finish() == 4096 + 512
    assert picture_of(VhdFile.open(file)) == "----"
    assert check_file(file) == []


def test_several_threads_may_write() -> None:
    file, writer = begin(26 * BLOCK_BYTES)
    picture = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda item: put(writer, *item), enumerate(picture)))
    writer.finish()
    assert flat_of(VhdFile.open(file)) == flatten([picture])
    assert check_file(file) == []


def test_the_programmer_s_mistakes() -> None:
    _, writer = begin()
    put(writer, 1, "A")
    with pytest.raises(AssertionError, match="block 1 was written before"):
        put(writer, 1, "A")
    with pytest.raises(AssertionError, match="block 4 is past the disk's end"):
        put(writer, 4, "A")
    with pytest.raises(AssertionError, match="has a parent"):
        VhdFileWriter.create(MemoryFile(), footer=footer_of(512), parent=PARENT)
    with pytest.raises(AssertionError, match="has a parent"):
        VhdFileWriter.create(MemoryFile(), footer=footer_of(512, DiskType.DIFFERENCING))
    with pytest.raises(AssertionError, match="the header lies at 512"):
        VhdFileWriter.create(MemoryFile(), footer=footer_of(512, DiskType.FIXED))


def test_a_disk_larger_than_the_format_reaches_is_refused() -> None:
    with pytest.raises(Unsupported, match="a disk of 2190433321472 bytes"):
        begin(SIZE_MAX_BYTES + 512)
