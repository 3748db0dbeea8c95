"""A disk as a guest sees it: a leaf and its ancestors, each sector from the first node that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, SECTOR_BYTES, SECTORS_PER_BLOCK, Bitmap, BlockBuffer
from xobackup.simpool.storage.node import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from xobackup.simpool.storage.node import Node

_ZEROS = memoryview(bytes(BLOCK_BYTES))


class ComposedDisk:
    """The leaf first, the root last. A context manager: inside it every file stays open, unlinked or not."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self.name = self.nodes[0].path.stem
        self.virtual_size_bytes = self.nodes[0].size_bytes

    def __enter__(self) -> ComposedDisk:
        for node in self.nodes:
            node.pin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.unpin()

    def block_indexes(self) -> list[int]:
        """Blocks that any node has, ascending."""
        last = -(-self.virtual_size_bytes // BLOCK_BYTES)
        found = {index for node in self.nodes for index in node.bat.allocated() if index < last}
        return sorted(found)

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """The whole block: sectors that no node has are zeros, and count as present."""
        self.read_sectors(index, 0, buffer.data)
        return None

    def read_sectors(self, index: int, first: int, view: memoryview) -> None:
        """Fill ``view`` with consecutive sectors of one block."""
        count = len(view) // SECTOR_BYTES
        wanted = ((1 << count) - 1) << (SECTORS_PER_BLOCK - first - count)
        for node in self.nodes:
            if not node.bat.has(index):
                continue
            here = wanted & node.bits(index)
            if here:
                self._read_runs(node, index, first, here, view)
                wanted &= ~here & ALL
                if not wanted:
                    return
        for start, length in runs_of(wanted):
            at = (start - first) * SECTOR_BYTES
            view[at : at + length * SECTOR_BYTES] = _ZEROS[: length * SECTOR_BYTES]

    @staticmethod
    def _read_runs(node: Node, index: int, first: int, bits: int, view: memoryview) -> None:
        for start, length in runs_of(bits):
            at = (start - first) * SECTOR_BYTES
            node.read_sectors(index, start, view[at : at + length * SECTOR_BYTES])

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at any offset; shorter only at the end of the disk."""
        length = max(0, min(length, self.virtual_size_bytes - offset))
        found = bytearray(length)
        self.read_into(offset, memoryview(found))
        return bytes(found)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from any offset within the disk."""
        done = 0
        while done < len(view):
            index, inside = divmod(offset + done, BLOCK_BYTES)
            step = min(BLOCK_BYTES - inside, len(view) - done)
            self._read_part(index, inside, view[done : done + step])
            done += step

    def _read_part(self, index: int, inside: int, view: memoryview) -> None:
        """Bytes of one block; sectors wanted in part are read whole and cut."""
        first, skip = divmod(inside, SECTOR_BYTES)
        whole = -(-(skip + len(view)) // SECTOR_BYTES) * SECTOR_BYTES
        if whole == len(view):
            self.read_sectors(index, first, view)
            return
        buffer = memoryview(bytearray(whole))
        self.read_sectors(index, first, buffer)
        view[:] = buffer[skip : skip + len(view)]


def runs_of(bits: int) -> list[tuple[int, int]]:
    """Maximal runs ``(first sector, count)`` of ones in a block's bitmap as a number."""
    found: list[tuple[int, int]] = []
    while bits:
        top = bits.bit_length()
        inverted = bits ^ ((1 << top) - 1)
        length = top - inverted.bit_length()
        found.append((SECTORS_PER_BLOCK - top, length))
        bits &= (1 << (top - length)) - 1
    return found
