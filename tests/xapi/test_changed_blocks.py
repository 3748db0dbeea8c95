from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.block import BLOCK_BYTES, SECTOR_BYTES, runs
from xobackup.xapi.changed_blocks import RANGE_BYTES, ChangedBlocks
from xobackup.xapi.errors import ProtocolError

SIZE = 3 * BLOCK_BYTES


def decode(raw: bytes, size: int = SIZE) -> ChangedBlocks:
    return ChangedBlocks.decode(base64.b64encode(raw).decode(), virtual_size_bytes=size)


def numbers(changes: ChangedBlocks) -> list[int]:
    count = -(-changes.virtual_size_bytes // RANGE_BYTES)
    return [number for number in range(count) if changes.is_changed(number)]


def test_the_most_significant_bit_is_the_first_range() -> None:
    changes = decode(bytes([0x80, 0, 0, 0x01, 0, 0, 0, 0, 0x40, 0, 0, 0]))
    assert numbers(changes) == [0, 31, 65]
    assert changes.block_indexes() == [0, 2]
    assert changes.changed_bytes == 3 * RANGE_BYTES


def test_a_blocks_bitmap_has_128_sectors_for_each_range() -> None:
    changes = decode(bytes([0xA0, 0, 0, 1]) + b"\xff" * 4)
    assert runs(changes.bitmap(0)) == [(0, 128), (256, 128), (3968, 128)]
    assert changes.bitmap(1) is None, "all of it"
    assert runs(changes.bitmap(2)) == []


def test_a_bitmap_may_be_longer_than_the_disk() -> None:
    assert numbers(decode(b"\0" * 12 + b"\xff" * 5)) == []
    odd = BLOCK_BYTES + RANGE_BYTES + 512
    changes = decode(b"\xff" * 9, odd)
    assert numbers(changes) == list(range(34)) and changes.block_indexes() == [0, 1]
    assert len(changes.bits) == 8 and changes.changed_bytes == odd


def test_a_bitmap_may_be_shorter_the_rest_is_unchanged() -> None:
    assert decode(b"\x01").block_indexes() == [0]
    assert decode(b"").block_indexes() == []
    assert len(decode(b"").bits) == 12


def test_white_space_in_base64_is_nothing() -> None:
    assert numbers(ChangedBlocks.decode("gAAA\nAA==\r\n", virtual_size_bytes=SIZE)) == [0]


@pytest.mark.parametrize("found", [None, 3, [], "no base64!", "AAA", "ÄÖ=="])
def test_what_is_no_bitmap_is_told(found: object) -> None:
    with pytest.raises(ProtocolError, match="expected a bitmap in base64"):
        ChangedBlocks.decode(found, virtual_size_bytes=SIZE)


def test_a_union_has_the_larger_size() -> None:
    small = ChangedBlocks.of_ranges([1], virtual_size_bytes=BLOCK_BYTES)
    large = ChangedBlocks.of_ranges([2, 70], virtual_size_bytes=SIZE)
    for merged in (small.union(large), large.union(small)):
        assert numbers(merged) == [1, 2, 70] and merged.virtual_size_bytes == SIZE


@given(st.integers(1, 40 * BLOCK_BYTES // 4096), st.sets(st.integers(0, 40 * 32 - 1)), st.integers(-20, 20))
def test_ranges_come_back_as_they_were(pages: int, ranges: set[int], longer: int) -> None:
    size = pages * 4096
    count = -(-size // RANGE_BYTES)
    raw = bytearray(40 * 4)
    for number in ranges:
        raw[number >> 3] |= 0x80 >> (number & 7)
    kept = max(0, -(-count // 8) + longer)
    changes = decode(bytes(raw[:kept]), size)
    expected = sorted(number for number in ranges if number < min(count, kept * 8))
    assert numbers(changes) == expected
    assert changes.block_indexes() == sorted({number // 32 for number in expected})
    assert changes.changed_bytes == sum(min(RANGE_BYTES, size - number * RANGE_BYTES) for number in expected)
    for index in changes.block_indexes():
        bitmap = changes.bitmap(index)
        here = sum(1 for number in expected if number // 32 == index)
        assert (bitmap is None) == (here == min(32, count - index * 32)), "whole: all that the disk has of it"
        sectors = sum(sector_count for _first, sector_count in runs(bitmap)) if bitmap is not None else 0
        assert bitmap is None or sectors * SECTOR_BYTES == RANGE_BYTES * here
        assert changes.bytes_in(index) == RANGE_BYTES * here
        assert changes.widened([index]).bitmap(index) is None
    assert ChangedBlocks.of_ranges(expected, virtual_size_bytes=size) == changes
