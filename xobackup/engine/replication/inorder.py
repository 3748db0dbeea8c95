"""Blocks that come in any order, sent in ascending order: a VHD that is imported can be written in no other.

Blocks that come too early wait in a temporary file. When one block keeps too many waiting its place is sent empty
(no sector present, which an import skips), and it follows in a second stream. So neither memory nor the time that
anybody waits depends on who is slow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from vhd.block import BLOCK_BYTES, EMPTY_BITMAP, FULL_BITMAP, Block

HELD_MAX = 64
"""Blocks (128 MiB of disk) that wait for one."""
_ZEROS = memoryview(bytes(BLOCK_BYTES))
Send = Callable[[int, memoryview | bytes, memoryview], None]
"""Takes a block's index, its bitmap and its data."""


class InOrder:
    """One stream of the blocks ``indexes`` (ascending); blocks that never come are sent empty."""

    def __init__(self, indexes: Sequence[int], send: Send, *, held_max: int = HELD_MAX) -> None:
        self._indexes = indexes
        self._position = {index: at for at, index in enumerate(indexes)}
        self._at = 0
        self._send = send
        self._held_max = held_max
        self._held: dict[int, bytes] = {}
        """Bitmaps of blocks that wait, by position."""
        self._late: dict[int, bytes] = {}
        self._skipped: set[int] = set()
        self._file: IO[bytes] | None = None
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def put(self, block: Block) -> None:
        """The next block that came; done with its buffer on return."""
        position = self._position[block.index]
        bitmap = FULL_BITMAP if block.bitmap is None else block.bitmap
        if position == self._at:
            self._send(block.index, bitmap, block.buffer.data)
            self._at += 1
            self._drain()
            return
        (self._late if position < self._at else self._held)[position] = bytes(bitmap)
        self._keep(position, block.buffer.data)
        while len(self._held) > self._held_max:
            self._skip()
            self._drain()

    def end(self) -> None:
        """No block will come any more: send what is left."""
        while self._at < len(self._indexes):
            self._drain()
            if self._at < len(self._indexes):
                self._skip()

    @property
    def late(self) -> list[int]:
        """Blocks whose place had been sent empty when they came, ascending."""
        return [self._indexes[position] for position in sorted(self._late)]

    @property
    def missing(self) -> list[int]:
        """Blocks whose place was sent empty and that never came, ascending; known at the end."""
        return [self._indexes[position] for position in sorted(self._skipped - set(self._late))]

    def late_blocks(self) -> Iterator[tuple[int, bytes, memoryview]]:
        """Indexes, bitmaps and data of :attr:`late`, in that order."""
        for position in sorted(self._late):
            yield self._indexes[position], self._late[position], self._kept(position)

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()

    def _skip(self) -> None:
        self._send(self._indexes[self._at], EMPTY_BITMAP, _ZEROS)
        self._skipped.add(self._at)
        self._at += 1

    def _drain(self) -> None:
        while self._at in self._held:
            self._send(self._indexes[self._at], self._held.pop(self._at), self._kept(self._at))
            self._at += 1

    def _keep(self, position: int, data: memoryview) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="xobackup-", buffering=0)  # noqa: SIM115 - until close
        slot = self._free.pop() if self._free else len(self._slots)
        self._slots[position] = slot
        self._file.seek(slot * BLOCK_BYTES)
        written = 0
        while written < BLOCK_BYTES:
            written += self._file.write(data[written:])

    def _kept(self, position: int) -> memoryview:
        assert self._file is not None
        slot = self._slots.pop(position)
        self._free.append(slot)
        self._file.seek(slot * BLOCK_BYTES)
        data = memoryview(bytearray(BLOCK_BYTES))
        read = 0
        while read < BLOCK_BYTES:
            count = self._file.readinto(data[read:])  # type: ignore[attr-defined]
            if not count:
                raise OSError(f"the temporary file for blocks that wait ended after {read} bytes of a block")
            read += count
        return data
