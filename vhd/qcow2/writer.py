"""Write a disk as a qcow2 file, block after block: only what is not zeros, in clusters of 64 KiB.

    header, L1, then per 512 MiB of the disk its L2 table and its data, at the end the reference counts

A table lies before what it speaks of, so that the file can be streamed; it is written when its part of the disk is
complete. The header comes last: without it the file is no image.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, SECTOR_BYTES
from vhd.errors import Unsupported
from vhd.qcow2.header import SIZE_MAX_BYTES, Qcow2Header
from vhd.qcow2.layout import (
    CLUSTER_BYTES,
    COPIED,
    L2_ENTRIES,
    TABLE_BYTES,
    clusters_of,
    count_blocks,
    count_clusters,
    entries,
    padded,
)

if TYPE_CHECKING:
    from vhd.storage import Buffer, WritableFile

_ZEROS = bytes(CLUSTER_BYTES)


class Qcow2FileWriter:
    """One new, empty file. Blocks come ascending, each once."""

    def __init__(self, file: WritableFile, *, size_bytes: int) -> None:
        size = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
        if not 0 < size <= SIZE_MAX_BYTES:
            raise Unsupported(file.name, f"a qcow2 image of {size} bytes (at most {SIZE_MAX_BYTES})")
        self._file = file
        self._size = size
        self._l1 = array("Q", bytes(8 * -(-size // TABLE_BYTES)))
        self._end = (1 + clusters_of(8 * len(self._l1))) * CLUSTER_BYTES
        self._table = -1
        self._l2 = array("Q")

    def write_block(self, index: int, data: memoryview) -> None:
        """``data``: the block's 2 MiB, zeros past the end of the disk."""
        end = clusters_of(min(BLOCK_BYTES, self._size - index * BLOCK_BYTES)) * CLUSTER_BYTES
        first = 0
        for at in range(0, end, CLUSTER_BYTES):
            if data[at : at + CLUSTER_BYTES].tobytes() == _ZEROS:
                self._place(index, data, first, at)
                first = at + CLUSTER_BYTES
        self._place(index, data, first, end)

    def _place(self, index: int, data: memoryview, first: int, end: int) -> None:
        """Append what lies between two places of a block, and say in its table where."""
        if first == end:
            return
        cluster = (index * BLOCK_BYTES + first) // CLUSTER_BYTES
        self._turn_to(cluster // L2_ENTRIES)
        offset = self._append(data[first:end])
        for number in range((end - first) // CLUSTER_BYTES):
            self._l2[cluster % L2_ENTRIES + number] = (offset + number * CLUSTER_BYTES) | COPIED

    def _turn_to(self, table: int) -> None:
        """Begin another table, when it is its turn; the one before is complete."""
        if table == self._table:
            return
        assert table > self._table, "blocks come ascending"
        self._write_table()
        self._l1[table] = self._end | COPIED
        self._table, self._l2 = table, array("Q", bytes(CLUSTER_BYTES))
        self._end += CLUSTER_BYTES

    def _write_table(self) -> None:
        if self._table >= 0:
            self._file.write_at(self._l1[self._table] & ~COPIED, entries(self._l2))

    def _append(self, data: Buffer) -> int:
        offset = self._end
        self._file.write_at(offset, data)
        self._file.written(offset, len(data))
        self._end += len(data)
        return offset

    def finish(self) -> int:
        """Write the rest; returns the file's length. Making it durable is the caller's."""
        self._write_table()
        content = self._end // CLUSTER_BYTES
        table, blocks = count_clusters(content)
        offsets = [self._append(piece) for piece in count_blocks(content + table + blocks, blocks)]
        counts_at = self._append(padded(entries(offsets)))
        self._file.write_at(CLUSTER_BYTES, padded(entries(self._l1)))
        header = Qcow2Header(
            size_bytes=self._size,
            l1_entries=len(self._l1),
            l1_offset=CLUSTER_BYTES,
            refcount_table_offset=counts_at,
            refcount_table_clusters=table,
        )
        self._file.write_at(0, padded(header.pack()))
        return self._end
