from __future__ import annotations

from vhd.checksum import checksum


def test_checksum_is_the_ones_complement_of_the_byte_sum() -> None:
    assert checksum(b"") == 0xFFFFFFFF
    assert checksum(b"\x01\x02") == 0xFFFFFFFC
    assert checksum(b"\xff" * 1024) == 0xFFFFFFFF - 255 * 1024


def test_the_field_itself_counts_as_zero() -> None:
    assert checksum(b"\x01abcd\x02", 1) == checksum(b"\x01\0\0\0\0\x02")
