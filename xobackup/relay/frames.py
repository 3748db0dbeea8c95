"""Pieces on a connection between a worker and a relay.

======  ======  =====================================================================
offset  length
======  ======  =====================================================================
0       1       kind: 1 words (a JSON object), 2 data
1       1       coding: 0 as it is, 1 one zstd frame that says its length
2       4       length on the wire, big-endian: at most the length in plain
6       4       length in plain: at most :data:`WORDS_MAX`, :data:`DATA_MAX`
======  ======  =====================================================================

A question is one frame of words. Its answer is any number of data frames and one frame of words, which is the end. A
header is judged before anything of its length is taken or made room for. Raises :class:`LineLost` and
:class:`BadFrame` only.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import zstandard

from xobackup.relay.errors import BadFrame, LineLost
from xobackup.relay.squeezing import SMALL_BYTES, WORTH, Squeezer

HEADER = struct.Struct(">BBII")
VERSION = 1
WORDS, DATA = 1, 2
PLAIN, ZSTD = 0, 1
WORDS_MAX = 1 << 16
DATA_MAX = 1 << 18
"""Small enough that one gets through between two cuts, large enough for compression to have something to find."""
SEND_BUFFER_BYTES = 128 << 10
"""Small, so that a line that is slow is felt when a piece is sent, not when the buffers of the kernel are full."""


@dataclass(frozen=True, slots=True)
class Header:
    """See the module's head."""

    kind: int
    coding: int
    wire_bytes: int
    plain_bytes: int


def parse_header(raw: bytes) -> Header:
    """Raises :class:`BadFrame` for what cannot be."""
    if len(raw) != HEADER.size:
        raise BadFrame(f"expected a header of {HEADER.size} bytes, found {len(raw)}")
    header = Header(*HEADER.unpack(raw))
    if header.kind not in (WORDS, DATA) or header.coding not in (PLAIN, ZSTD):
        raise BadFrame(f"expected a frame, found kind {header.kind}, coding {header.coding}")
    limit = WORDS_MAX if header.kind == WORDS else DATA_MAX
    if header.plain_bytes > limit:
        raise BadFrame(f"expected at most {limit} bytes in a frame, found {header.plain_bytes}")
    fits = (
        header.wire_bytes == header.plain_bytes if header.coding == PLAIN else header.wire_bytes < header.plain_bytes
    )
    if not fits:
        raise BadFrame(f"expected {header.plain_bytes} bytes or fewer on the wire, found {header.wire_bytes}")
    return header


def expand(raw: bytes, plain_bytes: int) -> bytes:
    """One zstd frame of exactly that length. Raises :class:`BadFrame`."""
    try:
        told = zstandard.frame_content_size(raw)
        if told != plain_bytes:
            raise BadFrame(f"expected {plain_bytes} compressed bytes, found {told}")
        found = zstandard.ZstdDecompressor().decompress(raw, max_output_size=plain_bytes)
    except zstandard.ZstdError as error:
        raise BadFrame(f"expected compressed bytes: {error}") from error
    if len(found) != plain_bytes:
        raise BadFrame(f"expected {plain_bytes} compressed bytes, found {len(found)}")
    return found


def parse_words(raw: bytes) -> dict[str, Any]:
    """Raises :class:`BadFrame` for what is no object."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadFrame("expected a JSON object") from error
    if not isinstance(found, dict):
        raise BadFrame(f"expected a JSON object, found {type(found).__name__}")
    return found


class Wire:
    """Frames over one socket, for one thread at a time; :meth:`shut` for any."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self._sock = sock
        self._squeezer = Squeezer()
        self.plain_bytes = self.wire_bytes = 0
        """Of data, sent and received."""

    # -- sending

    def say(self, words: Mapping[str, Any]) -> None:
        raw = json.dumps(words).encode()
        if len(raw) > WORDS_MAX:
            raise BadFrame(f"expected at most {WORDS_MAX} bytes of words, found {len(raw)}")
        self._send(HEADER.pack(WORDS, PLAIN, len(raw), len(raw)) + raw)

    def send_data(self, data: memoryview) -> None:
        """At most :data:`DATA_MAX` bytes, compressed when that pays."""
        if not len(data):
            return
        coded = self._coded(data)
        body = data if coded is None else memoryview(coded)
        self._send(HEADER.pack(DATA, PLAIN if coded is None else ZSTD, len(body), len(data)))
        began_s = time.perf_counter()
        self._send(body)
        self._squeezer.sent(len(body), time.perf_counter() - began_s)
        self.plain_bytes += len(data)
        self.wire_bytes += len(body)

    def _coded(self, data: memoryview) -> bytes | None:
        level = self._squeezer.next_level() if len(data) >= SMALL_BYTES else 0
        if level == 0:
            return None
        began_s = time.perf_counter()
        found = self._squeezer.compress(data, level)
        self._squeezer.compressed(level, len(data), len(found), time.perf_counter() - began_s)
        return found if len(found) < WORTH * len(data) else None

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._sock.sendall(data)
        except (OSError, ValueError) as error:
            raise LineLost(self.peer, _told(error)) from error

    # -- receiving

    def header(self) -> Header:
        raw = bytearray(HEADER.size)
        self._fill(memoryview(raw))
        return parse_header(bytes(raw))

    def words(self, header: Header | None = None) -> dict[str, Any]:
        """The next frame, which must be words."""
        header = header or self.header()
        if header.kind != WORDS:
            raise BadFrame("expected words, found data")
        return parse_words(self._body(header))

    def data(self, header: Header) -> bytes:
        """The body of a data frame."""
        found = self._body(header)
        self._count(header)
        return found

    def data_into(self, header: Header, buffer: memoryview) -> int:
        """The body of a data frame, to the beginning of ``buffer``, which has to have room; returns how much."""
        if header.plain_bytes > len(buffer):
            raise BadFrame(f"expected at most {len(buffer)} bytes, found {header.plain_bytes}")
        if header.coding == PLAIN:
            self._fill(buffer[: header.plain_bytes])
        else:
            buffer[: header.plain_bytes] = self._body(header)
        self._count(header)
        return header.plain_bytes

    def _count(self, header: Header) -> None:
        self.plain_bytes += header.plain_bytes
        self.wire_bytes += header.wire_bytes

    def _body(self, header: Header) -> bytes:
        raw = bytearray(header.wire_bytes)
        self._fill(memoryview(raw))
        return bytes(raw) if header.coding == PLAIN else expand(bytes(raw), header.plain_bytes)

    def _fill(self, view: memoryview) -> None:
        at = 0
        while at < len(view):
            try:
                count = self._sock.recv_into(view[at:])
            except (OSError, ValueError) as error:
                raise LineLost(self.peer, _told(error)) from error
            if not count:
                raise LineLost(self.peer, "the connection was closed")
            at += count

    # -- the connection

    def set_timeout(self, seconds: float) -> None:
        with contextlib.suppress(OSError):
            self._sock.settimeout(seconds)

    def shut(self) -> None:
        """Wake whoever waits on it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # that of TLS would let others go on in plain

    def close(self) -> None:
        self.shut()
        with contextlib.suppress(OSError):
            self._sock.close()


def _told(error: BaseException) -> str:
    return "no sign of life in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
