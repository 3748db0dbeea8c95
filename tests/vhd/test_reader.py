from __future__ import annotations

import hashlib
from dataclasses import replace
from uuid import UUID

import pytest

from vhd.block import BLOCK_BYTES, EMPTY_BITMAP, BlockBuffer
from vhd.check import check_file
from vhd.errors import Malformed, Unsupported
from vhd.file import ParentLink, VhdFile, VhdFileUpdater
from vhd.footer import DiskType, new_footer
from vhd.header import Header
from vhd.storage import read_exactly
from xotest.foreign import QEMU_RAW_SHA256, foreign
from xotest.layouts import STYLES, XEN, Style, lay_out, picture_in
from xotest.memory_file import MemoryFile
from xotest.pictures import flat_of, flatten, letters_drawn, picture_of, uuid_of, write_picture

PARENT = ParentLink(name="0.vhd", uuid=uuid_of(9), timestamp=5)


def code_of(file: MemoryFile, *, trailing_footer: bool = True) -> str:
    with pytest.raises(Malformed) as caught:
        VhdFile.open(file, trailing_footer=trailing_footer)
    return caught.value.findings[0].code


def raw_sha256(disk: VhdFile) -> str:
    digest, buffer = hashlib.sha256(), BlockBuffer()
    for index in range(disk.block_count):
        disk.read_block(index, buffer)
        digest.update(buffer.data[: disk.virtual_size_bytes - index * BLOCK_BYTES])
    return digest.hexdigest()


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
@pytest.mark.parametrize("parent", [None, PARENT], ids=["dynamic", "differencing"])
def test_every_writer_s_layout_reads_the_same(style: Style, parent: ParentLink | None) -> None:
    picture = "-Ab0zC-"
    disk = VhdFile.open(lay_out(picture, style, parent=parent))
    assert picture_of(disk) == picture_in(style, picture)
    assert flat_of(disk) == flatten([picture])
    assert disk.block_indexes() == [1, 2, 3, 4, 5]
    assert disk.parent_name() == (None if parent is None else "0.vhd")


@pytest.mark.parametrize("name", ["qemu-dynamic-64m.vhd", "qemu-fixed-64m.vhd"])
def test_qemu_s_disks_give_their_bytes(name: str) -> None:
    disk = VhdFile.open(foreign(name))
    assert raw_sha256(disk) == QEMU_RAW_SHA256
    assert disk.virtual_size_bytes == 64 << 20
    assert not disk.has_batmap()
    assert disk.parent_candidates() == []
    assert disk.parent_name() is None


def test_vhd_util_s_chain() -> None:
    root, child, grandchild = (VhdFile.open(foreign(f"{name}-64m.vhd")) for name in ("empty", "child", "grandchild"))
    assert [disk.has_batmap() for disk in (root, child, grandchild)] == [True] * 3
    assert [disk.block_indexes() for disk in (root, child, grandchild)] == [[]] * 3
    assert child.header is not None
    assert child.header.parent_uuid == root.footer.uuid
    assert grandchild.parent_candidates() == ["empty-64m.vhd"]
    assert VhdFile.open(foreign("hidden-66m.vhd")).footer.hidden == 1


def test_xen_s_first_version_counts_bits_from_the_other_end() -> None:
    old = replace(XEN, creator_version=1, batmap=False)
    file = lay_out("b", old)
    disk = VhdFile.open(file)
    at = disk.block_span(0)[0]
    stored = read_exactly(file, at, 512)
    file.write_at(at, bytes(int(f"{byte:08b}"[::-1], 2) for byte in stored))
    assert picture_of(disk) == "b"
    assert disk.bitmap(0) == stored


def test_a_block_that_is_not_there_is_zeros() -> None:
    disk = VhdFile.open(write_picture("A-"))
    buffer = BlockBuffer()
    disk.read_block(0, buffer)
    assert disk.read_block(1, buffer) == EMPTY_BITMAP == disk.bitmap(1) == disk.bitmap(77)
    assert bytes(buffer.data).strip(b"\0") == b""
    assert disk.bitmap(0) is None
    assert not disk.has(2)


@pytest.mark.parametrize("character", ["A", "b"])
def test_what_lies_past_the_end_of_the_disk_does_not_leak(character: str) -> None:
    size = BLOCK_BYTES + 512 * 7
    disk = VhdFile.open(write_picture("A" + character, size_bytes=size))
    buffer = BlockBuffer()
    disk.read_block(1, buffer)
    letters = bytes(buffer.data[::512])
    assert letters == letters_drawn(character)[:7].ljust(4096, b"\0")


def test_sectors_that_the_bitmap_denies_do_not_leak() -> None:
    file = write_picture("b")
    disk = VhdFile.open(file)
    file.write_at(disk.block_span(0)[1], b"s" * BLOCK_BYTES)
    buffer = BlockBuffer()
    bitmap = disk.read_block(0, buffer)
    assert bitmap is not None
    expected = bytes(0x73 if letter else 0 for letter in letters_drawn("b"))
    assert bytes(buffer.data[::512]) == expected


