"""Do the blocks of a table lie where blocks may lie? Judged on the table alone, without touching the data.

A table of a million entries that is nearly empty costs a few milliseconds; a full one well under a second.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from vhd.findings import Finding
from vhd.layout import SECTOR_BYTES, STORED_BLOCK_BYTES, STORED_BLOCK_SECTORS

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from vhd.bat import Bat


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Bytes ``start`` to ``end`` of the file, taken by ``what``."""

    what: str
    start: int
    end: int

    def meets(self, start: int, end: int) -> bool:
        """Whether any byte of ``start`` to ``end`` is inside."""
        return start < self.end and self.start < end


def check_extents(bat: Bat, *, taken: Sequence[Region], end_bytes: int) -> list[Finding]:
    """Errors of the table: blocks past ``end_bytes``, over a ``taken`` region, or over one another.

    At most one finding of each kind, naming the first block found.
    """
    sectors = bat.sectors()
    if not sectors:
        return []
    found = [_past_end(bat, sectors, end_bytes), _over_structures(bat, sectors, taken), _over_others(bat, sectors)]
    return [finding for finding in found if finding is not None]


def _past_end(bat: Bat, sectors: array[int], end_bytes: int) -> Finding | None:
    last = max(sectors)
    if last * SECTOR_BYTES + STORED_BLOCK_BYTES <= end_bytes:
        return None
    place = f"lies at byte {last * SECTOR_BYTES}, but blocks must end before byte {end_bytes}"
    return Finding(code="block-past-end", message=f"block {bat.index_of(last)} {place}")


def _over_structures(bat: Bat, sectors: array[int], taken: Sequence[Region]) -> Finding | None:
    if min(sectors) * SECTOR_BYTES >= max((region.end for region in taken), default=0):
        return None
    for region in taken:
        low = region.start // SECTOR_BYTES - STORED_BLOCK_SECTORS
        high = -(-region.end // SECTOR_BYTES)
        hit = next((sector for sector in sectors if low < sector < high), None)
        if hit is not None:
            message = f"block {bat.index_of(hit)} at byte {hit * SECTOR_BYTES} overlaps the {region.what}"
            return Finding(code="block-clobbers-headers", message=message)
    return None


def _over_others(bat: Bat, sectors: array[int]) -> Finding | None:
    if len(sectors) < 2:
        return None
    if min(map(operator.sub, islice(sectors, 1, None), sectors)) >= STORED_BLOCK_SECTORS:
        return None  # in file order, the usual case: nothing to sort
    order = sorted(sectors)
    for low, high in zip(order, islice(order, 1, None), strict=False):
        if high - low < STORED_BLOCK_SECTORS:
            one, other = bat.index_of(low), _other_index(bat, low, high)
            message = f"blocks {one} and {other} overlap at byte {high * SECTOR_BYTES}"
            return Finding(code="block-overlap", message=message)
    return None


def _other_index(bat: Bat, low: int, high: int) -> int:
    return bat.index_of(high, after=bat.index_of(low) if low == high else -1)
