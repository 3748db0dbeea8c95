"""Emit any disk as a qcow2 stream whose exact length is known before its first byte; see :mod:`vhd.qcow2.layout`.

Every cluster of an emitted block is there, zeros included: what is in a block is known only when it is read, and the
length must be known before. The tables are made as they are sent, so memory does not grow with the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, SECTOR_BYTES
from vhd.errors import Unsupported
from vhd.qcow2.header import SIZE_MAX_BYTES
from vhd.qcow2.layout import CLUSTER_BYTES, COPIED, L2_ENTRIES, TABLE_BYTES, clusters_of, entries, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vhd.block import BufferPool, Disk

BLOCKS_PER_TABLE = TABLE_BYTES // BLOCK_BYTES
CLUSTERS_PER_BLOCK = BLOCK_BYTES // CLUSTER_BYTES


class Qcow2Frame:
    """What comes before the blocks of a stream; nothing does after them.

    For who has blocks pushed at him: the blocks ``indexes`` (ascending) must follow in that order, of each what
    :meth:`data` says.
    """

    def __init__(self, *, name: str, size_bytes: int, indexes: Sequence[int]) -> None:
        size = -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
        if not 0 < size <= SIZE_MAX_BYTES:
            raise Unsupported(name, f"a qcow2 image of {size} bytes (at most {SIZE_MAX_BYTES})")
        self.indexes = indexes
        self._size = size
        self._tables = list(dict.fromkeys(index // BLOCKS_PER_TABLE for index in self.indexes))
        clusters = len(self.indexes) * CLUSTERS_PER_BLOCK
        if self.indexes:  # only the disk's last block can be short
            clusters -= CLUSTERS_PER_BLOCK - self._clusters(self.indexes[-1])
        self._layout = lay_out(size, l2_tables=len(self._tables), data_clusters=clusters)
        self.length_bytes = self._layout.length_bytes

    def head(self) -> Iterator[bytes]:
        """The tables, made as they are sent."""
        yield from self._layout.head(self._tables)
        yield from self._l2_tables()

    def data(self, index: int, block: memoryview) -> memoryview:
        """What is sent of block ``index``: all clusters that the disk has of it."""
        return block[: self._clusters(index) * CLUSTER_BYTES]

    def _clusters(self, index: int) -> int:
        """Clusters of the disk in block ``index``."""
        return clusters_of(min(BLOCK_BYTES, self._size - index * BLOCK_BYTES))

    def _l2_tables(self) -> Iterator[bytes]:
        at, offset = 0, self._layout.data_offset | COPIED
        for table in self._tables:
            found = bytearray(CLUSTER_BYTES)
            while at < len(self.indexes) and self.indexes[at] // BLOCKS_PER_TABLE == table:
                count = self._clusters(self.indexes[at])
                first = self.indexes[at] * CLUSTERS_PER_BLOCK % L2_ENTRIES
                end = offset + count * CLUSTER_BYTES
                found[8 * first : 8 * (first + count)] = entries(range(offset, end, CLUSTER_BYTES))
                at, offset = at + 1, end
            yield bytes(found)


class Qcow2Emitter:
    """The stream of one disk."""

    def __init__(self, disk: Disk, *, indexes: Sequence[int] | None = None) -> None:
        """``indexes``: the blocks to emit, ascending (default: all the disk has)."""
        self.disk = disk
        self.indexes = disk.block_indexes() if indexes is None else list(indexes)
        self._frame = Qcow2Frame(name=disk.name, size_bytes=disk.virtual_size_bytes, indexes=self.indexes)
        self.length_bytes = self._frame.length_bytes

    def chunks(self, pool: BufferPool) -> Iterator[memoryview]:
        """The stream in pieces, each valid until the next is asked for. Holds one buffer of ``pool``."""
        for piece in self._frame.head():
            yield memoryview(piece)
        buffer = pool.acquire()
        try:
            for index in self.indexes:
                self.disk.read_block(index, buffer)
                yield self._frame.data(index, buffer.data)
        finally:
            pool.release(buffer)
