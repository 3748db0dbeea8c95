"""The bit table of VHD directories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.bitbat import BitBat

SETS = st.integers(1, 400).flatmap(lambda entries: st.tuples(st.just(entries), st.sets(st.integers(0, entries - 1))))


def test_bits_are_stored_most_significant_first_in_one_byte_an_entry() -> None:
    raw = BitBat(10, [0, 7, 8]).pack()
    assert raw == bytes([0b10000001, 0b10000000]) + bytes(8)


@given(case=SETS)
def test_packing_and_unpacking_keeps_the_set(case: tuple[int, set[int]]) -> None:
    entries, blocks = case
    table = BitBat.unpack(BitBat(entries, blocks).pack(), entries)
    assert table.allocated() == sorted(blocks)
    assert len(table) == entries
    assert bool(table) == bool(blocks)
    assert all(table.has(index) == (index in blocks) for index in range(entries + 9))


@given(case=SETS, more=st.integers(0, 100))
def test_growing_keeps_the_set_and_adds_room(case: tuple[int, set[int]], more: int) -> None:
    entries, blocks = case
    table = BitBat(entries, blocks)
    table.grow(entries + more)
    assert table.allocated() == sorted(blocks)
    assert len(table.pack()) == entries + more
    if more:
        table.add(entries + more - 1)
        assert table.has(entries + more - 1)
    table.grow(1)
    assert len(table) == entries + more


def test_bits_past_the_entries_do_not_count_and_discarded_ones_are_gone() -> None:
    table = BitBat.unpack(b"\xff\xff", 11)
    assert table.allocated() == list(range(11))
    table.discard(3)
    assert not table.has(3)


def test_a_short_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 2 bytes, found 1"):
        BitBat.unpack(b"\xff", 9)


def test_a_table_of_a_million_entries_is_scanned_where_bits_are() -> None:
    blocks = [0, 32767, 32768, 999_999]
    assert BitBat(1_000_000, blocks).allocated() == blocks
