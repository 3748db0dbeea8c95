"""Read a qcow2 image while it arrives: forward only, whatever its size.

A table must come before what it speaks of, the L1 table before all: so do XAPI's exports and what this project
writes; QEMU's own files do, too, as ``qemu-img convert`` writes them. :meth:`Qcow2Stream.block_list` reads no further
than the last table; :meth:`Qcow2Stream.pieces` reads all of it.

An entry of a table, 64 bits: 63 the cluster is referenced once, 62 compressed (L2; refused), 55 to 9 where the
cluster lies (0: nowhere, all zeros), 0 zeros whatever lies there (L2, version 3). The others are zero.
"""

from __future__ import annotations

import heapq
import sys
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from vhd.bitbat import BitBat
from vhd.block import BLOCK_BYTES
from vhd.errors import Malformed, StreamError, Unsupported
from vhd.findings import Finding
from vhd.layout import blocks_of
from vhd.qcow2.header import HEADER_BYTES, Qcow2Header, unpack_qcow2_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES = 1 << 16
"""Gaps are skipped and tables read in pieces of this, so memory grows only with what really arrived."""
GAP_MAX_BYTES = 64 << 20
"""Data that the block list may have to skip on its way to the next table: reading them all would be no shortcut."""
RUNS_MAX = 1 << 21
"""Pieces known and not yet there, while all is read: the bound on memory for an image that is scattered all over."""

_OFFSET = 0x00FF_FFFF_FFFF_FE00
_ZERO, _COMPRESSED, _COPIED = 1, 1 << 62, 1 << 63
_RESERVED = (1 << 64) - 1 - (_OFFSET | _ZERO | _COMPRESSED | _COPIED)


class _Table(NamedTuple):
    """An L2 table without what is refused. ``zeros``: some entries say so, whatever they point to."""

    raw: bytes
    zeros: bool


