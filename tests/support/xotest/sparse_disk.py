"""A disk of any size that holds a few blocks: what tests of huge disks are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vhd.block import BLOCK_BYTES, Bitmap, BlockBuffer


@dataclass(slots=True, kw_only=True)
class SparseDisk:
    """Satisfies :class:`vhd.block.Disk`. ``blocks``: by index; short ones are filled up with zeros."""

    virtual_size_bytes: int
    blocks: Mapping[int, bytes] = field(default_factory=dict)
    name: str = "sparse"

    def block_indexes(self) -> list[int]:
        return sorted(self.blocks)

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        buffer.data[:] = self.blocks.get(index, b"").ljust(BLOCK_BYTES, b"\0")
        return None


def letters(count: int, index: int) -> bytes:
    """A block's bytes that say which block it is, ``count`` clusters of 64 KiB of them."""
    return (f"block {index} " * 8192).encode()[: 1 << 16] * count
