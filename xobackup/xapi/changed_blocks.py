"""Changed block tracking (CBT): which 64 KiB ranges differ between two snapshots of a disk.

``VDI.list_changed_blocks`` gives a bitmap in base64: range ``i`` is bit ``0x80 >> (i & 7)`` of byte ``i >> 3``. Its
length should fit the newer disk, but may be longer or shorter: what lies past the disk's end is ignored, and what is
missing counts as unchanged (a disk that has grown: its new part is zeros until written, and then marked).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field

from vhd.block import BITMAP_BYTES, BLOCK_BYTES, SECTOR_BYTES, Bitmap, bitmap_of
from xobackup.xapi.errors import ProtocolError

RANGE_BYTES = 64 * 1024
RANGES_PER_BLOCK = BLOCK_BYTES // RANGE_BYTES
_BYTES_PER_BLOCK = RANGES_PER_BLOCK // 8
_BITMAP_BYTES_PER_RANGE = RANGE_BYTES // SECTOR_BYTES // 8
_NOTHING = bytes(4096)
_SPREAD = [
    b"".join((b"\xff" if byte & (0x80 >> bit) else b"\0") * _BITMAP_BYTES_PER_RANGE for bit in range(8))
    for byte in range(256)
]
"""The sectors' bits for eight ranges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedBlocks:
    """Changes of a disk. ``bits`` has four bytes for each block, nothing set past the end."""

    virtual_size_bytes: int
    bits: bytes = field(repr=False)

    @classmethod
    def of_bits(cls, raw: bytes, *, virtual_size_bytes: int) -> ChangedBlocks:
        """From a bitmap of any length."""
        ranges = -(-virtual_size_bytes // RANGE_BYTES)
        blocks = -(-virtual_size_bytes // BLOCK_BYTES)
        bits = bytearray(raw[: -(-ranges // 8)])
        if bits and len(bits) * 8 > ranges:
            bits[-1] &= 0xFF00 >> (ranges % 8) & 0xFF
        bits.extend(bytes(blocks * _BYTES_PER_BLOCK - len(bits)))
        return cls(virtual_size_bytes=virtual_size_bytes, bits=bytes(bits))

    @classmethod
    def decode(cls, text: object, *, virtual_size_bytes: int) -> ChangedBlocks:
        """From the answer of ``VDI.list_changed_blocks``."""
        if not isinstance(text, str):
            problem = f"expected a bitmap in base64, found {type(text).__name__}"
            raise ProtocolError("VDI.list_changed_blocks", problem)
        try:
            raw = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProtocolError("VDI.list_changed_blocks", f"expected a bitmap in base64, found {error}") from error
        return cls.of_bits(raw, virtual_size_bytes=virtual_size_bytes)

    @classmethod
    def of_ranges(cls, ranges: Iterable[int], *, virtual_size_bytes: int) -> ChangedBlocks:
        """From the numbers of the changed 64 KiB ranges."""
        bits = bytearray(-(-virtual_size_bytes // BLOCK_BYTES) * _BYTES_PER_BLOCK)
        for number in ranges:
            bits[number >> 3] |= 0x80 >> (number & 7)
        return cls.of_bits(bytes(bits), virtual_size_bytes=virtual_size_bytes)

    @property
    def changed_bytes(self) -> int:
        """Size of the changed ranges, the last one cut at the disk's end."""
        count = int.from_bytes(self.bits, "big").bit_count()
        past_end = -self.virtual_size_bytes % RANGE_BYTES
        last = (self.virtual_size_bytes - 1) // RANGE_BYTES
        return count * RANGE_BYTES - (past_end if self.is_changed(last) else 0)

    def bytes_in(self, index: int) -> int:
        """Size of the changed ranges of block ``index``; the last one of the disk counts whole."""
        at = index * _BYTES_PER_BLOCK
        return int.from_bytes(self.bits[at : at + _BYTES_PER_BLOCK], "big").bit_count() * RANGE_BYTES

    def is_changed(self, number: int) -> bool:
        """Whether 64 KiB range ``number`` has changed."""
        return bool(self.bits[number >> 3] & (0x80 >> (number & 7)))

    def block_indexes(self) -> list[int]:
        """Blocks of 2 MiB with any change, ascending."""
        found: list[int] = []
        for start in range(0, len(self.bits), len(_NOTHING)):
            page = self.bits[start : start + len(_NOTHING)]
            if page != _NOTHING[: len(page)]:  # of terabytes, most pages are
                first = start // _BYTES_PER_BLOCK
                found += [index for index, word in enumerate(memoryview(page).cast("I"), first) if word]
        return found

    def bitmap(self, index: int) -> Bitmap:
        """The changed sectors of block ``index``, 128 at a time; ``None`` when all are."""
        at = index * _BYTES_PER_BLOCK
        bits = self.bits[at : at + _BYTES_PER_BLOCK]
        ranges = -(-min(BLOCK_BYTES, self.virtual_size_bytes - index * BLOCK_BYTES) // RANGE_BYTES)
        if int.from_bytes(bits, "big").bit_count() == ranges:  # all that the disk has of it
            return None
        found = b"".join(_SPREAD[byte] for byte in bits)
        assert len(found) == BITMAP_BYTES
        return bitmap_of(found)

    def widened(self, indexes: Iterable[int]) -> ChangedBlocks:
        """With all of blocks ``indexes`` changed."""
        bits = bytearray(self.bits)
        for index in indexes:
            bits[index * _BYTES_PER_BLOCK : (index + 1) * _BYTES_PER_BLOCK] = b"\xff" * _BYTES_PER_BLOCK
        return ChangedBlocks.of_bits(bytes(bits), virtual_size_bytes=self.virtual_size_bytes)

    def union(self, other: ChangedBlocks) -> ChangedBlocks:
        """What changed in either; the larger size counts."""
        one, two = sorted((self, other), key=lambda changes: len(changes.bits))
        merged = int.from_bytes(one.bits.ljust(len(two.bits), b"\0"), "big") | int.from_bytes(two.bits, "big")
        size = max(self.virtual_size_bytes, other.virtual_size_bytes)
        return ChangedBlocks(virtual_size_bytes=size, bits=merged.to_bytes(len(two.bits), "big"))
