"""The small Protocols this package needs from whatever holds the bytes. ``remotes`` satisfies them.

Offsets and lengths are bytes. Errors of the storage pass through. A writer's data is durable only after ``sync``
returned; ``written`` is a hint that a range will not be touched again (start write-back, drop the cache).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview
"""What can be written (``collections.abc.Buffer`` is newer than the Pythons supported)."""


class ReadableFile(Protocol):
    """A file that can be read at any offset, by several threads at once."""

    @property
    def name(self) -> str:
        """What error messages call it."""
        ...

    def size(self) -> int: ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return how many bytes, fewer than asked only at the end of the file."""
        ...

    def close(self) -> None: ...


class WritableFile(ReadableFile, Protocol):
    """A file that can be written at any offset."""

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``; a write past the end leaves a hole of zeros."""
        ...

    def truncate(self, size_bytes: int) -> None: ...

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        """Copy within the file system where possible (shared extents, server-side copy), else by reading."""
        ...

    def written(self, offset: int, length: int) -> None:
        """Hint: this range is final for now. May start write-back; never needed for correctness."""
        ...

    def sync(self) -> None:
        """Return only when everything written is durable."""
        ...


@runtime_checkable
class HintedFile(Protocol):
    """What an open file may offer besides."""

    def will_read(self, offset: int, length: int) -> None:
        """Hint: this range is read soon; never needed for correctness."""
        ...


class ObjectStore(Protocol):
    """Whole objects by name (``/``-separated, relative). ``put`` replaces atomically and durably."""

    def get(self, name: str) -> bytes:
        """Raises the storage's own not-found error."""
        ...

    def put(self, name: str, data: Buffer) -> None: ...

    def move(self, old: str, new: str) -> None:
        """Rename, replacing ``new``; at no instant does neither exist."""
        ...

    def delete(self, name: str) -> None: ...

    def exists(self, name: str) -> bool: ...

    def names(self, directory: str) -> list[str]:
        """Base names directly in ``directory``, sorted; complete or an error."""
        ...


@runtime_checkable
class CopyingStore(Protocol):
    """What a store of objects may offer besides."""

    @property
    def moves_by_copy(self) -> bool:
        """Whether a move is a copy and a deletion anyway: then copies are cheaper, and deletions better together."""
        ...

    def copy(self, old: str, new: str) -> None:
        """Copy within the store, replacing ``new`` atomically; durable on return."""
        ...


def read_exactly(file: ReadableFile, offset: int, length: int) -> bytes:
    """Read ``length`` bytes at ``offset``; shorter only when the file ends there."""
    buffer = bytearray(length)
    done = file.read_into(offset, memoryview(buffer))
    return bytes(buffer[:done])
