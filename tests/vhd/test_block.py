from __future__ import annotations

import ctypes
import queue
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.block import (
    ALIGN_BYTES,
    BITMAP_BYTES,
    BLOCK_BYTES,
    EMPTY_BITMAP,
    FULL_BITMAP,
    SECTORS_PER_BLOCK,
    SLOT_BYTES,
    BlockBuffer,
    BufferPool,
    bitmap_of,
    blank_absent,
    blank_past_end,
    runs,
    union,
)

if TYPE_CHECKING:
    from vhd.block import Bitmap


def test_a_buffer_is_one_aligned_slot() -> None:
    buffer = BlockBuffer()
    assert len(buffer.slot) == SLOT_BYTES == ALIGN_BYTES + BLOCK_BYTES
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer.slot)) % 4096 == 0
    buffer.bitmap[:] = b"b" * BITMAP_BYTES
    buffer.data[:3] = b"abc"
    assert bytes(buffer.slot[: ALIGN_BYTES - BITMAP_BYTES]).strip(b"\0") == b""
    assert bytes(buffer.slot[ALIGN_BYTES - BITMAP_BYTES : ALIGN_BYTES + 3]) == b"b" * BITMAP_BYTES + b"abc"
    assert bytes(buffer.stored[: BITMAP_BYTES + 3]) == b"b" * BITMAP_BYTES + b"abc"
    assert len(buffer.stored) == BITMAP_BYTES + BLOCK_BYTES


def test_a_pool_bounds_what_is_in_memory() -> None:
    pool = BufferPool(2)
    one, other = pool.acquire(), pool.acquire()
    assert one is not other
    with pytest.raises(queue.Empty):
        pool.acquire(timeout_s=0)
    pool.release(one)
    assert pool.acquire() is one
    with pytest.raises(ValueError, match="at least one buffer"):
        BufferPool(0)


def test_bits_count_from_the_most_significant() -> None:
    assert runs(b"\x80" + bytes(511)) == [(0, 1)]
    assert runs(b"\x01\x80" + bytes(510)) == [(7, 2)]
    assert runs(bytes(511) + b"\x01") == [(4095, 1)]


def test_full_and_empty() -> None:
    assert runs(None) == runs(FULL_BITMAP) == [(0, SECTORS_PER_BLOCK)]
    assert runs(None, present=False) == runs(FULL_BITMAP, present=False) == []
    assert runs(EMPTY_BITMAP) == []
    assert runs(EMPTY_BITMAP, present=False) == [(0, SECTORS_PER_BLOCK)]
    assert bitmap_of(FULL_BITMAP) is None
    assert bitmap_of(memoryview(FULL_BITMAP)) is None
    assert bitmap_of(memoryview(EMPTY_BITMAP)) == EMPTY_BITMAP


def drawn(pieces: list[tuple[int, int]]) -> bytes:
    bits = bytearray(SECTORS_PER_BLOCK)
    for first, count in pieces:
        bits[first : first + count] = b"\1" * len(bits[first : first + count])
    return int("".join(map(str, bits)), 2).to_bytes(BITMAP_BYTES, "big")


bitmaps = st.one_of(
    st.just(None),
    st.lists(st.tuples(st.integers(0, 4095), st.integers(1, 900)), max_size=12).map(lambda p: bitmap_of(drawn(p))),
    st.binary(min_size=BITMAP_BYTES, max_size=BITMAP_BYTES).map(bitmap_of),
)


def bits_of(bitmap: Bitmap) -> list[bool]:
    raw = FULL_BITMAP if bitmap is None else bitmap
    return [bool(raw[bit >> 3] & (0x80 >> (bit & 7))) for bit in range(SECTORS_PER_BLOCK)]


@given(bitmaps)
def test_runs_are_maximal_ascending_and_exact(bitmap: Bitmap) -> None:
    bits = bits_of(bitmap)
    for present in (True, False):
        found = runs(bitmap, present=present)
        covered = [False] * SECTORS_PER_BLOCK
        last_end = -1
        for first, count in found:
            assert count > 0
            assert first > last_end
            covered[first : first + count] = [True] * count
            last_end = first + count
        assert covered == [bit is present for bit in bits]


@given(bitmaps, bitmaps)
def test_union_has_the_sectors_of_either(one: Bitmap, other: Bitmap) -> None:
    expected = [a or b for a, b in zip(bits_of(one), bits_of(other), strict=True)]
    assert bits_of(union(one, other)) == expected
    if all(expected):
        assert union(one, other) is None


@given(bitmaps)
def test_absent_sectors_are_blanked(bitmap: Bitmap) -> None:
    buffer = BlockBuffer()
    buffer.data[:] = b"x" * BLOCK_BYTES
    blank_absent(buffer, bitmap)
    expected = [0x78 if bit else 0 for bit in bits_of(bitmap)]
    assert list(buffer.data[::512]) == list(buffer.data[511::512]) == expected


@pytest.mark.parametrize(("index", "size_bytes", "kept"), [(0, 512, 512), (1, 512, 0), (0, BLOCK_BYTES, None)])
def test_what_lies_past_the_end_is_blanked(index: int, size_bytes: int, kept: int | None) -> None:
    buffer = BlockBuffer()
    buffer.data[:] = b"x" * BLOCK_BYTES
    blank_past_end(buffer, index, size_bytes)
    assert bytes(buffer.data).rstrip(b"\0") == b"x" * (BLOCK_BYTES if kept is None else kept)
