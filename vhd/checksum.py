"""The checksum of footers, headers and batmaps: the one's complement of the sum of the bytes."""

from __future__ import annotations


def checksum(data: bytes, field_offset: int | None = None) -> int:
    """Sum ``data`` with the four bytes of the checksum field at ``field_offset`` taken as zero; 32 bits."""
    total = sum(data)
    if field_offset is not None:
        total -= sum(data[field_offset : field_offset + 4])
    return ~total & 0xFFFFFFFF
