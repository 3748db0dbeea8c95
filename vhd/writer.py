"""Write a new VHD file in the layout of :mod:`vhd.layout`, blocks in any order, each once.

Until :meth:`VhdFileWriter.finish` nothing but zeros lies at offset 0, so an unfinished file is no VHD to anyone.
Finishing writes the header, the locator, the table and the trailing footer, syncs, writes the footer at 0, syncs: a
file with a footer at 0 is whole, also after a power cut.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vhd.bat import UNALLOCATED, Bat
from vhd.block import FULL_BITMAP, SLOT_BYTES, blank
from vhd.errors import Unsupported
from vhd.footer import FOOTER_BYTES, Footer
from vhd.layout import (
    HEADER_OFFSET,
    SECTOR_BYTES,
    SIZE_MAX_BYTES,
    SLOT_HEAD_BYTES,
    ParentLink,
    blocks_of,
    first_slot_offset,
    locator_sector,
    new_header,
    streamed_size_bytes,
)

if TYPE_CHECKING:
    from vhd.block import Block
    from vhd.header import Header
    from vhd.storage import WritableFile


class VhdFileWriter:
    """One new file. Several threads may write blocks at once."""

    def __init__(self, file: WritableFile, footer: Footer, header: Header, locator: bytes) -> None:
        self.file = file
        self.footer = footer
        self.header = header
        self.bat = Bat.empty(header.table_entries)
        self._locator = locator
        self._next_offset = first_slot_offset(header.table_entries)
        self._written_blocks = 0
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls, file: WritableFile, *, footer: Footer, parent: ParentLink | None = None, entries: int | None = None
    ) -> VhdFileWriter:
        """Begin the disk that ``footer`` describes in an empty ``file``.

        ``parent`` exactly when the footer's type is differencing; ``entries`` makes the table larger than needed.
        """
        assert footer.differencing == (parent is not None), "a differencing disk, and only that, has a parent"
        assert footer.data_offset == HEADER_OFFSET, f"the header lies at {HEADER_OFFSET}, got {footer.data_offset}"
        if footer.current_size_bytes > SIZE_MAX_BYTES:
            raise Unsupported(file.name, f"a disk of {footer.current_size_bytes} bytes (at most {SIZE_MAX_BYTES})")
        count = max(blocks_of(footer.current_size_bytes), entries or 0)
        return cls(file, footer, new_header(count, parent), locator_sector(parent))

    def write_block(self, block: Block) -> None:
        """Write one block: one write of its buffer's slot at a 4 KiB boundary."""
        assert block.index < blocks_of(self.footer.current_size_bytes), f"block {block.index} is past the disk's end"
        offset = self._allocate(block.index)
        buffer = block.buffer
        blank(buffer.slot[:SLOT_HEAD_BYTES])
        buffer.bitmap[:] = FULL_BITMAP if block.bitmap is None else block.bitmap
        self.file.write_at(offset, buffer.slot)
        self.file.written(offset, SLOT_BYTES)

    def finish(self) -> int:
        """Make it a VHD; durable on return. Returns the length of the file."""
        footer, end = self.footer.pack(), self._next_offset
        self.file.write_at(HEADER_OFFSET, self.header.pack() + self._locator + self.bat.pack())
        self.file.write_at(end, footer)
        self.file.sync()
        self.file.write_at(0, footer)
        self.file.sync()
        return end + FOOTER_BYTES

    @property
    def streamed_size_bytes(self) -> int:
        """The size Xen Orchestra would report for what was written so far."""
        return streamed_size_bytes(self.header.table_entries, self._written_blocks)

    def _allocate(self, index: int) -> int:
        with self._lock:
            assert self.bat[index] == UNALLOCATED, f"block {index} was written before"
            offset = self._next_offset
            self._next_offset += SLOT_BYTES
            self.bat[index] = (offset + SLOT_HEAD_BYTES) // SECTOR_BYTES
            self._written_blocks += 1
        return offset
