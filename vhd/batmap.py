"""Xen's batmap: one bit per block that says whether all of its sectors are present. Only in files of creator ``tap``.

Its header is the sector after the padded table:

off  size  field
  0     8  cookie      "tdbatmap"
  8     8  offset      of the map, bytes
 16     4  size        of the map, sectors
 20     4  version     0x00010002
 24     4  checksum    one's complement of the sum of the map's bytes
 28     1  marker
 29    65  key hash    1 byte "is set", 32 bytes nonce, 32 bytes hash (of an encryption key)
 94   418  zeros

The map counts its bits from the most significant. It only ever saves reading a bitmap: nothing here relies on it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vhd.bat import Bat, padded_bytes
from vhd.checksum import checksum
from vhd.findings import Finding, Severity
from vhd.layout import SECTOR_BYTES
from vhd.storage import read_exactly

if TYPE_CHECKING:
    from vhd.footer import Footer
    from vhd.header import Header
    from vhd.storage import ReadableFile

COOKIE = b"tdbatmap"
BATMAP_VERSION = 0x00010002
MAP_MAX_SECTORS = 4096
"""A map of a 2040 GiB disk has 256 sectors."""
_LAYOUT = struct.Struct(">8sQIIIB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batmap:
    """A batmap's header; the map itself lies at ``offset``."""

    offset: int
    size_sectors: int
    version: int
    checksum: int
    marker: int

    @property
    def end(self) -> int:
        return self.offset + self.size_sectors * SECTOR_BYTES


def batmap_offset(header: Header) -> int:
    """Where a batmap's header would lie."""
    return header.table_offset + padded_bytes(header.table_entries)


def read_batmap(file: ReadableFile, footer: Footer, header: Header) -> Batmap | None:
    """The batmap's header if the file is of a creator that has one and its cookie is there."""
    if footer.creator != b"tap\0":
        return None
    raw = read_exactly(file, batmap_offset(header), SECTOR_BYTES)
    if len(raw) < SECTOR_BYTES or not raw.startswith(COOKIE):
        return None
    _, offset, size, version, stored, marker = _LAYOUT.unpack_from(raw)
    return Batmap(offset=offset, size_sectors=size, version=version, checksum=stored, marker=marker)


def check_batmap(file: ReadableFile, footer: Footer, header: Header, bat: Bat) -> list[Finding]:
    """What ``vhd-util check`` complains about. Warnings only: no reader here needs the batmap."""
    batmap = read_batmap(file, footer, header)
    if batmap is None:
        if footer.creator == b"tap\0" and footer.creator_version >= 0x00010002:
            return [_warn("batmap-missing", "files of creator tap from version 1.2 on must have one")]
        return []
    found: list[Finding] = []
    if batmap.version != BATMAP_VERSION:
        found.append(_warn("batmap-version", f"expected {BATMAP_VERSION:#x}, found {batmap.version:#x}"))
    low = batmap_offset(header) + SECTOR_BYTES
    if batmap.offset < low or batmap.offset % SECTOR_BYTES or batmap.end > file.size():
        message = f"expected between byte {low} and the file's end, found {batmap.offset} to {batmap.end}"
        return [*found, _warn("batmap-offset", message)]
    if batmap.size_sectors > MAP_MAX_SECTORS or batmap.size_sectors * SECTOR_BYTES * 8 < header.table_entries:
        message = f"{header.table_entries} blocks need as many bits, found {batmap.size_sectors} sectors"
        return [*found, _warn("batmap-size", message)]
    raw = read_exactly(file, batmap.offset, batmap.size_sectors * SECTOR_BYTES)
    return [*found, *_check_map(batmap, raw, footer, bat)]


def _check_map(batmap: Batmap, raw: bytes, footer: Footer, bat: Bat) -> list[Finding]:
    summed = -(-(footer.current_size_bytes >> 24) // SECTOR_BYTES) * SECTOR_BYTES
    sums = {checksum(raw[:summed]), checksum(raw)}
    if batmap.checksum not in sums:
        expected = checksum(raw[:summed])
        return [_warn("batmap-checksum", f"expected {expected:#010x}, found {batmap.checksum:#010x}")]
    for index in set_bits(raw):
        if not bat.has(index):
            return [_warn("batmap-full-hole", f"block {index} is full by the batmap, but not allocated")]
    return []


def set_bits(raw: bytes) -> list[int]:
    """Numbers of the bits that are set, ascending."""
    found: list[int] = []
    for at, byte in enumerate(raw):
        if byte:
            found += [at * 8 + bit for bit in range(8) if byte & (0x80 >> bit)]
    return found


def _warn(code: str, message: str) -> Finding:
    return Finding(code=code, message=message, severity=Severity.WARNING)
