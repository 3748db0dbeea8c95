import uuid as uuids

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from vhd.block import Block, BlockBuffer
from xobackup.repository.digests import (
    DigestRecorder,
    Digests,
    Entry,
    MemberBlocks,
    compare,
    entry_of,
    merged_digests,
)
from xobackup.repository.errors import BadDigests

UUID = uuids.UUID("22222222-0000-4000-8000-000000000050")
FIRST_SECTOR = b"\x80" + bytes(511)
BUFFER = BlockBuffer()


def filled(byte):
    BUFFER.data[:] = bytes([byte]) * len(BUFFER.data)
    return BUFFER


def whole(text):
    return Entry(text.encode().ljust(16, b"."), None)


def partial(text):
    return Entry(text.encode().ljust(16, b"."), b"bitmap" + b"\0\0")


def digests_of(entries, uuid=UUID):
    recorder = DigestRecorder()
    for index, entry in entries.items():
        recorder.add(index, entry)
    return recorder.finish(uuid)


def contents(digests):
    return {index: digests.get(index) for index in digests.indexes()}


ENTRY = st.builds(Entry, st.binary(min_size=16, max_size=16), st.none() | st.binary(min_size=8, max_size=8))


@given(st.dictionaries(st.integers(0, 2**22), ENTRY, max_size=40))
def test_what_is_packed_comes_back(entries):
    packed = digests_of(entries).pack()
    found = Digests.unpack(packed, "d")
    assert (contents(found), found.uuid, len(found)) == (entries, UUID, len(entries))
    assert found.get(2**23) is None


@given(st.binary(max_size=200))
def test_any_bytes_give_only_our_error(raw):
    with pytest.raises(BadDigests):
        Digests.unpack(raw, "d")


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_flipped_byte_is_found(place, change):
    raw = bytearray(digests_of({1: whole("a"), 5: partial("b"), 9: whole("c")}).pack())
    raw[place % len(raw)] ^= change
    with pytest.raises(BadDigests):
        Digests.unpack(bytes(raw), "d")


def test_a_whole_block_is_digested_as_its_data():
    assert entry_of(None, filled(7).data) == Entry(xxhash.xxh3_128_digest(bytes([7]) * (2 << 20)), None)


def test_absent_sectors_count_as_zeros_whatever_is_there():
    some = entry_of(FIRST_SECTOR, filled(7).data)
    BUFFER.data[512:] = bytes(len(BUFFER.data) - 512)
    assert entry_of(FIRST_SECTOR, BUFFER.data) == some
    assert some.digest == xxhash.xxh3_128_digest(BUFFER.data)
    assert some.bitmap == xxhash.xxh3_64_digest(FIRST_SECTOR)


def test_the_recorder_takes_any_order_and_the_last_of_an_index():
    found = digests_of({9: whole("c"), 1: whole("a")})
    assert list(found.indexes()) == [1, 9]
    recorder = DigestRecorder()
    recorder.add(3, whole("old"))
    recorder.add(2, whole("x"))
    recorder.add(3, whole("new"))
    recorder.add_block(Block(index=0, bitmap=None, buffer=filled(1)))
    found = recorder.finish(UUID)
    assert found.get(3) == whole("new") and len(found) == 3 and found.get(0) is not None


def test_in_a_merge_the_last_disk_with_the_block_gives_the_digest():
    root = MemberBlocks(
        indexes=lambda: [0, 1, 2], digests=digests_of({0: whole("r0"), 1: whole("r1"), 2: whole("r2")})
    )
    middle = MemberBlocks(indexes=lambda: [1, 3], digests=digests_of({1: whole("m1"), 3: whole("m3")}))
    child = MemberBlocks(indexes=lambda: [2], digests=digests_of({2: whole("c2")}))
    merged = merged_digests([root, middle, child], UUID, lambda index: pytest.fail("nothing is partial"))
    assert contents(merged) == {0: whole("r0"), 1: whole("m1"), 2: whole("c2"), 3: whole("m3")}


def test_an_older_digest_never_stands_for_a_newer_block_without_one():
    root = MemberBlocks(indexes=lambda: [0, 1], digests=digests_of({0: whole("r0"), 1: whole("r1")}))
    child = MemberBlocks(indexes=lambda: [1], digests=None)
    assert contents(merged_digests([root, child], UUID, lambda index: None)) == {0: whole("r0")}


def test_partial_winners_are_computed_anew():
    root = MemberBlocks(indexes=lambda: [0, 1], digests=digests_of({0: whole("r0"), 1: whole("r1")}))
    child = MemberBlocks(indexes=lambda: [1, 2], digests=digests_of({1: partial("c1"), 2: partial("c2")}))
    merged = merged_digests([root, child], UUID, lambda index: whole("new") if index == 1 else None)
    assert contents(merged) == {0: whole("r0"), 1: whole("new")}


def test_comparing_tells_damage_from_a_merged_block():
    entry = entry_of(None, filled(1).data)
    assert compare(entry, None, filled(1)) == (True, True)
    assert compare(entry, None, filled(2)) == (True, False)
    part = entry_of(FIRST_SECTOR, filled(1).data)
    as_read = filled(1)
    as_read.data[512:] = bytes(len(as_read.data) - 512)
    assert compare(part, FIRST_SECTOR, as_read) == (True, True)
    assert not compare(part, None, as_read).comparable
    assert compare(part, FIRST_SECTOR, filled(3)) == (True, False)
    assert compare(part, None, filled(1)).comparable is False
    assert compare(entry, FIRST_SECTOR, filled(2)) == (True, False)
