"""Where things lie in an image whose size is known before its first byte, and its parts before the data.

    header              one cluster
    reference counts    their table, then their blocks
    L1
    L2 tables           ascending
    data                ascending

The order is that of XAPI's exports (QEMU's ``qcow2-to-stdout``): who reads the tables knows where the data are before
they come. Clusters of 64 KiB, reference counts of 16 bits, each cluster of the file referenced once.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vhd.qcow2.header import SIZE_MAX_BYTES, Qcow2Header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CLUSTER_BYTES = 1 << 16
L2_ENTRIES = CLUSTER_BYTES // 8
TABLE_BYTES = CLUSTER_BYTES * L2_ENTRIES
"""Of the disk, what one L2 table speaks of: 512 MiB."""
COUNTS_PER_BLOCK = CLUSTER_BYTES // 2
COPIED = 1 << 63
"""In an entry: the cluster is referenced once."""
_ONES = b"\0\1" * COUNTS_PER_BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An image of so many clusters; offsets in bytes."""

    size_bytes: int
    l1_entries: int
    l2_tables: int
    data_clusters: int
    count_table_clusters: int
    count_blocks: int

    @property
    def count_blocks_offset(self) -> int:
        return (1 + self.count_table_clusters) * CLUSTER_BYTES

    @property
    def l1_offset(self) -> int:
        return self.count_blocks_offset + self.count_blocks * CLUSTER_BYTES

    @property
    def l2_offset(self) -> int:
        return self.l1_offset + clusters_of(8 * self.l1_entries) * CLUSTER_BYTES

    @property
    def data_offset(self) -> int:
        return self.l2_offset + self.l2_tables * CLUSTER_BYTES

    @property
    def length_bytes(self) -> int:
        return self.data_offset + self.data_clusters * CLUSTER_BYTES

    def head(self, tables: Sequence[int]) -> Iterator[bytes]:
        """Everything before the first L2 table, cluster by cluster. ``tables``: which L1 entries have one."""
        header = Qcow2Header(
            size_bytes=self.size_bytes,
            l1_entries=self.l1_entries,
            l1_offset=self.l1_offset,
            refcount_table_offset=CLUSTER_BYTES,
            refcount_table_clusters=self.count_table_clusters,
        )
        yield header.pack().ljust(CLUSTER_BYTES, b"\0")
        yield padded(entries(range(self.count_blocks_offset, self.l1_offset, CLUSTER_BYTES)))
        yield from count_blocks(self.length_bytes // CLUSTER_BYTES, self.count_blocks)
        l1 = array("Q", bytes(8 * self.l1_entries))
        for number, table in enumerate(tables):
            l1[table] = (self.l2_offset + number * CLUSTER_BYTES) | COPIED
        yield padded(entries(l1))


def lay_out(size_bytes: int, *, l2_tables: int, data_clusters: int) -> Layout:
    """The layout of an image with so much in it. ``size_bytes`` at most :data:`SIZE_MAX_BYTES`, sectors."""
    assert 0 < size_bytes <= SIZE_MAX_BYTES and size_bytes % 512 == 0
    l1_entries = -(-size_bytes // TABLE_BYTES)
    content = 1 + clusters_of(8 * l1_entries) + l2_tables + data_clusters
    table, blocks = count_clusters(content)
    return Layout(
        size_bytes=size_bytes,
        l1_entries=l1_entries,
        l2_tables=l2_tables,
        data_clusters=data_clusters,
        count_table_clusters=table,
        count_blocks=blocks,
    )


def clusters_of(length: int) -> int:
    return -(-length // CLUSTER_BYTES)


def count_clusters(content: int) -> tuple[int, int]:
    """Clusters of the table of reference counts and of their blocks, which count ``content`` and themselves."""
    table, blocks = 1, 1
    while True:
        more = -(-(content + table + blocks) // COUNTS_PER_BLOCK)
        larger = clusters_of(8 * more)
        if (larger, more) == (table, blocks):
            return table, blocks
        table, blocks = larger, more


def count_blocks(total: int, blocks: int) -> Iterator[bytes]:
    """Blocks of reference counts: one for each of ``total`` clusters, zeros after them."""
    for number in range(blocks):
        inside = min(COUNTS_PER_BLOCK, total - number * COUNTS_PER_BLOCK)
        yield padded(_ONES[: 2 * inside])


def entries(values: Iterable[int]) -> bytes:
    """A table's entries as stored."""
    packed = values if isinstance(values, array) else array("Q", values)
    if sys.byteorder == "little":
        packed = packed[:]
        packed.byteswap()
    return packed.tobytes()


def padded(raw: bytes) -> bytes:
    """Whole clusters, at least one."""
    return raw.ljust(max(1, clusters_of(len(raw))) * CLUSTER_BYTES, b"\0")
