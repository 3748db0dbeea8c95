from __future__ import annotations

import sys
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.bat import UNALLOCATED, Bat, padded_bytes

entries = st.lists(st.sampled_from([UNALLOCATED, 0, 5, 0x01020304]), max_size=40)


def test_entries_are_big_endian_and_padded_with_ones() -> None:
    bat = Bat.empty(3)
    bat[1] = 0x01020304
    assert bat.pack() == b"\xff" * 4 + b"\1\2\3\4" + b"\xff" * 504
    assert Bat.unpack(bat.pack(), 3)[1] == 0x01020304
    assert bat.pack_range(1, 1) == b"\1\2\3\4"
    assert len(bat) == 3


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 512), (128, 512), (129, 1024), (1_044_480, 4_177_920)])
def test_a_table_takes_whole_sectors(count: int, expected: int) -> None:
    assert padded_bytes(count) == expected == len(Bat.empty(count).pack())


def test_a_table_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 16 bytes, found 12"):
        Bat.unpack(bytes(12), 4)


def test_growing_adds_holes_and_never_shrinks() -> None:
    bat = Bat.unpack(b"\0\0\0\7", 1)
    bat.grow(3)
    assert [bat[index] for index in range(3)] == [7, UNALLOCATED, UNALLOCATED]
    bat.grow(1)
    assert len(bat) == 3


def test_blocks_past_the_table_are_not_allocated() -> None:
    bat = Bat.unpack(bytes(4), 1)
    assert bat.has(0)
    assert not bat.has(1)


def test_a_strided_table() -> None:
    bat = Bat.strided(3, 4096)
    assert [bat[index] for index in range(3)] == [0, 4096, 8192]
    assert len(Bat.strided(0, 4096)) == 0
    assert Bat.strided(1 << 20, 4096)[(1 << 20) - 1] == (1 << 32) - 4096


@given(st.integers(0, 3000), st.dictionaries(st.integers(0, 2999), st.integers(0, UNALLOCATED - 1), max_size=20))
def test_allocated_blocks_are_found_in_any_stretch(count: int, places: dict[int, int]) -> None:
    bat = Bat.empty(count)
    kept = {index: sector for index, sector in places.items() if index < count}
    for index, sector in kept.items():
        bat[index] = sector
    assert bat.allocated() == sorted(kept)
    assert list(bat.sectors()) == [kept[index] for index in sorted(kept)]
    for index, sector in kept.items():
        assert bat[bat.index_of(sector)] == sector
        assert bat.has(index)


def test_index_of_looks_on_after_a_block() -> None:
    bat = Bat.strided(2, 0x100)
    bat[1] = 0
    assert bat.index_of(0) == 0
    assert bat.index_of(0, after=0) == 1
    with pytest.raises(ValueError):
        bat.index_of(0, after=1)


@given(entries)
def test_pack_and_unpack_are_inverse(values: list[int]) -> None:
    bat = Bat.empty(len(values))
    for index, value in enumerate(values):
        bat[index] = value
    assert Bat.unpack(bat.pack(), len(values)).pack() == bat.pack()


def test_a_big_endian_machine_swaps_nothing() -> None:
    with mock.patch.object(sys, "byteorder", "big"):
        bat = Bat.unpack(b"\1\0\0\0", 1)
        assert bat.pack_range(0, 1) == b"\1\0\0\0"
    swapped = int.from_bytes(b"\1\0\0\0", sys.byteorder)
    assert bat[0] == swapped
