"""How the objects of a VHD directory are compressed: one codec for all of them, named in ``chunk-filters.json``.

A :class:`Codec` MUST raise ``ValueError``, and nothing else, for bytes it cannot decompress, and for bytes that give
more than ``limit_bytes`` or ``place`` holds: it never takes memory for more than that. Those of the standard
library are here; others are handed in as a mapping from their names (``{"brotli": ..., "zstd": ...}``).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vhd.storage import Buffer

_GZIP_WINDOW = 31
"""zlib's way to ask for a gzip header and trailer."""


class Codec(Protocol):
    """One way of compressing; see the module's head."""

    @property
    def name(self) -> str:
        """As in ``chunk-filters.json``; empty when nothing is compressed."""
        ...

    def compress(self, data: Buffer) -> Buffer: ...

    def decompress(self, data: bytes, limit_bytes: int) -> bytes: ...

    def decompress_into(self, data: bytes, place: memoryview) -> int:
        """The same into ``place``, of single bytes: how many came. After an error ``place`` holds anything."""
        ...


class PlainCodec:
    """Nothing is compressed."""

    name = ""

    def compress(self, data: Buffer) -> Buffer:
        return data

    def decompress(self, data: bytes, limit_bytes: int) -> bytes:
        if len(data) > limit_bytes:
            raise ValueError(f"expected at most {limit_bytes} bytes, found {len(data)}")
        return data

    def decompress_into(self, data: bytes, place: memoryview) -> int:
        return fill(place, self.decompress(data, len(place)))


class GzipCodec:
    """One gzip member."""

    name = "gzip"

    def __init__(self, level: int = 1) -> None:
        self._level = level

    def compress(self, data: Buffer) -> Buffer:
        packer = zlib.compressobj(self._level, wbits=_GZIP_WINDOW)
        return packer.compress(data) + packer.flush()

    def decompress(self, data: bytes, limit_bytes: int) -> bytes:
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        try:
            found = unpacker.decompress(data, limit_bytes + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(found) > limit_bytes:
            raise ValueError(f"decompresses to more than {limit_bytes} bytes")
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("the compressed data end early or are followed by something else")
        return found

    def decompress_into(self, data: bytes, place: memoryview) -> int:
        return fill(place, self.decompress(data, len(place)))


def fill(place: memoryview, data: bytes) -> int:
    """Put ``data`` at the beginning of ``place``, which has room for them: how many they are."""
    place[: len(data)] = data
    return len(data)


PLAIN = PlainCodec()
STANDARD_CODECS: dict[str, Codec] = {"gzip": GzipCodec()}
"""What the standard library offers."""
