"""A file in memory that satisfies ``vhd.storage.WritableFile``, sparse enough for huge disks with little data."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vhd.storage import Buffer, ReadableFile

PAGE_BYTES = 1 << 16


class MemoryFile:
    """Pages of 64 KiB by number; what was never written reads as zeros. ``calls`` logs what was done to it."""

    def __init__(self, data: Buffer = b"", *, name: str = "memory.vhd") -> None:
        self.name = name
        self.calls: list[tuple[object, ...]] = []
        self.closed = False
        self._pages: dict[int, bytearray] = {}
        self._size = 0
        self._lock = threading.Lock()
        if len(data):
            self.write_at(0, data)
            self.calls.clear()

    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        length = max(0, min(len(buffer), self._size - offset))
        done = 0
        while done < length:
            number, at = divmod(offset + done, PAGE_BYTES)
            count = min(PAGE_BYTES - at, length - done)
            page = self._pages.get(number)
            buffer[done : done + count] = bytes(count) if page is None else page[at : at + count]
            done += count
        return length

    def write_at(self, offset: int, data: Buffer) -> None:
        self.calls.append(("write_at", offset, len(data)))
        with self._lock:
            self._store(offset, memoryview(data).cast("B"))

    def _store(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            number, at = divmod(offset + done, PAGE_BYTES)
            count = min(PAGE_BYTES - at, len(view) - done)
            piece = view[done : done + count]
            if number in self._pages or bytes(piece).strip(b"\0"):
                self._pages.setdefault(number, bytearray(PAGE_BYTES))[at : at + count] = piece
            done += count
        self._size = max(self._size, offset + len(view))

    def truncate(self, size_bytes: int) -> None:
        self.calls.append(("truncate", size_bytes))
        if size_bytes < self._size:
            last, at = divmod(size_bytes, PAGE_BYTES)
            self._pages = {number: page for number, page in self._pages.items() if number <= last}
            if last in self._pages:
                self._pages[last][at:] = bytes(PAGE_BYTES - at)
        self._size = size_bytes

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        data = bytearray(length)
        done = source.read_into(source_offset, memoryview(data))
        assert done == length, f"copy of {length} bytes at {source_offset} reached the end after {done}"
        self.write_at(offset, data)
        self.calls[-1] = ("copy_range", source_offset, offset, length)

    def written(self, offset: int, length: int) -> None:
        self.calls.append(("written", offset, length))

    def sync(self) -> None:
        self.calls.append(("sync",))

    def close(self) -> None:
        self.closed = True

    def copy(self) -> MemoryFile:
        """The same content in another file, without the log."""
        other = MemoryFile(name=self.name)
        other.take(self)
        return other

    def take(self, other: MemoryFile) -> None:
        """Become a copy of ``other``."""
        self._pages = {number: bytearray(page) for number, page in other._pages.items()}
        self._size = other._size

    def data(self) -> bytes:
        """Everything; only for small files."""
        buffer = bytearray(self._size)
        self.read_into(0, memoryview(buffer))
        return bytes(buffer)