def test_blocks_past_the_disk_s_end_do_not_count() -> None:
    file = write_picture("ABC")
    disk = VhdFile.open(file)
    raw = disk.footer.with_size(BLOCK_BYTES).pack()
    file.write_at(0, raw)
    file.write_at(file.size() - 512, raw)
    assert VhdFile.open(file).block_indexes() == [0]


def fixed(size_bytes: int, *, data: bytes = b"") -> MemoryFile:
    file = MemoryFile(name="fixed.vhd")
    file.write_at(0, data)
    footer = new_footer(size_bytes=size_bytes, disk_type=DiskType.FIXED, uuid=uuid_of(1), timestamp=0)
    file.write_at(size_bytes, footer.pack())
    return file


@pytest.mark.parametrize("size_bytes", [512, BLOCK_BYTES, 15_000_576])
def test_a_fixed_disk_has_all_blocks(size_bytes: int) -> None:
    file = fixed(size_bytes, data=b"x" * size_bytes)
    disk = VhdFile.open(file)
    assert disk.header is None
    assert disk.block_indexes() == list(range(-(-size_bytes // BLOCK_BYTES)))
    assert raw_sha256(disk) == hashlib.sha256(b"x" * size_bytes).hexdigest()
    assert disk.bitmap(0) is None
    last = disk.block_indexes()[-1]
    assert disk.block_span(last) == (last * BLOCK_BYTES, last * BLOCK_BYTES)
    buffer = BlockBuffer()
    disk.read_block(last, buffer)
    assert bytes(buffer.data).strip(b"\0") == b"x" * (size_bytes - last * BLOCK_BYTES)
    disk.close()
    assert file.closed


def test_a_cut_off_file_does_not_pass_for_a_fixed_disk_in_its_guest_s_sectors() -> None:
    """A guest that stores fixed VHDs has their footers in its blocks; the file may be cut off just there."""
    file = write_picture("A")
    inner = new_footer(size_bytes=BLOCK_BYTES, disk_type=DiskType.FIXED, uuid=uuid_of(1), timestamp=0).pack()
    file.write_at(8192 + BLOCK_BYTES - 1024, inner)
    file.truncate(8192 + BLOCK_BYTES - 512)
    assert code_of(file) == "footer-copies"
    assert [finding.code for finding in check_file(file)] == ["footer-copies", "block-past-end"]
    whole = write_picture("A").data()
    assert code_of(fixed(len(whole), data=whole)) == "footer-copies", "the price"


def test_a_fixed_disk_opens_in_both_ways() -> None:
    file = fixed(BLOCK_BYTES, data=b"x" * 1024)
    assert VhdFile.open(file).header is None
    assert VhdFile.open(file, trailing_footer=False).header is None


def test_old_footers_lack_their_last_byte() -> None:
    for file in (write_picture("Ab"), fixed(BLOCK_BYTES, data=b"A" * BLOCK_BYTES)):
        file.truncate(file.size() - 1)
        assert picture_of(VhdFile.open(file)) in ("Ab", "A")


def test_a_fixed_disk_larger_than_its_file() -> None:
    file = fixed(BLOCK_BYTES)
    footer = new_footer(size_bytes=2 * BLOCK_BYTES, disk_type=DiskType.FIXED, uuid=uuid_of(1), timestamp=0)
    file.write_at(BLOCK_BYTES, footer.pack())
    assert code_of(file) == "fixed-short"


def test_a_fixed_disk_too_large_for_the_table_in_memory() -> None:
    with pytest.raises(Unsupported, match="fixed disk of more than"):
        VhdFile.open(fixed((1 << 41) + 512))


def test_the_two_footers_must_be_equal_unless_a_merge_is_under_way() -> None:
    file = write_picture("AB")
    disk = VhdFile.open(file)
    other = replace(disk.footer, uuid=uuid_of(77)).pack()
    file.write_at(file.size() - 512, other)
    assert code_of(file) == "footer-copies"
    assert VhdFile.open(file, trailing_footer=False).footer == disk.footer, "the copy at 0 decides"
    file.write_at(100, b"torn")
    assert code_of(file) == "footer-checksum"
    assert VhdFile.open(file, trailing_footer=False).footer.uuid == uuid_of(77), "else the end"
    file.write_at(file.size() - 512, b"torn")
    assert code_of(file) == code_of(file, trailing_footer=False) == "footer-cookie"


def test_a_block_may_end_with_the_file_only_without_its_footer() -> None:
    file = write_picture("AB")
    file.truncate(file.size() - 512)
    assert code_of(file) == "footer-cookie"
    assert picture_of(VhdFile.open(file, trailing_footer=False)) == "AB"
    file.truncate(file.size() - 1)
    assert code_of(file, trailing_footer=False) == "block-past-end"


@pytest.mark.parametrize("length", [0, 1, 511, 512, 1000, 2048])
def test_files_too_short_for_anything(length: int) -> None:
    data = write_picture("-").data()[:length]
    assert code_of(MemoryFile(data)) in ("footer-short", "footer-cookie", "header-short")


def with_header(header: Header, *, size: int = BLOCK_BYTES, length: int = 1 << 16) -> MemoryFile:
    footer = new_footer(size_bytes=size, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0).pack()
    file = MemoryFile()
    file.write_at(length - 512, footer)
    file.write_at(0, footer)
    file.write_at(512, header.pack())
    file.write_at(2048, b"\xff" * 4096)
    return file


@pytest.mark.parametrize(
    ("header", "size", "code"),
    [
        (Header(table_offset=2048, table_entries=1), BLOCK_BYTES, None),
        (Header(table_offset=2048, table_entries=0), BLOCK_BYTES, "header-table-entries"),
        (Header(table_offset=2048, table_entries=0xFFFFFFFF), BLOCK_BYTES, "header-table-entries"),
        (Header(table_offset=2048, table_entries=1 << 20), BLOCK_BYTES, "table-past-end"),
        (Header(table_offset=1 << 40, table_entries=1), BLOCK_BYTES, "table-past-end"),
        (Header(table_offset=1024, table_entries=1), BLOCK_BYTES, "table-clobbers-headers"),
        (Header(table_offset=2048, table_entries=1), 1 << 50, "header-table-entries"),
        (Header(table_offset=2048, table_entries=1, block_bytes=512), BLOCK_BYTES, "header-block-size"),
    ],
)
def test_lying_headers(header: Header, size: int, code: str | None) -> None:
    file = with_header(header, size=size)
    if code is None:
        assert VhdFile.open(file).block_indexes() == []
    else:
        assert code_of(file) == code


def test_a_header_past_the_end() -> None:
    file = with_header(Header(table_offset=2048, table_entries=1))
    footer = replace(VhdFile.open(file).footer, data_offset=1 << 40).pack()
    file.write_at(0, footer)
    file.write_at(file.size() - 512, footer)
    assert code_of(file) == "header-short"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([0xFFFFFFFE], "block-past-end"),
        ([5], "block-past-end"),
        ([0], "block-clobbers-headers"),
        ([3], "block-clobbers-headers"),
    ],
)
def test_lying_tables(entries: list[int], code: str) -> None:
    file = with_header(Header(table_offset=2048, table_entries=1), length=(1 << 21) + 2560)
    file.write_at(2048, b"".join(entry.to_bytes(4, "big") for entry in entries))
    assert code_of(file) == code


def test_overlapping_blocks() -> None:
    file = write_picture("AB")
    first = VhdFile.open(file).bat[0]
    file.write_at(2052, (first + 4000).to_bytes(4, "big"))
    assert code_of(file) == "block-overlap"


def test_a_file_that_shrinks_behind_our_back_is_no_data() -> None:
    file = write_picture("AB")
    disk = VhdFile.open(file)
    file.truncate(disk.block_span(1)[1] + 100)
    with pytest.raises(Malformed, match="block 1 is cut off: expected 2097664 bytes, found 612"):
        disk.read_block(1, BlockBuffer())
    file.truncate(disk.block_span(1)[0] + 100)
    with pytest.raises(Malformed, match="expected 512 bytes, found 100"):
        disk.bitmap(1)


class Shrinking(MemoryFile):
    """Says it is longer than what it gives."""

    lie = 0

    def size(self) -> int:
        return super().size() + self.lie


def test_a_table_that_is_shorter_than_the_file_said() -> None:
    file = Shrinking()
    footer = new_footer(size_bytes=BLOCK_BYTES, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0).pack()
    file.write_at(0, footer)
    file.write_at(512, Header(table_offset=2048, table_entries=1000).pack())
    file.lie = 1 << 20
    with pytest.raises(Malformed, match="table-short"):
        VhdFile.open(file, trailing_footer=False)


def test_a_reader_follows_a_block_that_a_growing_table_pushed_away() -> None:
    file = write_picture("Ab")
    early = VhdFile.open(file)
    updater = VhdFileUpdater.open(file)
    updater.grow(700_000)
    assert early.bat[0] != updater.bat[0]
    assert picture_of(early) == "Ab"
    assert early.bitmap(0) is None
    assert early.bitmap(1) is not None
    assert early.place_now(0) == updater.bat[0] * 512


def test_far_blocks_are_not_asked_for() -> None:
    file = write_picture("ABCD")
    disk = VhdFile.open(file)
    file.write_at(2048, b"\0\0\0\0" * 4)
    assert disk.place_now(3) == disk.block_span(3)[0]
    assert disk.place_now(0) == 0


def test_candidates_for_the_parent_are_sane_and_unique() -> None:
    file = lay_out("A", XEN, parent=ParentLink(name="dir/p.vhd", uuid=UUID(int=1)))
    assert VhdFile.open(file).parent_candidates() == ["dir/p.vhd"]
    file = lay_out("A", XEN, parent=ParentLink(name="dir\\p.vhd", uuid=UUID(int=1)))
    assert VhdFile.open(file).parent_name() == "dir/p.vhd"
    empty_locator = lay_out("A", STYLES[0], parent=PARENT)
    assert VhdFile.open(empty_locator).parent_candidates() == ["0.vhd"]
