"""The block allocation table: one big-endian u32 per block, the sector of its bitmap, all ones when absent.

In memory it is an ``array`` of 4 bytes an entry whatever the virtual size (2040 GiB: 4 MiB), never a Python list.
On disk it is padded with ones to a multiple of 512 bytes.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNALLOCATED = 0xFFFFFFFF
SECTOR_BYTES = 512
ENTRIES_PER_SECTOR = SECTOR_BYTES // 4

_HOLES = b"\xff" * 4096
"""1024 unallocated entries: a nearly empty table is skipped in steps of this, then of the smaller one."""
_FEW_HOLES = _HOLES[:256]
_CODE = next(code for code in "IL" if array(code).itemsize == 4)


class Bat:
    """The table of one disk, indexed by block."""

    __slots__ = ("_sectors",)

    def __init__(self, sectors: array[int]) -> None:
        self._sectors = sectors

    @classmethod
    def empty(cls, entries: int) -> Bat:
        """A table with no block allocated."""
        return cls(array(_CODE, b"\xff" * (4 * entries)))

    @classmethod
    def strided(cls, entries: int, step_sectors: int) -> Bat:
        """A table with every block allocated, one every ``step_sectors`` from 0 on."""
        return cls(array(_CODE, range(0, entries * step_sectors, step_sectors)))

    @classmethod
    def unpack(cls, raw: bytes | memoryview, entries: int) -> Bat:
        """Read ``entries`` entries; ``raw`` may be longer (padding), not shorter (``ValueError``)."""
        if len(raw) < 4 * entries:
            raise ValueError(f"a table of {entries} entries takes {4 * entries} bytes, found {len(raw)}")
        sectors = array(_CODE, bytes(raw[: 4 * entries]))
        if sys.byteorder == "little":
            sectors.byteswap()
        return cls(sectors)

    def pack(self) -> bytes:
        """The table as on disk, padded with ones to whole sectors."""
        return self.pack_range(0, len(self)) + b"\xff" * (padded_bytes(len(self)) - 4 * len(self))

    def pack_range(self, first: int, count: int) -> bytes:
        """Entries ``first`` to ``first + count`` as on disk, unpadded."""
        piece = self._sectors[first : first + count]
        if sys.byteorder == "little":
            piece.byteswap()
        return piece.tobytes()

    def __len__(self) -> int:
        return len(self._sectors)

    def __getitem__(self, index: int) -> int:
        """The sector of block ``index``'s bitmap, or :data:`UNALLOCATED`."""
        return self._sectors[index]

    def __setitem__(self, index: int, sector: int) -> None:
        self._sectors[index] = sector

    def has(self, index: int) -> bool:
        """Whether block ``index`` is allocated; blocks past the table are not."""
        return index < len(self._sectors) and self._sectors[index] != UNALLOCATED

    def allocated(self) -> list[int]:
        """Indexes of allocated blocks, ascending."""
        found: list[int] = []
        for first, piece in self._pieces():
            found += [index for index, sector in enumerate(piece, first) if sector != UNALLOCATED]
        return found

    def sectors(self) -> array[int]:
        """The sectors of allocated blocks, in the order of their indexes."""
        found: array[int] = array(_CODE)
        for _, piece in self._pieces():
            found.extend([sector for sector in piece if sector != UNALLOCATED])
        return found

    def index_of(self, sector: int, *, after: int = -1) -> int:
        """The first block past block ``after`` that lies at ``sector``; ``ValueError`` when none does."""
        return self._sectors.index(sector, after + 1)

    def _pieces(self) -> Iterator[tuple[int, array[int]]]:
        """Stretches of the table that are not all holes, with the index of their first entry."""
        raw = memoryview(self._sectors).cast("B")
        for at in range(0, len(raw), len(_HOLES)):
            page = bytes(raw[at : at + len(_HOLES)])
            if page == _HOLES:
                continue
            for start in range(0, len(page), len(_FEW_HOLES)):
                piece = page[start : start + len(_FEW_HOLES)]
                if piece != _FEW_HOLES:
                    yield (at + start) // 4, array(_CODE, piece)

    def grow(self, entries: int) -> None:
        """Make room for ``entries`` blocks; never shrinks."""
        missing = entries - len(self._sectors)
        if missing > 0:
            self._sectors.frombytes(b"\xff" * (4 * missing))


def padded_bytes(entries: int) -> int:
    """Bytes that a table of ``entries`` entries takes on disk."""
    return -(-4 * entries // SECTOR_BYTES) * SECTOR_BYTES
