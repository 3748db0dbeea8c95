"""The bytes of NBD's fixed newstyle (github.com/NetworkBlockDevice/nbd/doc/proto.md), as much as reading needs.

All integers big-endian.

    greeting          8 NBDMAGIC, 8 IHAVEOPT, 2 flags            then the client's 4 bytes of flags
    option            8 IHAVEOPT, 4 option, 4 length, data
    option's reply    8 magic, 4 option, 4 kind, 4 length, data
                      kind: 1 ack, 2 server, 3 info, 4 meta context, 2^31+n error
    EXPORT_NAME       no option reply: 8 size, 2 flags, 124 zeros (unless NO_ZEROES); or the server just closes
    request           4 magic, 2 flags, 2 command, 8 cookie, 8 offset, 4 length
    simple reply      4 magic, 4 error, 8 cookie, data of a read
    chunk             4 magic, 2 flags (1 done), 2 kind, 8 cookie, 4 length, payload

Everything here is pure; what a peer sends wrongly is a :class:`BadBytes`, to which the caller adds who sent it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

PORT = 10809
GREETING_BYTES = 18
GREETING_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OLD_STYLE_MAGIC = struct.pack(">Q", 0x420281861253)
REPLY_MAGIC = 0x3E889045565A9

FIXED_NEWSTYLE = 1
NO_ZEROES = 2
EXPORT_PADDING_BYTES = 124

OPTION_DATA_MAX = 64 * 1024
"""Longest reply to an option we take; real ones have some hundred bytes."""
NAME_BYTES_MAX = 4096
"""The protocol's own limit for strings."""


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    STARTTLS = 5
    GO = 7
    STRUCTURED_REPLY = 8
    SET_META_CONTEXT = 10


class Rep(IntEnum):
    """Kinds of replies to options."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4


REP_ERROR = 1 << 31
REP_ERRORS = {
    1: "the option is not supported",
    2: "not allowed by the server's policy",
    3: "invalid request",
    4: "not supported on this platform",
    5: "TLS is required",
    6: "no such export",
    7: "the server is shutting down",
    8: "block sizes must be negotiated",
    9: "the request is too big",
    10: "extended headers are required",
}
ERR_UNSUP = 1
ERR_POLICY = 2
ERR_TLS_REQD = 5
ERR_SHUTDOWN = 7

INFO_EXPORT = 0
INFO_BLOCK_SIZE = 3

READ_ONLY = 1 << 1
"""Of the export's flags."""

ALLOCATION = b"base:allocation"
STATE_HOLE = 1
STATE_ZERO = 2


class Command(IntEnum):
    READ = 0
    DISC = 2
    BLOCK_STATUS = 7


REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = b"\x67\x44\x66\x98"
CHUNK_MAGIC = b"\x66\x8e\x33\xef"
SIMPLE = struct.Struct(">4sIQ")
CHUNK = struct.Struct(">4sHHQI")
DONE = 1
LENGTH_MAX = (1 << 32) - 1


class Kind(IntEnum):
    """Kinds of chunks."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


KIND_ERROR = 0x8000
CHUNK_ERROR_MAX = 64 * 1024
EXTENTS_MAX = 1 << 20
"""Extents in one answer we take."""

ERRNOS = {
    1: "EPERM",
    5: "EIO",
    12: "ENOMEM",
    22: "EINVAL",
    28: "ENOSPC",
    75: "EOVERFLOW",
    95: "ENOTSUP",
    108: "ESHUTDOWN",
}
_PASSING = frozenset({5, 12, 108})
"""Errors another try can get past: I/O errors too, they include a storage path that just failed over."""


class BadBytes(Exception):
    """Not what the protocol says; the message tells what was expected and found."""


@dataclass(frozen=True, slots=True)
class OptionReply:
    """The head of a reply to an option."""

    option: int
    kind: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What the server gives. Sizes of 0 were not said."""

    size_bytes: int
    flags: int
    read_only: bool
    structured: bool = False
    allocation: int | None = None
    """The context id of ``base:allocation`` when the server tells where holes are."""
    block_bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of the disk and whether it reads as zeros."""

    offset: int
    length: int
    zero: bool


def errno_name(number: int) -> str:
    return ERRNOS.get(number, f"error {number}")


def errno_passes(number: int) -> bool:
    """Whether trying again can help."""
    return number in _PASSING


def unpack_greeting(raw: bytes) -> int:
    """The handshake flags."""
    if raw[:8] != GREETING_MAGIC:
        raise BadBytes(f"expected NBD's greeting, found {raw[:8]!r}")
    if raw[8:16] == OLD_STYLE_MAGIC:
        raise BadBytes("the server speaks NBD's old style, expected the newstyle")
    if raw[8:16] != OPTION_MAGIC:
        raise BadBytes(f"expected {OPTION_MAGIC!r} in the greeting, found {raw[8:16]!r}")
    flags = int.from_bytes(raw[16:18], "big")
    if not flags & FIXED_NEWSTYLE:
        raise BadBytes(f"expected the fixed newstyle (flag 1), found flags {flags:#x}")
    return flags


def pack_option(option: Option, data: bytes = b"") -> bytes:
    return OPTION_MAGIC + struct.pack(">II", option, len(data)) + data


OPTION_REPLY_BYTES = 20


def unpack_option_reply(raw: bytes, asked: Option) -> OptionReply:
    magic, option, kind, length = struct.unpack(">QIII", raw)
    if magic != REPLY_MAGIC:
        raise BadBytes(f"expected a reply to option {asked.name}, found {raw[:8]!r}")
    if option != asked:
        raise BadBytes(f"expected a reply to option {asked.name}, found one to option {option}")
    if length > OPTION_DATA_MAX:
        raise BadBytes(f"reply to option {asked.name}: expected at most {OPTION_DATA_MAX} bytes, found {length}")
    return OptionReply(option, kind, length)


def pack_export_query(name: bytes, info: int) -> bytes:
    """The data of GO: the name, and the one item asked for."""
    return struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, info)


def pack_meta_query(name: bytes, context: bytes) -> bytes:
    return struct.pack(">I", len(name)) + name + struct.pack(">II", 1, len(context)) + context


def pack_request(command: Command, cookie: int, offset: int = 0, length: int = 0) -> bytes:
    return REQUEST.pack(REQUEST_MAGIC, 0, command, cookie, offset, length)


def unpack_extents(payload: bytes, *, context: int, offset: int, length: int) -> list[Extent]:
    """The extents of a BLOCK_STATUS answer for ``length`` bytes at ``offset``, cut at its end, which it may pass."""
    if len(payload) < 12 or len(payload) % 8 != 4:
        raise BadBytes(f"expected a context and extents of 8 bytes, found {len(payload)} bytes")
    if int.from_bytes(payload[:4], "big") != context:
        raise BadBytes(f"expected extents of context {context}, found {int.from_bytes(payload[:4], 'big')}")
    found: list[Extent] = []
    at, end = offset, offset + length
    for size, flags in struct.iter_unpack(">II", payload[4:]):
        if not size:
            raise BadBytes(f"found an extent without length at byte {at}")
        if at >= end:
            raise BadBytes(f"found extents past the {length} bytes asked for at byte {offset}")
        found.append(Extent(at, min(size, end - at), bool(flags & STATE_ZERO)))
        at += size
    return found
