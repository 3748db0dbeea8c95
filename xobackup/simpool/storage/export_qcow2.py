"""A disk as XAPI's qcow2 stream: all tables, then the clusters of 64 KiB that any node of the disk's tree has."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, SECTOR_BYTES
from vhd.qcow2.layout import CLUSTER_BYTES, COPIED, L2_ENTRIES, entries, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xobackup.simpool.storage.composed import ComposedDisk

_PER_BLOCK = BLOCK_BYTES // CLUSTER_BYTES
_SECTORS = CLUSTER_BYTES // SECTOR_BYTES


class Qcow2Export:
    """One export."""

    def __init__(self, disk: ComposedDisk) -> None:
        self._disk = disk
        self._clusters = [cluster for index in disk.block_indexes() for cluster in _clusters_of(disk, index)]
        self._tables = list(dict.fromkeys(cluster // L2_ENTRIES for cluster in self._clusters))
        size = -(-disk.virtual_size_bytes // SECTOR_BYTES) * SECTOR_BYTES
        self._layout = lay_out(size, l2_tables=len(self._tables), data_clusters=len(self._clusters))
        self.length_bytes = self._layout.length_bytes

    def pieces(self) -> Iterator[memoryview]:
        """The stream; each piece is valid until the next."""
        with self._disk as disk:
            yield from (memoryview(piece) for piece in self._layout.head(self._tables))
            at = self._layout.data_offset
            for _, clusters in groupby(self._clusters, key=lambda cluster: cluster // L2_ENTRIES):
                found = [0] * L2_ENTRIES
                for cluster in clusters:
                    found[cluster % L2_ENTRIES] = at | COPIED
                    at += CLUSTER_BYTES
                yield memoryview(entries(found))
            buffer = memoryview(bytearray(CLUSTER_BYTES))
            for cluster in self._clusters:
                inside = min(CLUSTER_BYTES, disk.virtual_size_bytes - cluster * CLUSTER_BYTES)
                buffer[inside:] = bytes(CLUSTER_BYTES - inside)
                disk.read_into(cluster * CLUSTER_BYTES, buffer[:inside])
                yield buffer


def _clusters_of(disk: ComposedDisk, index: int) -> list[int]:
    """Clusters of a block of which any sector lies in a node."""
    bits = 0
    for node in disk.nodes:
        bits |= node.bits(index)
    raw = bits.to_bytes(BLOCK_BYTES // SECTOR_BYTES // 8, "big")
    step = _SECTORS // 8
    return [index * _PER_BLOCK + at for at in range(_PER_BLOCK) if any(raw[at * step : (at + 1) * step])]
