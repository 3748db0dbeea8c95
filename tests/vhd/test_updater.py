"""Changes in place, and the sweep: the power is cut at every change, the disk must read the same afterwards."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from vhd.block import BLOCK_BYTES, SLOT_BYTES, Block, BlockBuffer
from vhd.check import check_file
from vhd.errors import MergeError, Unsupported
from vhd.file import ParentLink, VhdFile, VhdFileUpdater
from vhd.findings import errors_of
from vhd.footer import DiskType, new_footer
from vhd.header import Header
from xotest.foreign import foreign
from xotest.layouts import HYPERV, QEMU, XEN, XO, Style, lay_out
from xotest.memory_file import MemoryFile
from xotest.pictures import bitmap_drawn, draw, flat_of, flatten, picture_of, uuid_of, write_picture
from xotest.power_cut import PowerCut, PowerCutFile

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT = ParentLink(name="0.vhd", uuid=uuid_of(9), timestamp=5)
FAR = 700_000
"""Entries of a table that runs over the first two blocks of a small file."""


def block(index: int, character: str) -> Block:
    buffer = BlockBuffer()
    return Block(index, draw(character, buffer), buffer)


def picture_now(file: MemoryFile, blocks: int) -> str:
    """As a reader sees it during a change."""
    return picture_of(VhdFile.open(file, trailing_footer=False))[:blocks]


def test_append_and_overwrite() -> None:
    file = write_picture("A-C-")
    updater = VhdFileUpdater.open(file)
    updater.reserve(2)
    assert file.calls[-2:] == [("write_at", 4096 + 4 * SLOT_BYTES, 512), ("sync",)], "the footer goes first"
    assert picture_of(VhdFile.open(file)) == "A-C-"
    offset = updater.append_block(block(3, "d"))
    assert offset % 4096 == 0
    updater.append_block(block(1, "B"))
    assert picture_of(VhdFile.open(file)) == "A-C-", "nothing names the new blocks yet"
    updater.sync()
    updater.write_bat(1, 3)
    updater.overwrite_block(block(0, "x"))
    updater.sync()
    assert picture_of(VhdFile.open(file)) == "xBCd"
    assert check_file(file, data=True) == []


def test_a_slot_by_hand_as_a_merge_fills_it() -> None:
    file, source = write_picture("A-"), VhdFile.open(write_picture("-b"))
    updater = VhdFileUpdater.open(file)
    offset = updater.append_slot()
    at, data = source.block_span(1)
    assert data % 4096 == 0
    file.copy_range(source.file, data - 4096, offset, SLOT_BYTES)
    updater.assign(1, offset)
    updater.sync()
    updater.write_bat(1, 1)
    updater.sync()
    assert picture_of(VhdFile.open(file)) == "Ab"
    assert at == data - 512
    updater.write_bitmap(1, None)
    assert VhdFile.open(file).bitmap(1) is None
    updater.write_bitmap(1, bitmap_drawn("b"))
    assert picture_of(VhdFile.open(file)) == "Ab"


def test_the_footer_is_replaced_at_the_end_first() -> None:
    file = write_picture("A-")
    updater = VhdFileUpdater.open(file)
    footer = replace(updater.footer, uuid=uuid_of(50))
    file.calls.clear()
    updater.replace_footer(footer)
    assert file.calls == [("write_at", file.size() - 512, 512), ("sync",), ("write_at", 0, 512), ("sync",)]
    assert VhdFile.open(file).footer == footer == updater.footer == updater.disk.footer
    with pytest.raises(AssertionError, match="grow first"):
        updater.replace_footer(footer.with_size(3 * BLOCK_BYTES))


def test_reserved_room_that_was_not_used_is_given_back() -> None:
    file = write_picture("A---")
    before = file.size()
    updater = VhdFileUpdater.open(file)
    updater.reserve(3)
    updater.reserve(1)
    assert file.size() == before + 3 * SLOT_BYTES
    updater.append_block(block(1, "B"))
    updater.sync()
    updater.write_bat(1, 1)
    updater.trim()
    assert file.size() == before + SLOT_BYTES
    assert picture_of(VhdFile.open(file)) == "AB--"
    updater.trim()
    assert file.size() == before + SLOT_BYTES
    updater.append_block(block(2, "C"))
    assert file.size() == before + 2 * SLOT_BYTES


def test_growing_within_the_room_before_the_first_block_moves_nothing() -> None:
    file = write_picture("AB")
    updater = VhdFileUpdater.open(file)
    updater.grow(1408)
    assert updater.header.table_entries == 1408 == len(updater.bat)
    assert not [call for call in file.calls if call[0] == "copy_range"]
    updater.grow(10)
    assert updater.header.table_entries == 1408, "never shrinks"
    updater.replace_footer(updater.footer.with_size(1408 * BLOCK_BYTES))
    assert picture_of(VhdFile.open(file))[:3] == "AB-"
    assert check_file(file, data=True) == []


@pytest.mark.parametrize("style", [QEMU, XO, HYPERV, None], ids=lambda style: style.name if style else "ours")
@pytest.mark.parametrize("parent", [None, PARENT], ids=["dynamic", "differencing"])
def test_growing_moves_what_is_in_the_way(style: Style | None, parent: ParentLink | None) -> None:
    picture = "AbC-D"
    file = write_picture(picture, parent=parent) if style is None else lay_out(picture, style, parent=parent)
    before = [finding.code for finding in check_file(file, now_vhd_s=900_000_000)]
    texts = VhdFile.open(file).parent_candidates()
    updater = VhdFileUpdater.open(file)
    updater.grow(FAR)
    assert len([call for call in file.calls if call[0] == "copy_range"]) == 2
    updater.append_block(block(3, "Z"))
    updater.sync()
    updater.write_bat(3, 1)
    updater.replace_footer(updater.footer.with_size(FAR * BLOCK_BYTES))
    disk = VhdFile.open(file)
    assert flat_of_first(disk, 5) == flatten([picture.replace("-", "Z")])
    assert disk.block_indexes() == [0, 1, 2, 3, 4]
    assert disk.parent_candidates() == texts
    # The stale geometry of Xen Orchestra's footer went with its old size; a moved text lies behind the blocks.
    after = {finding.code for finding in check_file(file, now_vhd_s=900_000_000, data=True)}
    assert after - {"block-before-headers-end"} <= set(before)


def flat_of_first(disk: VhdFile, blocks: int) -> list[bytes]:
    small = VhdFile(disk.file, disk.footer.with_size(blocks * BLOCK_BYTES), disk.header, disk.bat)
    return flat_of(small)


@pytest.mark.parametrize("picture", ["-", "A", "b-", "-A"])
@pytest.mark.parametrize("entries", [2000, FAR, 2 * FAR])
def test_growing_past_the_end_of_a_small_file(picture: str, entries: int) -> None:
    """The table needs the place of the trailing footer, and of where a moved block would have gone."""
    file = write_picture(picture)
    updater = VhdFileUpdater.open(file)
    updater.grow(entries)
    assert picture_of(VhdFile.open(file)) == picture
    updater.append_block(block(len(picture), "Z"))
    updater.sync()
    updater.write_bat(len(picture), 1)
    updater.replace_footer(updater.footer.with_size(entries * BLOCK_BYTES))
    updater.trim()
    assert flat_of_first(VhdFile.open(file), len(picture) + 1) == flatten([picture + "Z"])
    assert check_file(file, data=True) == []


def test_growing_by_a_sector_of_entries_keeps_the_old_ones() -> None:
    file = write_picture("A" + "-" * 127 + "B")
    updater = VhdFileUpdater.open(file)
    updater.grow(260)
    updater.replace_footer(updater.footer.with_size(260 * BLOCK_BYTES))
    assert VhdFile.open(file).block_indexes() == [0, 128]
    assert check_file(file, data=True) == []


def cut_everywhere(
    base: MemoryFile, change: Callable[[VhdFileUpdater], None], verify: Callable[[MemoryFile], None]
) -> int:
    """Cut the power at change 1, 2, 3 ... until ``change`` survives untouched; several survivors of each cut."""
    cut_at = 0
    while True:
        cut_at += 1
        file = PowerCutFile(base, cut_at=cut_at)
        try:
            change(VhdFileUpdater.open(file))
        except PowerCut:
            for seed in range(4):
                survivor = file.survivor(Random(cut_at * 100 + seed))
                verify(survivor)
                again = survivor.copy()
                change(VhdFileUpdater.open(again))
                verify(again)
        else:
            verify(file)
            return cut_at - 1


@pytest.mark.parametrize(
    ("picture", "style", "parent"),
    [("AB", XO, None), ("Ab", None, PARENT), ("-A", None, None), ("--", None, PARENT)],
    ids=["xo", "two blocks", "one block", "no block"],
)
def test_a_power_cut_while_growing_loses_nothing(
    picture: str, style: Style | None, parent: ParentLink | None
) -> None:
    base = write_picture(picture, parent=parent) if style is None else lay_out(picture, style, parent=parent)

    def verify(file: MemoryFile) -> None:
        disk = VhdFile.open(file, trailing_footer=False)
        assert picture_of(disk) == picture
        assert disk.footer.current_size_bytes == 2 * BLOCK_BYTES
        assert disk.parent_candidates() == ([] if parent is None else ["0.vhd"])

    cuts = cut_everywhere(base, lambda updater: updater.grow(FAR), verify)
    assert cuts >= 6 + 2 * len(picture.strip("-"))


def test_a_power_cut_while_growing_and_taking_new_blocks_and_footer() -> None:
    """What a merge does to its parent, with the child's data still shadowing what is overwritten."""
    base = write_picture("A-")
    size = 1500 * BLOCK_BYTES

    def change(updater: VhdFileUpdater) -> None:
        updater.grow(1500)
        updater.reserve(2)
        for index, character in ((1, "B"), (1499, "C")):
            if not updater.bat.has(index):
                updater.append_block(block(index, character))
        updater.sync()
        updater.write_bat(1, 1)
        updater.write_bat(1499, 1)
        updater.sync()
        updater.replace_footer(replace(updater.footer, uuid=uuid_of(51)).with_size(size))
        updater.trim()

    def verify(file: MemoryFile) -> None:
        disk = VhdFile.open(file, trailing_footer=False)
        if disk.footer.uuid == uuid_of(51):
            assert disk.footer.current_size_bytes == size
            assert disk.block_indexes() == [0, 1, 1499]
            assert flat_of_first(disk, 2) == flatten(["AB"])
        else:
            assert disk.footer.current_size_bytes == 2 * BLOCK_BYTES
            assert picture_of(disk) in ("A-", "AB")

    cuts = cut_everywhere(base, change, verify)
    assert cuts >= 15
    file = base.copy()
    change(VhdFileUpdater.open(file))
    assert check_file(file, data=True) == []


