"""The compressions of VHD directories, as ``chunk-filters.json`` names them: brotli, gzip, zstd. All bounded.

Xen Orchestra writes brotli at quality 0 always and refuses to chain on anything else; zstd is ours alone. One
compression per chain: a merge moves block objects without looking into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import brotli
import zstandard

from vhd.codec import PLAIN, STANDARD_CODECS, Codec, fill
from vhd.storage import Buffer

BROTLI_QUALITY = 0
ZSTD_LEVEL = 1
PIECE_BYTES = 64 * 1024
"""Of what is decompressed at a time: memory that the allocator has at hand."""


class BrotliCodec:
    """One brotli stream."""

    name = "brotli"

    def compress(self, data: Buffer) -> bytes:
        return bytes(brotli.compress(bytes(data), quality=BROTLI_QUALITY))

    def decompress(self, data: bytes, limit_bytes: int) -> bytes:
        inflater = brotli.Decompressor()
        try:
            found: bytes = inflater.process(data, output_buffer_limit=limit_bytes + 1)
            while len(found) <= limit_bytes and not inflater.can_accept_more_data():
                found += inflater.process(b"", output_buffer_limit=limit_bytes + 1 - len(found))
        except brotli.error as error:
            raise ValueError(str(error)) from None
        if len(found) > limit_bytes:
            raise ValueError(f"decompresses to more than {limit_bytes} bytes")
        if not inflater.is_finished():
            raise ValueError("the compressed data end early")
        return found

    def decompress_into(self, data: bytes, place: memoryview) -> int:
        """Piece by piece: brotli joins what it gives, and fresh memory for that takes longer than all the rest."""
        inflater = brotli.Decompressor()
        done = 0
        try:
            piece: bytes = inflater.process(data, output_buffer_limit=PIECE_BYTES)
            while piece:
                if len(piece) > len(place) - done:
                    raise ValueError(f"decompresses to more than {len(place)} bytes")
                done += fill(place[done:], piece)
                piece = b"" if inflater.is_finished() else inflater.process(b"", output_buffer_limit=PIECE_BYTES)
        except brotli.error as error:
            raise ValueError(str(error)) from None
        if not inflater.is_finished():
            raise ValueError("the compressed data end early")
        return done


class ZstdCodec:
    """One zstd frame that says its length."""

    name = "zstd"

    def __init__(self, level: int = ZSTD_LEVEL) -> None:
        self._level = level

    def compress(self, data: Buffer) -> bytes:
        return zstandard.ZstdCompressor(level=self._level).compress(data)

    def decompress(self, data: bytes, limit_bytes: int) -> bytes:
        try:
            expected = zstandard.get_frame_parameters(data).content_size
            if expected > limit_bytes:
                raise ValueError(f"decompresses to more than {limit_bytes} bytes")
            found: bytes = zstandard.ZstdDecompressor().stream_reader(data).read(expected + 1)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
        if len(found) != expected:
            raise ValueError(f"expected {expected} bytes, found {len(found)}")
        return found

    def decompress_into(self, data: bytes, place: memoryview) -> int:
        try:
            expected = zstandard.get_frame_parameters(data).content_size
            if expected > len(place):
                raise ValueError(f"decompresses to more than {len(place)} bytes")
            found: int = zstandard.ZstdDecompressor().stream_reader(data).readinto(place[:expected])
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
        if found != expected:
            raise ValueError(f"expected {expected} bytes, found {found}")
        return found


CODECS: Mapping[str, Codec] = MappingProxyType({**STANDARD_CODECS, "brotli": BrotliCodec(), "zstd": ZstdCodec()})
"""By the name in ``chunk-filters.json``."""


def codec_of(name: str) -> Codec:
    """The codec called ``name``; ``""`` is none at all. ``KeyError`` for a name nobody checked."""
    return PLAIN if name == "" else CODECS[name]
