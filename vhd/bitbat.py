"""The table of a VHD directory: one bit per block, most significant first; the place of a block is its name.

Stored as Xen Orchestra stores it: a buffer of as many *bytes* as the table has entries, of which only the first
eighth is used. In memory only that eighth is kept. Also used as a plain set of block numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NOTHING = bytes(4096)
_POSITIONS = tuple(tuple(bit for bit in range(8) if byte & 0x80 >> bit) for byte in range(256))


class BitBat:
    """A set of blocks below ``len(self)``."""

    __slots__ = ("_bits", "_entries")

    def __init__(self, entries: int, blocks: Iterable[int] = ()) -> None:
        self._entries = entries
        self._bits = bytearray(-(-entries // 8))
        for index in blocks:
            self._bits[index >> 3] |= 0x80 >> (index & 7)

    @classmethod
    def unpack(cls, raw: bytes, entries: int) -> BitBat:
        """``raw`` may be longer than needed, not shorter (``ValueError``); bits past ``entries`` are ignored."""
        used = -(-entries // 8)
        if len(raw) < used:
            raise ValueError(f"a table of {entries} bits takes {used} bytes, found {len(raw)}")
        table = cls(0)
        table._entries = entries
        table._bits = bytearray(raw[:used])
        if entries & 7:
            table._bits[-1] &= 0xFF00 >> (entries & 7) & 0xFF
        return table

    def pack(self) -> bytes:
        """The buffer as stored: one byte an entry, the bits in the first eighth."""
        return bytes(self._bits).ljust(self._entries, b"\0")

    def __len__(self) -> int:
        return self._entries

    def __bool__(self) -> bool:
        """Whether any block is in the set."""
        return any(self._bits)

    def has(self, index: int) -> bool:
        return index < self._entries and bool(self._bits[index >> 3] & 0x80 >> (index & 7))

    def add(self, index: int) -> None:
        self._bits[index >> 3] |= 0x80 >> (index & 7)

    def discard(self, index: int) -> None:
        self._bits[index >> 3] &= ~(0x80 >> (index & 7))

    def allocated(self) -> list[int]:
        """The blocks, ascending."""
        return list(self)

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self._bits), len(_NOTHING)):
            piece = self._bits[start : start + len(_NOTHING)]
            if piece == _NOTHING[: len(piece)]:
                continue
            for at, byte in enumerate(piece, start):
                if byte:
                    for bit in _POSITIONS[byte]:
                        yield at * 8 + bit

    def grow(self, entries: int) -> None:
        """Make room for ``entries`` blocks; never shrinks."""
        if entries > self._entries:
            self._entries = entries
            self._bits.extend(bytes(-(-entries // 8) - len(self._bits)))
