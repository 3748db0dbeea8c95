"""Change a VHD file in place so that a power cut at any moment leaves a disk that can be read.

The caller keeps a state file (a merge does), so readers know to open the file with ``trailing_footer=False``: then
the copy at 0 decides and these are the only windows:

    reserve         the trailing footer is written at the file's future end and synced before anything is
                    appended; until that sync the last sector may be zeros, afterwards it is whole at every instant
    append          new slots lie past everything the table names: garbage there is never read
    write_bat       entries are written after the caller synced the data they name; each lies within one sector
    overwrite       not atomic: only for data that a child still shadows
    grow            0. a trailing footer in the way of the longer table moves past it, synced;
                    1. blocks (and locator texts) in the way are copied to the end, synced;
                    2. their entries are moved, synced: either copy is good, so any subset of the entries is;
                    3. the freed room is filled with ones, synced; 4. the header's first sector is written, synced.
                    Header and table have grown before the footer does. If locator texts had to move (foreign files
                    only), the header's second sector changes too and a cut between the two sectors tears it
    replace_footer  the end first, synced, then the copy at 0, synced: one of them is whole, and it counts

Readers that opened the file earlier keep a table in memory: ``grow`` reuses the room of moved blocks, everything
else leaves what they may read in place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vhd.bat import UNALLOCATED, padded_bytes
from vhd.block import FULL_BITMAP, SLOT_BYTES, blank
from vhd.errors import MergeError, Unsupported
from vhd.footer import FOOTER_BYTES
from vhd.header import HEADER_BYTES
from vhd.layout import (
    ADDRESS_MAX_BYTES,
    SECTOR_BYTES,
    SLOT_HEAD_BYTES,
    STORED_BLOCK_BYTES,
    align,
)
from vhd.reader import VhdFile, has_reversed_bits, structures, text_inside, trailing_footer_bytes
from vhd.storage import read_exactly

if TYPE_CHECKING:
    from vhd.bat import Bat
    from vhd.block import Bitmap, Block
    from vhd.footer import Footer
    from vhd.header import Header
    from vhd.locator import Locator
    from vhd.storage import WritableFile


class VhdFileUpdater:
    """One file under change; one thread. ``disk`` is its present state for reading."""

    def __init__(self, file: WritableFile, disk: VhdFile, header: Header, end: int, *, end_is_whole: bool) -> None:
        self.file = file
        self.disk = disk
        self.header = header
        self._next_offset = align(self._used_end())
        self._end = end
        """Where the trailing footer lies, or would."""
        self._end_is_whole = end_is_whole

    @classmethod
    def open(cls, file: WritableFile) -> VhdFileUpdater:
        """Open for change, also after an interrupted one. Fixed disks and files with a batmap are refused."""
        disk = VhdFile.open(file, trailing_footer=False)
        header = disk.header
        if header is None:
            raise Unsupported(file.name, "changing a fixed disk")
        if has_reversed_bits(disk.footer) or disk.has_batmap():
            raise Unsupported(file.name, "changing a file of Xen's tapdisk (its batmap would lie)")
        last, start = trailing_footer_bytes(file, file.size())
        whole = last == disk.footer.pack() and start % SECTOR_BYTES == 0
        end = start if whole else -(-file.size() // SECTOR_BYTES) * SECTOR_BYTES
        disk = VhdFile(file, disk.footer, header, disk.bat)
        return cls(file, disk, header, end, end_is_whole=whole)

    @property
    def footer(self) -> Footer:
        return self.disk.footer

    @property
    def bat(self) -> Bat:
        """The table in memory; :meth:`write_bat` brings it to the file."""
        return self.disk.bat

    def reserve(self, slots: int) -> None:
        """Make room for ``slots`` appended blocks: the trailing footer goes where they will end."""
        self._reserve_until(self._next_offset + slots * SLOT_BYTES)

    def append_slot(self) -> int:
        """The offset of a new slot at the end (3584 bytes, bitmap, data), nothing written to it yet."""
        offset = self._next_offset
        if offset + SLOT_HEAD_BYTES > ADDRESS_MAX_BYTES:
            raise MergeError(self.file.name, f"the file cannot grow past {ADDRESS_MAX_BYTES} bytes")
        self._reserve_until(offset + SLOT_BYTES)
        self._next_offset += SLOT_BYTES
        return offset

    def assign(self, index: int, slot_offset: int) -> None:
        """Block ``index`` now lies in the slot at ``slot_offset``; in memory only, see :meth:`write_bat`."""
        self.bat[index] = (slot_offset + SLOT_HEAD_BYTES) // SECTOR_BYTES

    def append_block(self, block: Block) -> int:
        """Write ``block`` into a new slot and assign it; returns the slot's offset."""
        offset = self.append_slot()
        blank(block.buffer.slot[:SLOT_HEAD_BYTES])
        block.buffer.bitmap[:] = FULL_BITMAP if block.bitmap is None else block.bitmap
        self.file.write_at(offset, block.buffer.slot)
        self.file.written(offset, SLOT_BYTES)
        self.assign(block.index, offset)
        return offset

    def overwrite_block(self, block: Block) -> None:
        """Replace bitmap and data of a block that is allocated, where it lies."""
        assert self.bat.has(block.index), f"block {block.index} is not allocated"
        offset = self.bat[block.index] * SECTOR_BYTES
        block.buffer.bitmap[:] = FULL_BITMAP if block.bitmap is None else block.bitmap
        self.file.write_at(offset, block.buffer.stored)
        self.file.written(offset, STORED_BLOCK_BYTES)

    def write_bitmap(self, index: int, bitmap: Bitmap) -> None:
        """Replace the bitmap of a block that is allocated."""
        assert self.bat.has(index), f"block {index} is not allocated"
        self.file.write_at(self.bat[index] * SECTOR_BYTES, FULL_BITMAP if bitmap is None else bitmap)

    def write_bat(self, first: int, count: int) -> None:
        """Bring entries ``first`` to ``first + count`` to the file. Sync the data they name before."""
        self.file.write_at(self.header.table_offset + 4 * first, self.bat.pack_range(first, count))

    def sync(self) -> None:
        """Everything written so far is durable on return."""
        self.file.sync()

    def grow(self, entries: int) -> None:
        """Make the table ``entries`` long, durably; never shrinks. See the module's head for its steps."""
        before = self.header.table_entries
        if entries <= before:
            return
        start = self.header.table_offset
        low, high = start + padded_bytes(before), start + padded_bytes(entries)
        self._refuse_header_in_way(low, high)
        self._next_offset = max(self._next_offset, align(high))
        self._reserve_until(self._next_offset)
        locators = self._clear_the_way(low, high)
        self.file.write_at(start + 4 * before, b"\xff" * (high - start - 4 * before))
        self.file.sync()
        self.bat.grow(entries)
        self.header = replace(self.header, table_entries=entries, locators=locators)
        self.file.write_at(self.footer.data_offset, self.header.pack())
        self.file.sync()
        self.disk = VhdFile(self.file, self.footer, self.header, self.bat)

    def replace_footer(self, footer: Footer) -> None:
        """Write a new footer at the end and at 0, durably; the disk must fit the table."""
        assert footer.current_size_bytes <= self.header.table_entries * self.header.block_bytes, "grow first"
        raw = footer.pack()
        self.file.write_at(self._end, raw)
        self.file.sync()
        self.file.write_at(0, raw)
        self.file.sync()
        self._end_is_whole = True
        self.disk = VhdFile(self.file, footer, self.header, self.bat)

    def trim(self) -> None:
        """Give back reserved room that was not used: the trailing footer moves down, then the file is cut."""
        end = self._next_offset
        if end + FOOTER_BYTES > self._end:
            return
        self.file.write_at(end, self.footer.pack())
        self.file.sync()
        self.file.truncate(end + FOOTER_BYTES)
        self.file.sync()
        self._end = end

    def _reserve_until(self, end: int) -> None:
        if end <= self._end and self._end_is_whole:
            return
        self._end = max(end, self._end)
        self.file.write_at(self._end, self.footer.pack())
        self.file.sync()
        self._end_is_whole = True

    def _used_end(self) -> int:
        """The end of everything that the header and the table name."""
        ends = [region.end for region in structures(self.footer, self.header)]
        ends += [self._text_span(locator)[1] for locator in self.header.locators]
        sectors = self.bat.sectors()
        if sectors:
            ends.append(max(sectors) * SECTOR_BYTES + STORED_BLOCK_BYTES)
        return max(ends)

    def _refuse_header_in_way(self, low: int, high: int) -> None:
        offset = self.footer.data_offset
        if low < offset + HEADER_BYTES and offset < high:
            raise Unsupported(self.file.name, "growing a table that lies before the header")

    def _clear_the_way(self, low: int, high: int) -> tuple[Locator, ...]:
        """Move what lies between ``low`` and ``high`` to the end; returns the locators as they are then."""
        moving = self._blocks_between(low, high)
        for index in moving:
            source, offset = self.bat[index] * SECTOR_BYTES, self.append_slot()
            self.file.write_at(offset, bytes(SLOT_HEAD_BYTES))
            self.file.copy_range(self.file, source, offset + SLOT_HEAD_BYTES, STORED_BLOCK_BYTES)
            self.assign(index, offset)
        locators = tuple(self._move_text(locator, low, high) for locator in self.header.locators)
        if moving:
            self.file.sync()
            for index in moving:
                self.write_bat(index, 1)
        self.file.sync()
        return locators

    def _blocks_between(self, low: int, high: int) -> list[int]:
        first, last = (low - STORED_BLOCK_BYTES) // SECTOR_BYTES, high // SECTOR_BYTES
        sectors = [sector for sector in self.bat.sectors() if first < sector < last and sector != UNALLOCATED]
        return sorted(self.bat.index_of(sector) for sector in sectors)

    def _move_text(self, locator: Locator, low: int, high: int) -> Locator:
        start, end = self._text_span(locator)
        if not (low < end and start < high):
            return locator
        text = read_exactly(self.file, start, end - start)
        offset = self._next_offset
        room = -(-len(text) // SECTOR_BYTES) * SECTOR_BYTES
        self._reserve_until(offset + room)
        self.file.write_at(offset, text.ljust(room, b"\0"))
        self._next_offset = align(offset + room)
        return replace(locator, data_offset=offset, data_space=room)

    def _text_span(self, locator: Locator) -> tuple[int, int]:
        """Where a locator's text lies; nothing for entries that are unused or nonsense."""
        if not locator.used or not text_inside(locator, self.file.size()):
            return 0, 0
        return locator.data_offset, locator.data_offset + locator.data_length
