"""The footer: 512 bytes, last sector of every VHD, with a copy at offset 0 of dynamic and differencing ones.

    off  size  field             value
      0     8  cookie            "conectix"
      8     4  features          2 (reserved bit always set) | 1 temporary
     12     4  version           0x00010000
     16     8  data offset       of the dynamic header (512); all ones for a fixed disk
     24     4  timestamp         seconds since 2000-01-01 (Xen Orchestra: Unix seconds)
     28     4  creator           "win ", "tap\\0", "caml", "qemu", "xo  " ...
     32     4  creator version
     36     4  creator OS        "Wi2k", "Mac ", 0
     40     8  original size     bytes
     48     8  current size      bytes, multiple of 512
     56     4  geometry          u16 cylinders, u8 heads, u8 sectors
     60     4  type              2 fixed, 3 dynamic, 4 differencing
     64     4  checksum          one's complement of the byte sum, this field as 0
     68    16  uuid
     84     1  saved state       0 or 1
     85     1  hidden            0 or 1 (Xen: an internal node of a tree)
     86   426  reserved          zeros
All integers big-endian. Source: VHD specification 1.0; Xen's reading of it in facts about ``vhd-util check``.
"""

from __future__ import annotations

import struct
import uuid as uuids
from dataclasses import dataclass, replace
from enum import IntEnum

from vhd.checksum import checksum
from vhd.errors import Malformed
from vhd.findings import Finding, Severity, errors_of
from vhd.geometry import Geometry, geometry_of

FOOTER_BYTES = 512
COOKIE = b"conectix"
NO_OFFSET = 0xFFFFFFFFFFFFFFFF
FORMAT_VERSION = 0x00010000
CHECKSUM_OFFSET = 64
CLOCK_TOLERANCE_S = 1800

_LAYOUT = struct.Struct(">8sIIQI4sI4sQQHBBII16sBB426s")
assert _LAYOUT.size == FOOTER_BYTES


class DiskType(IntEnum):
    """The three types anybody writes; 0, 1, 5 and 6 are reserved."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """A footer's fields. The defaults are what this project writes (see ARCHITECTURE.md, invariant 8)."""

    current_size_bytes: int
    original_size_bytes: int
    disk_type: int
    uuid: uuids.UUID
    geometry: Geometry
    timestamp: int
    data_offset: int = 512
    features: int = 2
    version: int = FORMAT_VERSION
    creator: bytes = b"win "
    creator_version: int = 0x00060001
    creator_os: bytes = b"Wi2k"
    saved_state: int = 0
    hidden: int = 0
    reserved: bytes = bytes(426)

    def pack(self) -> bytes:
        """The 512 bytes, checksum computed."""
        raw = _LAYOUT.pack(
            COOKIE,
            self.features,
            self.version,
            self.data_offset,
            self.timestamp,
            self.creator,
            self.creator_version,
            self.creator_os,
            self.original_size_bytes,
            self.current_size_bytes,
            *self.geometry,
            self.disk_type,
            0,
            self.uuid.bytes,
            self.saved_state,
            self.hidden,
            self.reserved,
        )
        return raw[:CHECKSUM_OFFSET] + struct.pack(">I", checksum(raw)) + raw[CHECKSUM_OFFSET + 4 :]

    @property
    def differencing(self) -> bool:
        return self.disk_type == DiskType.DIFFERENCING

    def with_size(self, size_bytes: int) -> Footer:
        """The same disk at another size, geometry included."""
        return replace(self, current_size_bytes=size_bytes, geometry=geometry_of(size_bytes))


def new_footer(*, size_bytes: int, disk_type: DiskType, uuid: uuids.UUID, timestamp: int) -> Footer:
    """A footer as this project writes it. ``timestamp`` counts from 2000 (:func:`vhd.timestamps.to_vhd`)."""
    return Footer(
        current_size_bytes=size_bytes,
        original_size_bytes=size_bytes,
        disk_type=disk_type,
        uuid=uuid,
        geometry=geometry_of(size_bytes),
        timestamp=timestamp,
        data_offset=NO_OFFSET if disk_type == DiskType.FIXED else FOOTER_BYTES,
    )


def unpack_footer(raw: bytes, name: str) -> Footer:
    """Parse a footer; raises :class:`Malformed` unless a disk can be read with it.

    Complaints that only some readers have (timestamps, geometry, reserved bytes) do not stop it: ask
    :func:`check_footer` for them.
    """
    fatal = errors_of(check_footer(raw))
    if fatal:
        raise Malformed(name, fatal)
    return _parse(raw)


