"""What disks must hold, known without looking at them: every write of a guest, laid over each other.

Kept compactly: a disk's content is a sorted list of extents that say *which* write they come from; a seeded write is
its seed, others go to a spool file. Snapshots share the list. Independent of the VHD trees on purpose: tests
compare the two.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.simpool.toolstack import Toolstack

HASH_STEP_BYTES = 4 << 20
CHUNK_BYTES = 16 * 1024
"""Seeded bytes are made in pieces of this, so that any part can be had without the rest."""


class Source(Protocol):
    """Where a write's bytes come from."""

    @property
    def length(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """Pseudo-random bytes, made again whenever they are needed."""

    seed: int
    length: int

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.length)
        first, last = offset // CHUNK_BYTES, -(-end // CHUNK_BYTES)
        made = b"".join(random.Random(self.seed << 24 | chunk).randbytes(CHUNK_BYTES) for chunk in range(first, last))
        return made[offset - first * CHUNK_BYTES : end - first * CHUNK_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """A write of zeros."""

    length: int

    def read(self, offset: int, length: int) -> bytes:
        del offset
        return bytes(length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """Any other write: its bytes lie in a file."""

    file: IO[bytes]
    at: int
    length: int

    def read(self, offset: int, length: int) -> bytes:
        self.file.seek(self.at + offset)
        return self.file.read(length)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes ``start`` to ``end`` of a disk come from ``source``, beginning at its byte ``skip``."""

    start: int
    end: int
    source: Source
    skip: int


class Content:
    """What one disk must hold; bytes that no write covers are zeros."""

    def __init__(self, size_bytes: int, extents: list[Extent] | None = None) -> None:
        self.size_bytes = size_bytes
        self.extents = extents if extents is not None else []

    def frozen(self) -> Content:
        """A copy that later writes do not touch."""
        return Content(self.size_bytes, list(self.extents))

    def overlay(self, offset: int, source: Source) -> None:
        """Lay a write over what is there."""
        end = offset + source.length
        first = bisect_right(self.extents, offset, key=lambda extent: extent.end)
        last = bisect_left(self.extents, end, key=lambda extent: extent.start)
        kept: list[Extent] = []
        for extent in self.extents[first:last]:
            if extent.start < offset:
                kept.append(Extent(extent.start, offset, extent.source, extent.skip))
            if extent.end > end:
                kept.append(Extent(end, extent.end, extent.source, extent.skip + end - extent.start))
        kept.append(Extent(offset, end, source, 0))
        kept.sort(key=lambda extent: extent.start)
        self.extents[first:last] = kept

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at any offset; shorter only at the end of the disk."""
        end = min(offset + length, self.size_bytes)
        found = bytearray(max(0, end - offset))
        index = bisect_right(self.extents, offset, key=lambda extent: extent.end)
        for extent in self.extents[index:]:
            if extent.start >= end:
                break
            start, stop = max(offset, extent.start), min(end, extent.end)
            data = extent.source.read(extent.skip + start - extent.start, stop - start)
            found[start - offset : stop - offset] = data
        return bytes(found)

    def sha256(self) -> str:
        """Digest of the whole disk."""
        digest = hashlib.sha256()
        for offset in range(0, self.size_bytes, HASH_STEP_BYTES):
            digest.update(self.read(offset, HASH_STEP_BYTES))
        return digest.hexdigest()


class Expectations:
    """The content of every disk of a pool, followed through writes, snapshots, clones and copies."""

    def __init__(self, toolstack: Toolstack, directory: Path) -> None:
        self._toolstack = toolstack
        self._directory = directory
        self._contents: dict[str, Content] = {}
        self._refs: dict[str, str] = {}
        self._spool: IO[bytes] | None = None
        toolstack.on_created.append(self.empty)
        toolstack.on_written.append(self._written)
        toolstack.on_copied.append(self._copied)
        toolstack.on_changed.append(self.forget)

    def of(self, vdi: str) -> Content:
        """The content of a disk (ref or uuid), of a destroyed one as it was in the end.

        Raises ``KeyError`` for a disk that something unknown was imported into.
        """
        database = self._toolstack.database
        with database.lock:
            ref = self._refs.get(vdi, vdi)
            content = self._contents.get(ref)
            if content is None:
                raise KeyError(f"what {vdi} holds is not known")
            if database.exists("VDI", ref):
                content.size_bytes = database.get("VDI", ref)["virtual_size"]
            return content.frozen()

    def empty(self, vdi: str, size_bytes: int) -> None:
        """A new disk holds zeros."""
        self._put(vdi, Content(size_bytes))

    def forget(self, vdi: str) -> None:
        """Something unknown happens to the disk's content."""
        self._contents.pop(vdi, None)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def _written(self, vdi: str, offset: int, data: bytes | memoryview, source: Source | None) -> None:
        content = self._contents.get(vdi)
        if content is not None:
            content.overlay(offset, source or self._spooled(data))

    def _spooled(self, data: bytes | memoryview) -> Source:
        if not any(data[:64]) and not any(data):
            return Zeros(length=len(data))
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by close()
        at = self._spool.seek(0, 2)
        self._spool.write(data)
        return Spooled(file=self._spool, at=at, length=len(data))

    def _copied(self, source: str, new: str) -> None:
        content = self._contents.get(source)
        if content is not None:
            content.size_bytes = self._toolstack.database.get("VDI", source)["virtual_size"]
            self._put(new, content.frozen())

    def _put(self, vdi: str, content: Content) -> None:
        self._contents[vdi] = content
        self._refs[self._toolstack.database.get("VDI", vdi)["uuid"]] = vdi
