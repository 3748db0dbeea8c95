"""Emit any disk as a VHD stream whose exact length is known before its first byte.

    0            footer
    512          header, table at 2048
    1536         a sector: the parent locator's text, zeros for a dynamic disk
    2048         table
    ...          per block, ascending: bitmap, data; packed
    end          footer

XAPI demands the length (it looks for the trailing footer there) and writes only the sectors whose bit is set,
leaving what the target holds in the others; qemu ignores bitmaps; Xen Orchestra takes every block as whole. So a
dynamic disk is emitted with bitmaps of ones and zeros as the data of absent sectors: right for all three, also on a
target that was not empty, at no cost in length. A differencing one keeps its
bitmaps: absent sectors are its parent's.

The creator is ``win `` (vhd.footer's default), with which qemu-img takes the size literally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.bat import Bat
from vhd.block import FULL_BITMAP
from vhd.errors import Unsupported
from vhd.footer import FOOTER_BYTES, DiskType, new_footer
from vhd.layout import (
    SECTOR_BYTES,
    SIZE_MAX_BYTES,
    STORED_BLOCK_BYTES,
    STORED_BLOCK_SECTORS,
    ParentLink,
    blocks_of,
    locator_sector,
    new_header,
)

if TYPE_CHECKING:
    import uuid as uuids
    from collections.abc import Iterator, Sequence

    from vhd.block import BlockBuffer, BufferPool, Disk


class VhdFrame:
    """What surrounds the blocks of a stream: :attr:`head` before them, :attr:`footer` after them.

    For who has blocks pushed at him; the blocks ``indexes`` must follow in that order, each bitmap and data.
    """

    def __init__(
        self,
        *,
        name: str,
        size_bytes: int,
        indexes: Sequence[int],
        uuid: uuids.UUID,
        timestamp: int,
        parent: ParentLink | None = None,
    ) -> None:
        """``parent``: of type 4."""
        if size_bytes > SIZE_MAX_BYTES:
            raise Unsupported(name, f"a VHD of {size_bytes} bytes (at most {SIZE_MAX_BYTES})")
        kind = DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING
        footer = new_footer(size_bytes=size_bytes, disk_type=kind, uuid=uuid, timestamp=timestamp)
        header = new_header(blocks_of(size_bytes), parent)
        bat = Bat.empty(header.table_entries)
        table = bat.pack()
        self.footer = footer.pack()
        sector = (header.table_offset + len(table)) // SECTOR_BYTES
        for index in indexes:
            bat[index] = sector
            sector += STORED_BLOCK_SECTORS
        self.head = self.footer + header.pack() + locator_sector(parent) + bat.pack()
        self.length_bytes = len(self.head) + len(indexes) * STORED_BLOCK_BYTES + FOOTER_BYTES


class VhdEmitter:
    """The stream of one disk."""

    def __init__(
        self,
        disk: Disk,
        *,
        uuid: uuids.UUID,
        timestamp: int,
        indexes: Sequence[int] | None = None,
        parent: ParentLink | None = None,
    ) -> None:
        """``indexes``: the blocks to emit, ascending (default: all the disk has). ``parent``: emit type 4."""
        self.disk = disk
        self.indexes = disk.block_indexes() if indexes is None else list(indexes)
        self._differencing = parent is not None
        self._frame = VhdFrame(
            name=disk.name,
            size_bytes=disk.virtual_size_bytes,
            indexes=self.indexes,
            uuid=uuid,
            timestamp=timestamp,
            parent=parent,
        )
        self.length_bytes = self._frame.length_bytes

    def chunks(self, pool: BufferPool) -> Iterator[memoryview]:
        """The stream in pieces, each valid until the next is asked for. Holds one buffer of ``pool``."""
        yield memoryview(self._frame.head)
        buffer = pool.acquire()
        try:
            for index in self.indexes:
                yield self._block(index, buffer)
        finally:
            pool.release(buffer)
        yield memoryview(self._frame.footer)

    def _block(self, index: int, buffer: BlockBuffer) -> memoryview:
        bitmap = self.disk.read_block(index, buffer)
        buffer.bitmap[:] = bitmap if bitmap is not None and self._differencing else FULL_BITMAP
        return buffer.stored
