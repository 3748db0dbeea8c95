"""The compressions of VHD directories, as ``chunk-filters.json`` names them: brotli, gzip, zstd. All with bounds.

Xen Orchestra writes brotli at quality 0 always and refuses to chain on anything else; zstd is ours alone. One
compression per chain: a merge moves block objects without looking into them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import brotli
import zstandard

from xobackup.repository.errors import RepositoryError

BROTLI_QUALITY = 0
GZIP_LEVEL = 1
ZSTD_LEVEL = 1
_BROTLI_STEP_BYTES = 1 << 16


class CodecError(RepositoryError):
    """Compressed bytes are damaged, or hold more than they may."""

    def __init__(self, codec: str, problem: str) -> None:
        self.codec = codec
        self.problem = problem
        super().__init__(f"{codec}: {problem}")


class Codec(Protocol):
    """What :mod:`vhd.directory` asks of a compression."""

    @property
    def name(self) -> str: ...

    def compress(self, data: bytes | bytearray | memoryview) -> bytes: ...

    def decompress(self, data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes: ...


class Brotli:
    name = "brotli"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        return bytes(brotli.compress(bytes(data), quality=BROTLI_QUALITY))

    def decompress(self, data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes:
        inflater = brotli.Decompressor()
        found = bytearray()
        raw = bytes(data)
        try:
            for start in range(0, len(raw), _BROTLI_STEP_BYTES):
                piece = raw[start : start + _BROTLI_STEP_BYTES]
                found += inflater.process(piece, output_buffer_limit=limit_bytes + 1 - len(found))
                while not inflater.can_accept_more_data() and len(found) <= limit_bytes:
                    found += inflater.process(b"", output_buffer_limit=limit_bytes + 1 - len(found))
                if len(found) > limit_bytes:
                    raise CodecError(self.name, f"holds more than {limit_bytes} bytes")
        except brotli.error as error:
            raise CodecError(self.name, f"damaged: {error}") from None
        if not inflater.is_finished():
            raise CodecError(self.name, "cut short")
        return bytes(found)


class Gzip:
    name = "gzip"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        return gzip.compress(bytes(data), GZIP_LEVEL, mtime=0)

    def decompress(self, data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes:
        inflater = zlib.decompressobj(wbits=31)
        try:
            found = inflater.decompress(data, limit_bytes + 1)
        except zlib.error as error:
            raise CodecError(self.name, f"damaged: {error}") from None
        if len(found) > limit_bytes:
            raise CodecError(self.name, f"holds more than {limit_bytes} bytes")
        if not inflater.eof:
            raise CodecError(self.name, "cut short")
        return found


class Zstd:
    name = "zstd"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)

    def decompress(self, data: bytes | bytearray | memoryview, limit_bytes: int) -> bytes:
        try:
            expected = zstandard.get_frame_parameters(data).content_size
            if expected > limit_bytes:
                raise CodecError(self.name, f"holds more than {limit_bytes} bytes")
            found: bytes = zstandard.ZstdDecompressor().stream_reader(bytes(data)).read(expected + 1)
        except zstandard.ZstdError as error:
            raise CodecError(self.name, f"damaged: {error}") from None
        if len(found) != expected:
            raise CodecError(self.name, f"cut short: expected {expected} bytes, found {len(found)}")
        return found


CODECS: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in (Brotli(), Gzip(), Zstd())})
"""By the name in ``chunk-filters.json``."""
