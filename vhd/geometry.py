"""Cylinders, heads and sectors per track of a virtual size, by the algorithm of the VHD specification.

All divisions are integer divisions, as in the specification, libvhd and qemu. Xen Orchestra divides in floating
point and rounds the cylinders up (``xo_geometry``), so that its product may exceed the disk; ours never does.
"""

from __future__ import annotations

from typing import NamedTuple

SECTOR_BYTES = 512
MAX_CYLINDERS, MAX_HEADS, MAX_SECTORS = 65535, 16, 255


class Geometry(NamedTuple):
    """Cylinders (u16), heads (u8), sectors per track (u8)."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def size_bytes(self) -> int:
        """Bytes that the geometry addresses: never more than the disk it was computed for."""
        return self.cylinders * self.heads * self.sectors * SECTOR_BYTES


def geometry_of(size_bytes: int) -> Geometry:
    """The geometry of a disk of ``size_bytes`` (source: VHD specification, appendix "CHS Calculation")."""
    total = min(size_bytes // SECTOR_BYTES, MAX_CYLINDERS * MAX_HEADS * MAX_SECTORS)
    if total >= MAX_CYLINDERS * MAX_HEADS * 63:
        sectors, heads = 255, 16
        cylinder_heads = total // sectors
    else:
        sectors = 17
        cylinder_heads = total // sectors
        heads = max(4, (cylinder_heads + 1023) // 1024)
        if cylinder_heads >= heads * 1024 or heads > 16:
            sectors, heads = 31, 16
            cylinder_heads = total // sectors
        if cylinder_heads >= heads * 1024:
            sectors, heads = 63, 16
            cylinder_heads = total // sectors
    return Geometry(cylinder_heads // heads, heads, sectors)


def xo_geometry(size_bytes: int) -> Geometry:
    """The geometry Xen Orchestra writes for ``size_bytes``; only for recognising and testing its files."""
    total: float = min(-(-size_bytes // SECTOR_BYTES), MAX_CYLINDERS * MAX_HEADS * MAX_SECTORS)
    if total >= MAX_CYLINDERS * MAX_HEADS * 63:
        sectors, heads = 255, 16
        cylinder_heads = total / sectors
    else:
        sectors = 17
        cylinder_heads = total / sectors
        heads = max(4, int((cylinder_heads + 1023) // 1024))
        if cylinder_heads >= heads * 1024 or heads > 16:
            sectors, heads = 31, 16
            cylinder_heads = total / sectors
        if cylinder_heads >= heads * 1024:
            sectors, heads = 63, 16
            cylinder_heads = total / sectors
    return Geometry(int(-(-cylinder_heads // heads)), heads, sectors)