class Qcow2Stream:
    """One stream: :meth:`begin`, then one of the others."""

    header: Qcow2Header

    def __init__(self, read_into: Callable[[memoryview], int], *, name: str) -> None:
        """``read_into`` fills a part of the buffer and says how much; 0 means the stream has ended."""
        self.name = name
        self.position = 0
        self._read_into = read_into
        self._tables: list[tuple[int, int]] = []
        """Where L2 tables lie and their numbers, in the order of the stream."""
        self._piece = memoryview(bytearray(PIECE_BYTES))

    @property
    def virtual_size_bytes(self) -> int:
        return self.header.size_bytes

    def begin(self) -> None:
        """Read the header and the L1 table."""
        self.header = unpack_qcow2_header(self._take(HEADER_BYTES, "the header"), self.name)
        count = self.header.l1_entries_needed
        if not count:
            return
        self._skip_to(self.header.l1_offset, "the L1 table")
        for number, entry in enumerate(_words(self._take(8 * count, "the L1 table"))):
            if entry & (_RESERVED | _COMPRESSED | _ZERO):
                raise self._wrong("qcow2-l1-entry", f"L1 entry {number}: found {entry:#x}")
            if entry & _OFFSET:
                self._tables.append((self._cluster(entry, f"L1 entry {number}"), number))
        self._tables.sort()

    def block_list(self) -> list[int]:
        """Blocks of 2 MiB of which any cluster lies somewhere, ascending. The stream may end after the last table.

        Raises :class:`Unsupported` when the tables lie between the data.
        """
        found = BitBat(blocks_of(self.header.size_bytes))
        skipped = 0
        for offset, number in self._tables:
            skipped += max(0, offset - self.position)
            if skipped > GAP_MAX_BYTES:
                raise Unsupported(self.name, "a list of blocks from an image whose tables lie between its data")
            table = self._table(offset, number)
            for guest, part in self._groups(table, number):
                if not table.zeros or any(word & _OFFSET and not word & _ZERO for word in _words(part)):
                    found.add(guest // BLOCK_BYTES)
        return found.allocated()

    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """What the disk holds, as places on it and bytes, in the order of the stream; to its end.

        Clusters that are not given are zeros. A piece is valid until the next is asked for.
        """
        waiting: list[tuple[int, int, int]] = [(offset, -1, number) for offset, number in self._tables]
        while waiting:
            offset, guest, number = heapq.heappop(waiting)
            if guest < 0:
                for run in self._runs(offset, number):
                    heapq.heappush(waiting, run)
                if len(waiting) > RUNS_MAX:
                    raise Unsupported(self.name, f"an image of more than {RUNS_MAX} pieces")
                continue
            yield from self._data(offset, guest, number)
        self.end()

    def end(self) -> None:
        """Read what is left, whatever it is."""
        while got := self._read_into(self._piece):
            self.position += got

    def _data(self, offset: int, guest: int, length: int) -> Iterator[tuple[int, memoryview]]:
        self._skip_to(offset, "a cluster")
        done = 0
        while done < length:
            view = self._piece[: min(PIECE_BYTES, length - done)]
            self._fill(view, "a cluster")
            inside = min(len(view), self.header.size_bytes - guest - done)
            if inside > 0:
                yield guest + done, view[:inside]
            done += len(view)

    def _runs(self, offset: int, number: int) -> Iterator[tuple[int, int, int]]:
        """Of one L2 table: where data lie in the stream, on the disk, and how many bytes together."""
        step = self.header.cluster_bytes
        start = at = length = 0
        for guest, part in self._groups(self._table(offset, number), number):
            for place, word in enumerate(_words(part)):
                if not word & _OFFSET or word & _ZERO:
                    continue
                cluster = self._cluster(word, f"L2 table {number}")
                on_disk = guest + place * step
                if length and (cluster, on_disk) == (start + length, at + length):
                    length += step
                    continue
                if length:
                    yield start, at, length
                start, at, length = cluster, on_disk, step
        if length:
            yield start, at, length

    def _table(self, offset: int, number: int) -> _Table:
        """L2 table ``number`` as far as the disk goes, its entries judged all at once: it may be one of thousands."""
        header = self.header
        self._skip_to(offset, f"L2 table {number}")
        raw = self._take(header.cluster_bytes, f"L2 table {number}")
        clusters = -(-header.size_bytes // header.cluster_bytes)
        raw = raw[: 8 * min(header.l2_entries, clusters - number * header.l2_entries)]
        bits, count = int.from_bytes(raw, "big"), len(raw) // 8
        if bits & _mask(_COMPRESSED, count):
            raise Unsupported(self.name, "compressed clusters")
        if bits & _mask(_RESERVED | (_ZERO if header.version == 2 else 0), count):
            raise self._wrong("qcow2-l2-entry", f"L2 table {number}: reserved bits are set")
        return _Table(raw, bool(bits & _mask(_ZERO, count)))

    def _groups(self, table: _Table, number: int) -> Iterator[tuple[int, bytes]]:
        """A table's entries, at most a block's at a time, with the place on the disk of the first; without groups of
        nothing."""
        header = self.header
        step = 8 * min(header.l2_entries, BLOCK_BYTES // header.cluster_bytes)
        nothing, first = bytes(step), number * header.l2_entries
        for at in range(0, len(table.raw), step):
            part = table.raw[at : at + step]
            if part != nothing[: len(part)]:
                yield (first + at // 8) * header.cluster_bytes, part

    def _cluster(self, entry: int, what: str) -> int:
        offset = entry & _OFFSET
        if offset % self.header.cluster_bytes:
            raise self._wrong("qcow2-offset", f"{what}: expected a cluster, found {offset}")
        return offset

    def _wrong(self, code: str, message: str) -> Malformed:
        return Malformed(self.name, [Finding(code=code, message=message)])

    def _take(self, length: int, what: str) -> bytes:
        """The next ``length`` bytes, in memory that grows with what arrives."""
        data = bytearray()
        while len(data) < length:
            piece = self._piece[: length - len(data)]
            self._fill(piece, what)
            data += piece
        return bytes(data)

    def _skip_to(self, offset: int, what: str) -> None:
        if offset < self.position:
            raise StreamError(self.name, f"goes back from byte {self.position} to {offset}, {what}: not a stream")
        while self.position < offset:
            self._fill(self._piece[: offset - self.position], f"a gap before {what}")

    def _fill(self, view: memoryview, what: str) -> None:
        """Read exactly ``view``."""
        done = 0
        while done < len(view):
            got = self._read_into(view[done:])
            if not got:
                raise StreamError(self.name, f"ended inside {what} after {self.position + done} bytes")
            done += got
        self.position += len(view)


@lru_cache(maxsize=16)
def _mask(bits: int, count: int) -> int:
    """The same bits in each of ``count`` entries."""
    return int.from_bytes(bits.to_bytes(8, "big") * count, "big")


def _words(raw: bytes) -> array[int]:
    found = array("Q", raw)
    if sys.byteorder == "little":
        found.byteswap()
    return found
