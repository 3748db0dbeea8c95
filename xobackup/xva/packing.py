"""What is around an archive: nothing, gzip or zstd, told by its first bytes and taken off while it is read.

What comes out is bounded per call, whatever goes in: a few bytes that unpack to gigabytes fill no memory. The end of
the stream is only an end where the packing says so; otherwise it was cut off.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import IO, cast

import zstandard

from xobackup.xva.errors import Malformed, Truncated
from xobackup.xva.zstd_frames import MAGIC as ZSTD_MAGIC
from xobackup.xva.zstd_frames import ZstdFrames

GZIP_MAGIC = b"\x1f\x8b"
INPUT_BYTES = 256 * 1024
WINDOW_BYTES_MAX = 1 << 27
"""What zstd itself takes without being told otherwise."""

ReadInto = Callable[[memoryview], int]
"""Fills a buffer; fewer bytes only at the end, 0 after it."""


class Packing(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def packing_of(head: bytes) -> Packing:
    """By the first four bytes."""
    if head[:2] == GZIP_MAGIC:
        return Packing.GZIP
    return Packing.ZSTD if head[:4] == ZSTD_MAGIC else Packing.NONE


class Unpacked:
    """The archive inside ``source``; :attr:`packing` is known from the beginning."""

    def __init__(self, source: ReadInto) -> None:
        head = bytearray(4)
        count = source(memoryview(head))
        self._source = source
        self._early = bytes(head[:count])
        self.packing = packing_of(self._early)
        self.packed_bytes = count
        """Taken from the source so far."""
        match self.packing:
            case Packing.GZIP:
                self.readinto: ReadInto = _Gzip(self._raw).readinto
            case Packing.ZSTD:
                self.readinto = _Zstd(self._raw).readinto
            case _:
                self.readinto = self._plain

    def _raw(self, count: int = INPUT_BYTES) -> bytes:
        """The next packed bytes, at most ``count``; empty at the end."""
        if self._early:
            head, self._early = self._early[:count], self._early[count:]
            return head
        buffer = bytearray(min(count, INPUT_BYTES))
        size = self._source(memoryview(buffer))
        self.packed_bytes += size
        return bytes(buffer[:size])

    def _plain(self, buffer: memoryview) -> int:
        early = min(len(self._early), len(buffer))
        if early:
            buffer[:early] = self._early[:early]
            self._early = self._early[early:]
        if early == len(buffer):
            return early
        count = self._source(buffer[early:])
        self.packed_bytes += count
        return early + count


class _Gzip:
    """Members one after the other, as gzip allows."""

    def __init__(self, raw: Callable[[], bytes]) -> None:
        self._raw = raw
        self._machine = zlib.decompressobj(31)
        self._input = b""
        self._at_end = False

    def readinto(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            if not self._input and not self._fill():
                break
            try:
                piece = self._machine.decompress(self._input, len(buffer) - done)
            except zlib.error as error:
                raise Malformed("xva-packing", f"the gzip stream is damaged: {error}") from None
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            if self._machine.eof:
                self._input = self._machine.unused_data
                self._machine = zlib.decompressobj(31)
                self._at_end = True
            else:
                self._input = self._machine.unconsumed_tail
                self._at_end = False
        return done

    def _fill(self) -> bool:
        """More input; False at the end of the stream."""
        self._input = self._raw()
        if not self._input and not self._at_end:
            # what the machine still holds comes out with an empty input, and then it has no end
            raise Truncated("the gzip stream is cut off")
        return bool(self._input)


class _Zstd:
    """Frames one after the other."""

    def __init__(self, raw: Callable[[int], bytes]) -> None:
        self._raw = raw
        self._frames = ZstdFrames()
        machine = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        self._reader = machine.stream_reader(cast("IO[bytes]", self), read_size=INPUT_BYTES, read_across_frames=True)

    def read(self, count: int) -> bytes:
        """For the decompressor: packed bytes."""
        piece = self._raw(count)
        self._frames.feed(piece)
        return piece

    def readinto(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            try:
                count = self._reader.readinto(buffer[done:])
            except zstandard.ZstdError as error:
                raise Malformed("xva-packing", f"the zstd stream is damaged: {error}") from None
            if not count:
                break
            done += count
        if done < len(buffer) and not self._frames.complete:
            raise Truncated("the zstd stream is cut off")
        return done
