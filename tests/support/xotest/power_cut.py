"""A file whose unsynced writes may be lost, sector by sector, when the power is cut.

``PowerCutFile`` remembers what was durable at the last sync and every write since. After the power went (at the
change given as ``cut_at``) every further change fails, because ``finally`` blocks still run. :meth:`survivor` gives a
file as the next boot might find it: of the writes since the last sync any subset of sectors may have arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xotest.memory_file import MemoryFile

if TYPE_CHECKING:
    from random import Random

    from vhd.storage import Buffer, ReadableFile

SECTOR_BYTES = 512


class PowerCut(Exception):
    """The simulated machine is off."""


class PowerCutFile(MemoryFile):
    """Starts durable with ``base``'s content."""

    def __init__(self, base: MemoryFile, *, cut_at: int | None = None) -> None:
        super().__init__(name=base.name)
        self._durable = base.copy()
        self._pending: list[tuple[int, bytes] | int] = []
        self._changes = 0
        self._cut_at = cut_at
        self.take(base)

    @property
    def changes(self) -> int:
        """Writes, truncations and syncs so far."""
        return self._changes

    def write_at(self, offset: int, data: Buffer) -> None:
        self._change()
        super().write_at(offset, data)
        self._pending.append((offset, bytes(data)))
        self._cut_now()

    def truncate(self, size_bytes: int) -> None:
        self._change()
        super().truncate(size_bytes)
        self._pending.append(size_bytes)
        self._cut_now()

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        data = bytearray(length)
        assert source.read_into(source_offset, memoryview(data)) == length
        self.write_at(offset, data)

    def sync(self) -> None:
        self._change()
        self._cut_now()
        for change in self._pending:
            _apply(self._durable, change)
        self._pending.clear()

    def survivor(self, random: Random) -> MemoryFile:
        """What is left after the cut."""
        file = self._durable.copy()
        for change in self._pending:
            kind = random.randrange(3)
            if kind == 0:
                continue  # lost
            if kind == 1 or isinstance(change, int):
                _apply(file, change)
                continue
            offset, data = change
            step = SECTOR_BYTES if len(data) < 1 << 16 else SECTOR_BYTES * 509
            for at in range(0, len(data), step):
                if random.randrange(2):
                    file.write_at(offset + at, data[at : at + step])
        return file

    def _change(self) -> None:
        if self._cut_at is not None and self._changes >= self._cut_at:
            raise PowerCut
        self._changes += 1

    def _cut_now(self) -> None:
        """The change that the power failed in: begun, perhaps arrived, never reported."""
        if self._cut_at is not None and self._changes >= self._cut_at:
            raise PowerCut


def _apply(file: MemoryFile, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        file.truncate(change)
    else:
        file.write_at(*change)