def test_a_power_cut_while_the_footer_changes_leaves_the_old_or_the_new_one() -> None:
    base = write_picture("A-")
    old, new = VhdFile.open(base).footer, replace(VhdFile.open(base).footer, uuid=uuid_of(52), timestamp=77)

    def verify(file: MemoryFile) -> None:
        disk = VhdFile.open(file, trailing_footer=False)
        assert disk.footer in (old, new)
        assert picture_of(disk) == "A-"

    assert cut_everywhere(base, lambda updater: updater.replace_footer(new), verify) == 4


def test_a_file_whose_end_another_program_ran_over_is_taken_up() -> None:
    """Xen Orchestra appends blocks over the trailing footer and writes it again only at the end of a merge."""
    file = lay_out("AB-", XO)
    file.truncate(file.size() - 512)
    updater = VhdFileUpdater.open(file)
    updater.append_block(block(2, "C"))
    updater.sync()
    updater.write_bat(2, 1)
    updater.trim()
    assert picture_of(VhdFile.open(file)) == "ABC"
    file.truncate(file.size() - 100)
    updater = VhdFileUpdater.open(file)
    updater.reserve(0)
    assert picture_of(VhdFile.open(file)) == "ABC"


def test_what_cannot_be_changed_in_place_is_refused() -> None:
    with pytest.raises(Unsupported, match="changing a fixed disk"):
        VhdFileUpdater.open(foreign("qemu-fixed-64m.vhd"))
    with pytest.raises(Unsupported, match="batmap"):
        VhdFileUpdater.open(foreign("child-64m.vhd"))
    with pytest.raises(Unsupported, match="batmap"):
        VhdFileUpdater.open(lay_out("A", replace(XEN, creator_version=1, batmap=False)))


