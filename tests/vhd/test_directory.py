"""VHD directories: Xen Orchestra's layout, and that whatever the objects hold only VhdErrors come of it."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remotes import errors
from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, FULL_BITMAP, BlockBuffer
from vhd.codec import PLAIN, GzipCodec
from vhd.directory import VhdDirectory, block_name
from vhd.errors import Malformed, Unsupported, VhdError
from vhd.file import ParentLink
from vhd.footer import unpack_footer
from vhd.header import unpack_header
from xotest.pictures import flat_of, flatten, picture_of, uuid_of
from xotest.workspace import CODECS, RemoteWorkspace, write_directory

PARTS = ["chunk-filters.json", "header", "footer", "bat"]


def written(picture: str, **options: object) -> RemoteWorkspace:
    store = RemoteWorkspace(MemoryRemote())
    write_directory(store, "data/a.vhd", picture, **options)  # type: ignore[arg-type]
    return store


@pytest.mark.parametrize("codec", [PLAIN, GzipCodec()], ids=["plain", "gzip"])
@pytest.mark.parametrize("picture", ["A-0B", "a-Cb", "----", "Z"])
def test_what_is_written_is_read_back(picture: str, codec: GzipCodec) -> None:
    store = written(picture, codec=codec)
    disk = VhdDirectory.open(store, "data/a.vhd", CODECS, missing=store.missing)
    assert picture_of(disk) == picture
    assert flat_of(disk) == flatten([picture])
    assert disk.codec.name == codec.name


def test_the_objects_are_laid_out_as_xo_lays_them_out() -> None:
    store = written("A-B", entries=1003)
    raw = store.get("data/a.vhd/bat")
    assert len(raw) == 1003 and raw[0] == 0b10100000 and not any(raw[1:])
    assert json.loads(store.get("data/a.vhd/chunk-filters.json")) == []
    header = unpack_header(store.get("data/a.vhd/header"), "header")
    assert (header.table_offset, header.table_entries) == (1536, 1003)
    footer = unpack_footer(store.get("data/a.vhd/footer"), "footer")
    assert footer.current_size_bytes == 3 * BLOCK_BYTES
    block = store.get("data/a.vhd/blocks/0/2")
    assert block == FULL_BITMAP + b"B" * BLOCK_BYTES
    assert block_name("d", 12345) == "d/blocks/12/345"
    assert store.names("data/a.vhd") == ["bat", "blocks", "chunk-filters.json", "footer", "header"]


def test_the_parent_is_named_in_the_header() -> None:
    store = written("A", parent=ParentLink(name="0.alias.vhd", uuid=uuid_of(7)))
    disk = VhdDirectory.open(store, "data/a.vhd", CODECS)
    assert disk.footer.differencing
    assert disk.parent_candidates() == ["0.alias.vhd"]
    assert disk.header.parent_uuid == uuid_of(7)


def test_absent_filters_mean_no_compression_and_unknown_ones_are_unsupported() -> None:
    store = written("AB")
    store.delete("data/a.vhd/chunk-filters.json")
    assert picture_of(VhdDirectory.open(store, "data/a.vhd", CODECS)) == "AB"
    store.put("data/a.vhd/chunk-filters.json", b'["snappy"]')
    with pytest.raises(Unsupported, match="snappy"):
        VhdDirectory.open(store, "data/a.vhd", CODECS)


@pytest.mark.parametrize("raw", [b"{}", b"[1]", b'["gzip","gzip"]', b"", b"[" * 900, b"[]" + b" " * 2000, b"\xff"])
def test_filters_that_make_no_sense_are_malformed(raw: bytes) -> None:
    store = written("A")
    store.put("data/a.vhd/chunk-filters.json", raw)
    with pytest.raises(Malformed, match="chunk-filters"):
        VhdDirectory.open(store, "data/a.vhd", CODECS)


def test_a_missing_part_is_the_storages_error() -> None:
    store = written("A")
    store.delete("data/a.vhd/footer")
    with pytest.raises(errors.NotFound):
        VhdDirectory.open(store, "data/a.vhd", CODECS)


@pytest.mark.parametrize("length", [0, 511, 512, BLOCK_BYTES, 512 + BLOCK_BYTES + 1])
def test_a_block_of_the_wrong_length_is_malformed(length: int) -> None:
    store = written("A")
    store.put("data/a.vhd/blocks/0/0", bytes(length))
    disk = VhdDirectory.open(store, "data/a.vhd", CODECS)
    with pytest.raises(Malformed):
        disk.read_block(0, BlockBuffer())


def test_a_missing_block_is_malformed_and_named() -> None:
    store = written("AB")
    store.delete("data/a.vhd/blocks/0/1")
    disk = VhdDirectory.open(store, "data/a.vhd", CODECS, missing=store.missing)
    with pytest.raises(Malformed, match="block-missing: block 1"):
        disk.read_block(1, BlockBuffer())


def test_a_table_smaller_than_the_header_says_is_malformed_a_longer_one_is_fine() -> None:
    store = written("A--------", entries=9)
    store.put("data/a.vhd/bat", b"\x80")
    with pytest.raises(Malformed, match="table-short"):
        VhdDirectory.open(store, "data/a.vhd", CODECS)
    store.put("data/a.vhd/bat", b"\x80".ljust(5000, b"\0"))
    assert VhdDirectory.open(store, "data/a.vhd", CODECS).block_indexes() == [0]


def test_blocks_past_the_end_of_the_disk_do_not_count_and_the_tail_reads_as_zeros() -> None:
    store = written("AB", size_bytes=BLOCK_BYTES + 512)
    disk = VhdDirectory.open(store, "data/a.vhd", CODECS)
    buffer = BlockBuffer()
    disk.read_block(1, buffer)
    assert bytes(buffer.data) == b"B" * 512 + bytes(BLOCK_BYTES - 512)
    assert not disk.has(2)


def test_only_marked_blocks_are_read_for_their_bitmap() -> None:
    store = written("Aa")
    disk = VhdDirectory.open(store, "data/a.vhd", CODECS, missing=store.missing)
    store.delete("data/a.vhd/blocks/0/0")
    assert disk.bitmap(0) is None
    assert disk.bitmap(1) not in (None, bytes(512))
    assert disk.bitmap(2) == bytes(512)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    part=st.sampled_from([*PARTS, "blocks/0/0", "partial"]),
    raw=st.binary(max_size=600),
    seed=st.integers(0, 1 << 30),
    mode=st.sampled_from(["replace", "flip", "cut"]),
    packed=st.booleans(),
)
def test_whatever_an_object_holds_only_vhd_errors_come_of_it(
    part: str, raw: bytes, seed: int, mode: str, packed: bool
) -> None:
    codec = GzipCodec() if packed else PLAIN
    store = written("aB", codec=codec)
    name = f"data/a.vhd/{part}"
    content = bytearray(store.get(name))
    rng = random.Random(seed)
    if mode == "flip" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif mode == "cut":
        del content[rng.randrange(len(content) + 1) :]
    else:
        content = bytearray(codec.compress(raw) if rng.random() < 0.5 else raw)
    store.put(name, content)
    buffer = BlockBuffer()
    try:
        disk = VhdDirectory.open(store, "data/a.vhd", CODECS, missing=store.missing)
        for index in disk.block_indexes():
            disk.read_block(index, buffer)
            disk.bitmap(index)
        disk.parent_candidates()
    except VhdError:
        pass