def _parse(raw: bytes) -> Footer:
    fields = _LAYOUT.unpack(raw)
    (_, features, version, data_offset, timestamp, creator, creator_version, creator_os) = fields[:8]
    (original, current, cylinders, heads, sectors, disk_type, _, uuid, saved, hidden, reserved) = fields[8:]
    return Footer(
        current_size_bytes=current,
        original_size_bytes=original,
        disk_type=disk_type,
        uuid=uuids.UUID(bytes=uuid),
        geometry=Geometry(cylinders, heads, sectors),
        timestamp=timestamp,
        data_offset=data_offset,
        features=features,
        version=version,
        creator=creator,
        creator_version=creator_version,
        creator_os=creator_os,
        saved_state=saved,
        hidden=hidden,
        reserved=reserved,
    )


def check_footer(raw: bytes, *, now_vhd_s: int | None = None) -> list[Finding]:
    """Every complaint ``vhd-util check`` would have, and the sizes nobody can read. Order as vhd-util's.

    ``now_vhd_s``: the present in the 2000 epoch, for the check that no timestamp lies in the future.
    """
    if len(raw) != FOOTER_BYTES:
        return [Finding(code="footer-short", message=f"expected {FOOTER_BYTES} bytes, found {len(raw)}")]
    if raw[:8] != COOKIE:
        return [Finding(code="footer-cookie", message=f"expected {COOKIE!r}, found {raw[:8]!r}")]
    stored, computed = struct.unpack_from(">I", raw, CHECKSUM_OFFSET)[0], checksum(raw, CHECKSUM_OFFSET)
    if stored != computed and not _old_tap_hidden(raw, stored):
        return [Finding(code="footer-checksum", message=f"expected {computed:#010x}, found {stored:#010x}")]
    footer = _parse(raw)
    return [*_structural(footer), *_complaints(footer, now_vhd_s)]


def _old_tap_hidden(raw: bytes, stored: int) -> bool:
    """Old blktap set the hidden byte without updating the checksum."""
    return raw[28:32] == b"tap\0" and checksum(raw[:85] + b"\0" + raw[86:], CHECKSUM_OFFSET) == stored


def _structural(footer: Footer) -> list[Finding]:
    found: list[Finding] = []
    if footer.version != FORMAT_VERSION:
        found.append(Finding(code="footer-version", message=f"expected 0x10000, found {footer.version:#x}"))
    if footer.disk_type not in tuple(DiskType):
        found.append(Finding(code="footer-type", message=f"expected 2, 3 or 4, found {footer.disk_type}"))
    elif footer.disk_type == DiskType.FIXED:
        if footer.data_offset != NO_OFFSET:
            message = f"a fixed disk has no header, found data offset {footer.data_offset}"
            found.append(Finding(code="footer-data-offset", message=message))
    elif footer.data_offset % 512 or footer.data_offset < FOOTER_BYTES or footer.data_offset > 1 << 41:
        message = f"expected a sector after the footer's copy, found {footer.data_offset}"
        found.append(Finding(code="footer-data-offset", message=message))
    if footer.current_size_bytes % 512 or footer.current_size_bytes > 1 << 60:
        message = f"expected a multiple of 512, found {footer.current_size_bytes}"
        found.append(Finding(code="footer-size", message=message))
    return found


def _complaints(footer: Footer, now_vhd_s: int | None) -> list[Finding]:
    found: list[Finding] = []

    def complain(code: str, message: str) -> None:
        found.append(Finding(code=code, message=message, severity=Severity.WARNING))

    if not footer.features & 2 or footer.features & ~3:
        complain("footer-features", f"expected 2 or 3, found {footer.features:#x}")
    if now_vhd_s is not None and footer.timestamp > now_vhd_s + CLOCK_TOLERANCE_S:
        complain("footer-timestamp", f"{footer.timestamp} lies in the future (now {now_vhd_s})")
    if footer.creator == b"tap\0" and footer.creator_version > 0x00010003:
        complain("footer-creator-version", f"blktap up to 0x10003, found {footer.creator_version:#x}")
    allowed = geometry_of(footer.current_size_bytes)
    if _packed(footer.geometry) > _packed(allowed):
        complain("footer-geometry", f"expected at most {tuple(allowed)}, found {tuple(footer.geometry)}")
    if footer.original_size_bytes > footer.current_size_bytes:
        message = f"original size {footer.original_size_bytes} exceeds current {footer.current_size_bytes}"
        complain("footer-original-size", message)
    if footer.saved_state not in (0, 1):
        complain("footer-saved-state", f"expected 0 or 1, found {footer.saved_state}")
    if footer.hidden not in (0, 1):
        complain("footer-hidden", f"expected 0 or 1, found {footer.hidden}")
    if any(footer.reserved):
        complain("footer-reserved", "expected zeros")
    if footer.uuid.int == 0:
        complain("footer-uuid", "expected a uuid, found zeros")
    return found


def _packed(geometry: Geometry) -> int:
    return geometry.cylinders << 16 | geometry.heads << 8 | geometry.sectors