def test_a_table_before_the_header_cannot_grow_over_it() -> None:
    file = MemoryFile()
    footer = new_footer(size_bytes=BLOCK_BYTES, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0)
    raw = replace(footer, data_offset=1024).pack()
    file.write_at(8192, raw)
    file.write_at(0, raw)
    file.write_at(512, b"\xff" * 512)
    file.write_at(1024, Header(table_offset=512, table_entries=1).pack())
    updater = VhdFileUpdater.open(file)
    updater.grow(128)
    with pytest.raises(Unsupported, match="before the header"):
        updater.grow(129)


def test_a_file_that_has_reached_the_format_s_end_takes_no_more() -> None:
    file = write_picture("A-")
    raw = VhdFile.open(file).footer.pack()
    last = (1 << 32) - 4097 - 2
    file.copy_range(file, 7680, last * 512, 512 + BLOCK_BYTES)
    file.write_at(2048, last.to_bytes(4, "big"))
    file.write_at((last + 4097) * 512, raw)
    assert errors_of(check_file(file)) == []
    updater = VhdFileUpdater.open(file)
    with pytest.raises(MergeError, match="cannot grow past"):
        updater.append_slot()
    assert picture_of(VhdFile.open(file)) == "A-"


def test_the_programmer_s_mistakes() -> None:
    updater = VhdFileUpdater.open(write_picture("A-"))
    with pytest.raises(AssertionError, match="block 1 is not allocated"):
        updater.overwrite_block(block(1, "A"))
    with pytest.raises(AssertionError, match="block 1 is not allocated"):
        updater.write_bitmap(1, None)
