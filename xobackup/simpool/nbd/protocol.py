"""The numbers of the NBD protocol that a host uses, and its messages as bytes (all integers big-endian).

greeting      u64 "NBDMAGIC"  u64 "IHAVEOPT"  u16 flags;  client: u32 flags
option        u64 "IHAVEOPT"  u32 option  u32 length  data
option reply  u64 0x3e889045565a9  u32 option  u32 kind  u32 length  data
export        u64 size  u16 flags  [124 zeros unless NO_ZEROES was agreed]
request       u32 0x25609513  u16 flags  u16 kind  u64 handle  u64 offset  u32 length  [data of a write]
reply         u32 0x67446698  u32 error  u64 handle  [data of a read]
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

OPTION_MAGIC = b"IHAVEOPT"
GREETING = b"NBDMAGIC" + OPTION_MAGIC + struct.pack(">H", 3)
"""Flags: fixed newstyle, no zeroes."""
NO_ZEROES = 2
OPTION_HEAD = struct.Struct(">8sII")
REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
REPLY = struct.Struct(">IIQ")
REPLY_MAGIC = 0x67446698
OPTION_REPLY_MAGIC = 0x3E889045565A9

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS = 1, 2, 3, 5
REP_ACK = 1
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQUIRED = (0x80000000 | number for number in (1, 2, 3, 5))
CMD_READ, CMD_WRITE, CMD_DISC = 0, 1, 2
EXPORT_FLAGS = 3
"""Has flags, read-only."""
EPERM, EIO, EINVAL = 1, 5, 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the transmission phase."""

    kind: int
    handle: int
    offset: int
    length: int


def option_reply(option: int, kind: int) -> bytes:
    return struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, 0)


def export_reply(size_bytes: int, *, zeroes: bool) -> bytes:
    return struct.pack(">QH", size_bytes, EXPORT_FLAGS) + bytes(124 if zeroes else 0)


def answer(request: Request, error: int = 0) -> bytes:
    return REPLY.pack(REPLY_MAGIC, error, request.handle)
