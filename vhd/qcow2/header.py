"""The header of a qcow2 image.

    off  size  field
      0     4  magic                  "QFI\\xfb"
      4     4  version                2 or 3
      8     8  backing file's name    where it lies; 0: none
     16     4  and its length
     20     4  cluster bits           16: clusters of 64 KiB
     24     8  size                   of the disk, bytes
     32     4  encryption             0: none
     36     4  L1 entries
     40     8  L1 offset
     48     8  reference counts       offset of their table
     56     4  and its clusters
     60     4  snapshots              inside the image
     64     8  and their offset
     version 3:
     72     8  incompatible features  1 dirty, 2 corrupt, 4 external data, 8 compression type, 16 extended L2
     80     8  compatible features
     88     8  features that go when an unknowing program writes
     96     4  reference count order  4: 16 bits each
    100     4  header length          104 or more; extensions follow

Refused: what needs another file (a backing file, external data), encryption, and tables of another shape. Snapshots
inside an image do not matter: they are not the disk.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vhd.errors import Malformed, Unsupported
from vhd.findings import Finding
from vhd.header import ENTRIES_MAX

MAGIC = b"QFI\xfb"
SIZE_MAX_BYTES = ENTRIES_MAX << 21
"""The largest disk that is read or written here: what the largest table of a VHD directory holds, 16 TiB."""
L1_ENTRIES_MAX = 1 << 20
"""More than any disk has in clusters of 16 KiB or larger; the bound on memory for whatever a header says."""
CLUSTER_BITS = range(9, 22)

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
V2_BYTES = _V2.size
HEADER_BYTES = V2_BYTES + _V3.size

_CORRUPT, _DIRTY_OR_COMPRESSION_TYPE = 2, 1 | 8
_FEATURES = {4: "an external data file", 16: "extended L2 entries"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Qcow2Header:
    """The fields that matter. ``length``: where what may follow (extensions) begins."""

    version: int = 3
    cluster_bits: int = 16
    size_bytes: int
    l1_entries: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    length: int = HEADER_BYTES

    @property
    def cluster_bytes(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Entries of one L2 table, which fills a cluster."""
        return self.cluster_bytes // 8

    @property
    def l1_entries_needed(self) -> int:
        """Of the L1 table, those that the disk has."""
        return -(-self.size_bytes // (self.cluster_bytes * self.l2_entries))

    def pack(self) -> bytes:
        """The 104 bytes of version 3."""
        first = _V2.pack(
            MAGIC,
            3,
            0,
            0,
            self.cluster_bits,
            self.size_bytes,
            0,
            self.l1_entries,
            self.l1_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            0,
            0,
        )
        return first + _V3.pack(0, 0, 0, 4, HEADER_BYTES)


def unpack_qcow2_header(raw: bytes, name: str) -> Qcow2Header:
    """Parse the first :data:`HEADER_BYTES`. Raises :class:`Malformed` or :class:`Unsupported`."""
    if len(raw) < HEADER_BYTES or raw[:4] != MAGIC:
        raise _wrong(name, "qcow2-magic", f"expected {MAGIC!r}, found {raw[:4]!r}")
    fields = _V2.unpack_from(raw)
    version, backing, _, cluster_bits, size, encryption, l1_entries, l1_offset, counts, count_clusters = fields[1:11]
    if version not in (2, 3):
        raise Unsupported(name, f"qcow2 version {version}")
    if backing:
        raise Unsupported(name, "a backing file")
    if encryption:
        raise Unsupported(name, "encryption")
    if cluster_bits not in CLUSTER_BITS:
        raise _wrong(name, "qcow2-cluster-bits", f"expected 9 to 21, found {cluster_bits}")
    if size > SIZE_MAX_BYTES:
        raise Unsupported(name, f"a disk of {size} bytes (at most {SIZE_MAX_BYTES})")
    header = Qcow2Header(
        version=version,
        cluster_bits=cluster_bits,
        size_bytes=size,
        l1_entries=l1_entries,
        l1_offset=l1_offset,
        refcount_table_offset=counts,
        refcount_table_clusters=count_clusters,
        length=V2_BYTES if version == 2 else _features(raw, name),
    )
    _check_l1(header, name)
    return header


def _features(raw: bytes, name: str) -> int:
    """Refuse features that change what the bytes mean; returns the header's length."""
    incompatible, _, _, _, length = _V3.unpack_from(raw, V2_BYTES)
    if incompatible & _CORRUPT:
        raise _wrong(name, "qcow2-corrupt", "it is marked as corrupt")
    for bit, feature in _FEATURES.items():
        if incompatible & bit:
            raise Unsupported(name, feature)
    unknown = incompatible & ~_DIRTY_OR_COMPRESSION_TYPE
    if unknown:
        raise Unsupported(name, f"features {unknown:#x}")
    if length < HEADER_BYTES or length % 8:
        raise _wrong(name, "qcow2-header-length", f"expected {HEADER_BYTES} or more, found {length}")
    return int(length)


def _check_l1(header: Qcow2Header, name: str) -> None:
    needed = header.l1_entries_needed
    if needed > L1_ENTRIES_MAX:
        raise Unsupported(name, f"an L1 table of {needed} entries (at most {L1_ENTRIES_MAX})")
    if header.l1_entries < needed:
        raise _wrong(name, "qcow2-l1-short", f"expected {needed} L1 entries or more, found {header.l1_entries}")
    if needed and (header.l1_offset % header.cluster_bytes or not 0 < header.l1_offset < 1 << 56):
        raise _wrong(name, "qcow2-l1-offset", f"expected a cluster, found {header.l1_offset}")


def _wrong(name: str, code: str, message: str) -> Malformed:
    return Malformed(name, [Finding(code=code, message=message)])
