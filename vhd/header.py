"""The dynamic header: 1024 bytes at the footer's data offset, for dynamic and differencing disks.

off  size  field             value
  0     8  cookie            "cxsparse"
  8     8  data offset       all ones
 16     8  table offset      of the BAT: absolute, a multiple of 512
 24     4  version           0x00010000
 28     4  table entries     at least the blocks of the disk
 32     4  block size        2 MiB (others are valid, this project refuses them)
 36     4  checksum
 40    16  parent uuid       differencing: the parent's footer uuid
 56     4  parent timestamp
 60     4  reserved
 64   512  parent name       UTF-16 big-endian, zero padded
576   192  parent locators   8 entries, see vhd.locator
768   256  reserved
"""

from __future__ import annotations

import struct
import uuid as uuids
from dataclasses import dataclass

from vhd.block import BLOCK_BYTES
from vhd.checksum import checksum
from vhd.errors import Malformed
from vhd.findings import Finding, Severity, errors_of
from vhd.locator import LOCATOR_BYTES, LOCATORS_MAX, Locator, unpack_locator

HEADER_BYTES = 1024
COOKIE = b"cxsparse"
NO_OFFSET = 0xFFFFFFFFFFFFFFFF
HEADER_VERSION = 0x00010000
CHECKSUM_OFFSET = 36
PARENT_NAME_BYTES = 512
ENTRIES_MAX = 1 << 23
"""Refuse larger tables: 16 TiB of 2 MiB blocks, the largest disk a pool has (qcow2), kept as a VHD directory. What a
file can address ends at an eighth of it."""

_LAYOUT = struct.Struct(">8sQQIIII16sII512s192s256s")
assert _LAYOUT.size == HEADER_BYTES
NO_LOCATORS = (Locator(),) * LOCATORS_MAX
NIL = uuids.UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A dynamic header's fields; the defaults are those of a disk without a parent."""

    table_offset: int
    table_entries: int
    block_bytes: int = BLOCK_BYTES
    parent_uuid: uuids.UUID = NIL
    parent_timestamp: int = 0
    parent_name: str = ""
    locators: tuple[Locator, ...] = NO_LOCATORS
    data_offset: int = NO_OFFSET
    version: int = HEADER_VERSION
    reserved1: int = 0
    reserved2: bytes = bytes(256)

    def pack(self) -> bytes:
        """The 1024 bytes, checksum computed. Raises ``ValueError`` when the parent's name does not fit."""
        name = self.parent_name.encode("utf-16-be")
        if len(name) > PARENT_NAME_BYTES:
            raise ValueError(f"parent name {self.parent_name!r} takes {len(name)} bytes, at most 512 fit")
        raw = _LAYOUT.pack(
            COOKIE,
            self.data_offset,
            self.table_offset,
            self.version,
            self.table_entries,
            self.block_bytes,
            0,
            self.parent_uuid.bytes,
            self.parent_timestamp,
            self.reserved1,
            name,
            b"".join(locator.pack() for locator in self.locators),
            self.reserved2,
        )
        return raw[:CHECKSUM_OFFSET] + struct.pack(">I", checksum(raw)) + raw[CHECKSUM_OFFSET + 4 :]


def unpack_header(raw: bytes, name: str) -> Header:
    """Parse a header; raises :class:`Malformed` unless a disk can be read with it."""
    fatal = errors_of(check_header(raw))
    if fatal:
        raise Malformed(name, fatal)
    return _parse(raw)


def _parse(raw: bytes) -> Header:
    (
        _,
        data_offset,
        table_offset,
        version,
        entries,
        block_bytes,
        _,
        parent,
        stamp,
        reserved1,
        text,
        entry,
        rest,
    ) = _LAYOUT.unpack(raw)
    slices = (entry[i : i + LOCATOR_BYTES] for i in range(0, len(entry), LOCATOR_BYTES))
    return Header(
        table_offset=table_offset,
        table_entries=entries,
        block_bytes=block_bytes,
        parent_uuid=uuids.UUID(bytes=parent),
        parent_timestamp=stamp,
        parent_name=_decode_name(text) or "",
        locators=tuple(unpack_locator(piece) for piece in slices),
        data_offset=data_offset,
        version=version,
        reserved1=reserved1,
        reserved2=rest,
    )


def _decode_name(text: bytes) -> str | None:
    end = next((at for at in range(0, len(text), 2) if text[at : at + 2] == b"\0\0"), len(text))
    try:
        return text[:end].decode("utf-16-be")
    except UnicodeDecodeError:
        return None


def check_header(raw: bytes) -> list[Finding]:
    """Complaints about the header alone; those that need the footer or the file are in :mod:`vhd.check`."""
    if len(raw) != HEADER_BYTES:
        return [Finding(code="header-short", message=f"expected {HEADER_BYTES} bytes, found {len(raw)}")]
    if raw[:8] != COOKIE:
        return [Finding(code="header-cookie", message=f"expected {COOKIE!r}, found {raw[:8]!r}")]
    stored, computed = struct.unpack_from(">I", raw, CHECKSUM_OFFSET)[0], checksum(raw, CHECKSUM_OFFSET)
    if stored != computed:
        return [Finding(code="header-checksum", message=f"expected {computed:#010x}, found {stored:#010x}")]
    header = _parse(raw)
    found = _structural(header)

    def complain(code: str, message: str) -> None:
        found.append(Finding(code=code, message=message, severity=Severity.WARNING))

    if header.data_offset != NO_OFFSET:
        complain("header-data-offset", f"expected all ones, found {header.data_offset:#x}")
    if header.reserved1 or any(header.reserved2):
        complain("header-reserved", "expected zeros")
    if _decode_name(raw[64 : 64 + PARENT_NAME_BYTES]) is None:
        complain("header-parent-name", "the parent's name is not UTF-16")
    return found


def _structural(header: Header) -> list[Finding]:
    found: list[Finding] = []
    if header.version != HEADER_VERSION:
        found.append(Finding(code="header-version", message=f"expected 0x10000, found {header.version:#x}"))
    if header.table_offset % 512 or not 0 < header.table_offset < 1 << 41:
        message = f"expected a sector of the file, found {header.table_offset}"
        found.append(Finding(code="header-table-offset", message=message))
    if header.block_bytes != BLOCK_BYTES:
        message = f"expected blocks of {BLOCK_BYTES} bytes, found {header.block_bytes}"
        found.append(Finding(code="header-block-size", message=message))
    if header.table_entries > ENTRIES_MAX:
        message = f"expected at most {ENTRIES_MAX} table entries, found {header.table_entries}"
        found.append(Finding(code="header-table-entries", message=message))
    return found


def check_sizes(header: Header, current_size_bytes: int) -> list[Finding]:
    """The table must have an entry for every block of the disk (Xen Orchestra's and vhd-util's check)."""
    needed = -(-current_size_bytes // header.block_bytes)
    if header.table_entries >= needed:
        return []
    message = f"{needed} blocks of the disk need as many table entries, found {header.table_entries}"
    return [Finding(code="header-table-entries", message=message)]
