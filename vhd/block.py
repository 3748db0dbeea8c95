"""A disk's unit: the 2 MiB block with its sector bitmap, and the buffers blocks travel in.

A bitmap is ``None`` when every sector is present (the common case, never looked at bit by bit) or 512 bytes, most
significant bit first: bit ``i`` is byte ``i >> 3``, mask ``0x80 >> (i & 7)``.

A :class:`BlockBuffer` is one page-aligned slot: 3584 unused bytes, the 512-byte bitmap, 2 MiB of data. Written at a
4 KiB boundary as a whole (one write, O_DIRECT if the storage likes), its data lies on a 4 KiB boundary.
"""

from __future__ import annotations

import mmap
import queue
from dataclasses import dataclass
from typing import Protocol

SECTOR_BYTES = 512
BLOCK_BYTES = 2 * 1024 * 1024
SECTORS_PER_BLOCK = BLOCK_BYTES // SECTOR_BYTES
BITMAP_BYTES = SECTORS_PER_BLOCK // 8
ALIGN_BYTES = 4096
"""Data of a block we place starts on a multiple of this, so that file systems can share it instead of copying."""
SLOT_BYTES = ALIGN_BYTES + BLOCK_BYTES

FULL_BITMAP = b"\xff" * BITMAP_BYTES
EMPTY_BITMAP = bytes(BITMAP_BYTES)

Bitmap = bytes | None
"""Which sectors of a block are present: ``None`` = all, else :data:`BITMAP_BYTES` bytes, MSB first."""


_ZEROS = memoryview(bytes(SLOT_BYTES))


class BlockBuffer:
    """One slot of page-aligned memory; see the module's head for its layout."""

    __slots__ = ("bitmap", "data", "slot", "stored")

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, SLOT_BYTES))
        self.slot = memory
        self.stored = memory[ALIGN_BYTES - BITMAP_BYTES :]
        """Bitmap and data, as they follow one another in a file."""
        self.bitmap = memory[ALIGN_BYTES - BITMAP_BYTES : ALIGN_BYTES]
        self.data = memory[ALIGN_BYTES:]


class BufferPool:
    """A fixed number of block buffers: the bound on how much of a disk is in memory at once."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"a pool needs at least one buffer, got {count}")
        self.count = count
        self._free: queue.LifoQueue[BlockBuffer] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(BlockBuffer())

    @property
    def free(self) -> int:
        """Buffers nobody has at this moment."""
        return self._free.qsize()

    def acquire(self, timeout_s: float | None = None) -> BlockBuffer:
        """Take a buffer, waiting for one to come back. Raises ``queue.Empty`` after ``timeout_s``."""
        return self._free.get(timeout=timeout_s)

    def release(self, buffer: BlockBuffer) -> None:
        """Give a buffer back; its content may be overwritten from now on."""
        self._free.put(buffer)


@dataclass(slots=True)
class Block:
    """Block ``index`` of a disk, its bitmap, and its data in ``buffer.data`` (always 2 MiB, zeros past the end)."""

    index: int
    bitmap: Bitmap
    buffer: BlockBuffer


class Disk(Protocol):
    """Anything that can be read as a disk: one VHD, a chain seen as one, a raw file."""

    @property
    def name(self) -> str:
        """What error messages call it."""
        ...

    @property
    def virtual_size_bytes(self) -> int: ...

    def block_indexes(self) -> list[int]:
        """Blocks that hold anything, ascending. Others are zeros (or the parent's, for a differencing disk)."""
        ...

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Fill ``buffer.data`` with block ``index``; sectors absent from the returned bitmap are zeros in it."""
        ...


def bitmap_of(raw: bytes | memoryview) -> Bitmap:
    """The canonical form of a bitmap read from a disk: ``None`` when all ones."""
    return None if raw == FULL_BITMAP else bytes(raw)


def blank_absent(buffer: BlockBuffer, bitmap: Bitmap) -> None:
    """Zero the data of sectors that ``bitmap`` says are absent: what lies there in a file is nobody's."""
    if bitmap is not None:
        for first, count in runs(bitmap, present=False):
            blank(buffer.data[first * SECTOR_BYTES : (first + count) * SECTOR_BYTES])


def blank_past_end(buffer: BlockBuffer, index: int, size_bytes: int) -> None:
    """Zero what lies past the end of a disk of ``size_bytes`` in its block ``index``."""
    inside = size_bytes - index * BLOCK_BYTES
    if inside < BLOCK_BYTES:
        blank(buffer.data[max(inside, 0) :])


def blank(view: memoryview) -> None:
    """Fill ``view`` (at most a block) with zeros."""
    view[:] = _ZEROS[: len(view)]


def runs(bitmap: Bitmap, *, present: bool = True) -> list[tuple[int, int]]:
    """Maximal runs ``(first sector, count)`` of sectors whose bit is ``present``, ascending."""
    if bitmap is None:
        return [(0, SECTORS_PER_BLOCK)] if present else []
    bits = int.from_bytes(bitmap, "big")
    if not present:
        bits ^= (1 << SECTORS_PER_BLOCK) - 1
    found: list[tuple[int, int]] = []
    while bits:
        top = bits.bit_length()
        first = SECTORS_PER_BLOCK - top
        inverted = bits ^ ((1 << top) - 1)
        length = top - inverted.bit_length()
        found.append((first, length))
        bits &= (1 << (top - length)) - 1  # what lies after this run
    return found


def union(one: Bitmap, other: Bitmap) -> Bitmap:
    """Sectors present in either."""
    if one is None or other is None:
        return None
    merged = int.from_bytes(one, "big") | int.from_bytes(other, "big")
    return bitmap_of(merged.to_bytes(BITMAP_BYTES, "big"))
