"""The archive's bytes, both ways: a ustar stream of members that are written and read in order.

    ova.xml, then for each disk (by number)  Ref:7/00000000, Ref:7/00000000.xxhash, Ref:7/00000003, ...

Pieces of 1 MiB; the first and the last always, others only if they hold something. A member of length zero is a sign
of life. The checksum is XXH64 in upper-case hex (``.xxhash``), SHA-1 in older versions (``.checksum``).
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import xxhash
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from xobackup.simpool.storage.composed import ComposedDisk

PIECE_BYTES = 1 << 20
HEADER_BYTES = 512
END = bytes(2 * HEADER_BYTES)
MEMBER_MAX_BYTES = 64 << 20
SUFFIXES = {"xxhash": ".xxhash", "sha1": ".checksum"}
Checksum = Literal["xxhash", "sha1"]


class Truncated(Exception):
    """The stream ends inside a member, or before the two blocks of zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member as read."""

    name: str
    data: bytes


def member(name: str, data: bytes | memoryview) -> bytes:
    """Header, data, padding."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o600
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(data) + bytes(-len(data) % HEADER_BYTES)


def checksum(data: bytes | memoryview, kind: Checksum) -> bytes:
    if kind == "xxhash":
        return xxhash.xxh64(data, seed=0).hexdigest().upper().encode()
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


def disk_members(disk: ComposedDisk, number: str, kind: Checksum, alive_every: int | None) -> Iterator[bytes]:
    """The pieces of one disk with their checksums; a sign of life before every so many."""
    allocated = set(disk.block_indexes())
    size = disk.virtual_size_bytes
    count = -(-size // PIECE_BYTES)
    for index in range(count):
        offset = index * PIECE_BYTES
        if alive_every and index % alive_every == 0:
            yield member(f"{number}/{index:08d}", b"")
        needed = index in (0, count - 1)
        if not needed and offset // (2 * PIECE_BYTES) not in allocated:
            continue
        data = disk.read(offset, min(PIECE_BYTES, size - offset))
        if needed or any(data):
            name = f"{number}/{index:08d}"
            yield member(name, data) + member(name + SUFFIXES[kind], checksum(data, kind))


def compressed(pieces: Iterable[bytes | memoryview], kind: str) -> Iterator[bytes | memoryview]:
    """The stream as asked for: ``gzip``, ``zstd`` or as it is."""
    if kind == "gzip":
        return _through(pieces, zlib.compressobj(1, zlib.DEFLATED, 31))
    if kind == "zstd":
        return _through(pieces, zstandard.ZstdCompressor(level=1).compressobj())
    return iter(pieces)


def _through(pieces: Iterable[bytes | memoryview], machine: object) -> Iterator[bytes]:
    for piece in pieces:
        if found := machine.compress(piece):  # type: ignore[attr-defined]
            yield found
    yield machine.flush()  # type: ignore[attr-defined]


class Reader:
    """Members of a stream whose compression is found out by its first bytes."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._buffer = bytearray(read(6))
        self._inflate: Callable[[bytes], bytes] | None = None
        head = bytes(self._buffer)
        if head[:2] == b"\x1f\x8b":
            self._inflate = zlib.decompressobj(31).decompress
        elif head[:4] == b"\x28\xb5\x2f\xfd":
            self._inflate = zstandard.ZstdDecompressor().decompressobj().decompress
        if self._inflate is not None:
            self._buffer = bytearray(self._unpack(head))

    def members(self) -> Iterator[Member]:
        """All members up to the end. Raises :class:`Truncated`."""
        while (head := self._exactly(HEADER_BYTES)) != bytes(HEADER_BYTES):
            try:
                info = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise Truncated(f"no tar header: {error}") from error
            if info.size > MEMBER_MAX_BYTES:
                raise Truncated(f"{info.name} is {info.size} bytes long")
            data = self._exactly(info.size)
            self._exactly(-info.size % HEADER_BYTES)
            yield Member(name=info.name, data=data)
        self._exactly(HEADER_BYTES)

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            piece = self._read(1 << 18)
            if not piece:
                raise Truncated("the stream ends early")
            self._buffer += self._unpack(piece) if self._inflate else piece
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def _unpack(self, piece: bytes) -> bytes:
        assert self._inflate is not None
        try:
            return self._inflate(piece)
        except (zlib.error, zstandard.ZstdError, gzip.BadGzipFile, EOFError) as error:
            raise Truncated(f"bad compression: {error}") from error
