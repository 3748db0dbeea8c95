"""qcow2 streams read forward: QEMU's and ours, and everything that lies."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vhd.block import BLOCK_BYTES
from vhd.errors import Malformed, StreamError, Unsupported, VhdError
from vhd.qcow2 import stream as stream_module
from xotest.memory_file import MemoryFile
from xotest.pictures import open_picture, raw_of
from xotest.qcow2_images import begun, emitted, qemu_img, read_pieces, read_raw
from xotest.sparse_disk import SparseDisk, letters

CLUSTER = 1 << 16
TIB = 1 << 40
L1_AT = 3 * CLUSTER
L2_AT = 4 * CLUSTER
DATA_AT = 5 * CLUSTER


def a_file() -> MemoryFile:
    """Two blocks of four; tables at the places named above."""
    return emitted(open_picture("A-C-"))  # type: ignore[arg-type]


def patched(at: int, data: bytes) -> MemoryFile:
    file = a_file()
    file.write_at(at, data)
    return file


@pytest.mark.parametrize("most", [1 << 30, 4097, 7])
def test_a_list_of_blocks_needs_the_tables_only(most: int) -> None:
    file = a_file()
    file.truncate(DATA_AT)
    assert begun(file, most=most).block_list() == [0, 2]


def test_the_whole_disk_comes_back() -> None:
    assert read_raw(a_file()) == raw_of(["A-C-"])


def test_a_list_of_4_tib_is_as_long_as_what_is_there() -> None:
    blocks = {0: b"", 300: b"x", 2_097_151: letters(32, 1)}
    stream = begun(emitted(SparseDisk(virtual_size_bytes=4 * TIB, blocks=blocks)))
    assert stream.block_list() == sorted(blocks)
    assert stream.position == (1 + 2 + 1 + 2) * CLUSTER + CLUSTER


@pytest.mark.parametrize("options", ["cluster_size=64k", "cluster_size=512", "cluster_size=2M", "compat=0.10"])
def test_what_qemu_writes(tmp_path: Path, options: str) -> None:
    raw, image = tmp_path / "a.raw", tmp_path / "a.qcow2"
    raw.write_bytes(raw_of(["-AbC-"]) + b"end" * 1024)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, image)
    file = MemoryFile(image.read_bytes())
    size = -(-raw.stat().st_size // 512) * 512
    assert begun(file).virtual_size_bytes == size
    assert read_raw(file) == raw.read_bytes().ljust(size, b"\0")
    if options != "cluster_size=512":
        assert begun(file).block_list() == [1, 2, 3, 5]


def test_clusters_called_zeros_are_zeros_wherever_they_point() -> None:
    file = a_file()
    raw = bytearray(32 * 8)
    file.read_into(L2_AT, memoryview(raw))
    file.write_at(L2_AT, struct.pack(">32Q", *(entry | 1 for entry in struct.unpack(">32Q", raw))))
    assert begun(file).block_list() == [2]
    assert read_raw(file) == raw_of(["--C-"])


def test_a_table_of_nothing_but_zeros_is_nothing() -> None:
    file = emitted(open_picture("A"))
    file.write_at(L2_AT, struct.pack(">Q", 1) * 32)
    assert begun(file).block_list() == [] and read_pieces(file) == []


def test_what_lies_past_the_end_of_the_disk_does_not_count() -> None:
    file = patched(24, struct.pack(">Q", BLOCK_BYTES + 512))
    file.write_at(L2_AT + 8 * 33, struct.pack(">Q", DATA_AT + BLOCK_BYTES))
    assert begun(file).block_list() == [0]
    assert len(read_raw(file)) == BLOCK_BYTES + 512


def test_an_empty_disk_has_no_tables() -> None:
    stream = begun(patched(24, bytes(8)))
    assert stream.block_list() == [] and list(stream.pieces()) == []


REFUSED = [
    (0, b"XFI\xfb", Malformed, "qcow2-magic"),
    (4, struct.pack(">I", 4), Unsupported, "version 4"),
    (4, struct.pack(">I", 1), Unsupported, "version 1"),
    (8, struct.pack(">Q", 104), Unsupported, "a backing file"),
    (20, struct.pack(">I", 8), Malformed, "cluster-bits"),
    (20, struct.pack(">I", 22), Malformed, "cluster-bits"),
    (20, struct.pack(">I", 0xFFFFFFFF), Malformed, "cluster-bits"),
    (24, struct.pack(">Q", 1 << 63), Unsupported, "at most 17592186044416"),
    (32, struct.pack(">I", 1), Unsupported, "encryption"),
    (32, struct.pack(">I", 2), Unsupported, "encryption"),
    (36, struct.pack(">I", 0), Malformed, "l1-short"),
    (40, struct.pack(">Q", 0), Malformed, "l1-offset"),
    (40, struct.pack(">Q", 512), Malformed, "l1-offset"),
    (40, struct.pack(">Q", 1 << 60), Malformed, "l1-offset"),
    (72, struct.pack(">Q", 2), Malformed, "corrupt"),
    (72, struct.pack(">Q", 4), Unsupported, "external data"),
    (72, struct.pack(">Q", 16), Unsupported, "extended L2"),
    (72, struct.pack(">Q", 1 << 40), Unsupported, "features 0x10000000000"),
    (100, struct.pack(">I", 72), Malformed, "header-length"),
    (100, struct.pack(">I", 105), Malformed, "header-length"),
    (L1_AT, struct.pack(">Q", 1 << 62 | L2_AT), Malformed, "l1-entry"),
    (L1_AT, struct.pack(">Q", L2_AT | 1), Malformed, "l1-entry"),
    (L1_AT, struct.pack(">Q", L2_AT + 512), Malformed, "qcow2-offset"),
    (L1_AT, struct.pack(">Q", CLUSTER), StreamError, "goes back"),
    (L1_AT, struct.pack(">Q", 1 << 25), StreamError, "ended inside a gap"),
    (L2_AT, struct.pack(">Q", 1 << 62 | DATA_AT), Unsupported, "compressed clusters"),
    (L2_AT, struct.pack(">Q", 1 << 57 | DATA_AT), Malformed, "reserved bits"),
    (L2_AT, struct.pack(">Q", DATA_AT | 2), Malformed, "reserved bits"),
]


@pytest.mark.parametrize(("at", "data", "kind", "text"), REFUSED)
def test_what_is_refused(at: int, data: bytes, kind: type[VhdError], text: str) -> None:
    with pytest.raises(kind, match=text):
        read_raw(patched(at, data))
    with pytest.raises(kind, match=text):
        begun(patched(at, data)).block_list()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (DATA_AT + 512, "qcow2-offset"),
        (CLUSTER, "goes back"),
        (DATA_AT + CLUSTER, "goes back"),
        (1 << 50, "ended inside a gap"),
    ],
)
def test_a_cluster_where_none_can_be(entry: int, text: str) -> None:
    with pytest.raises(VhdError, match=text):
        read_raw(patched(L2_AT, struct.pack(">Q", entry)))


def test_zero_clusters_came_with_version_3() -> None:
    file = patched(4, struct.pack(">I", 2))
    assert read_raw(file) == raw_of(["A-C-"])
    file.write_at(L2_AT, struct.pack(">Q", DATA_AT | 1))
    with pytest.raises(Malformed, match="reserved bits"):
        read_raw(file)


def test_features_that_do_not_matter_do_not_matter() -> None:
    assert read_raw(patched(72, struct.pack(">QQQ", 1 | 8, 1, 3))) == raw_of(["A-C-"])


def test_an_l1_table_of_four_billion_entries_is_read_as_far_as_the_disk_goes() -> None:
    assert begun(patched(36, struct.pack(">I", 0xFFFFFFFF))).block_list() == [0, 2]
    small_clusters = patched(20, struct.pack(">IQ", 9, 1 << 44))
    with pytest.raises(Unsupported, match="L1 table of 536870912 entries"):
        begun(small_clusters)


def test_tables_between_the_data_give_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SparseDisk(virtual_size_bytes=TIB, blocks={0: b"x", 256: b"y"})
    file = emitted(disk)
    monkeypatch.setattr(stream_module, "GAP_MAX_BYTES", CLUSTER)
    assert begun(file).block_list() == [0, 256]
    second = bytearray(CLUSTER)
    file.read_into(L2_AT + CLUSTER, memoryview(second))
    file.write_at(file.size(), second)
    file.write_at(L1_AT + 8, struct.pack(">Q", file.size() - CLUSTER))
    with pytest.raises(Unsupported, match="tables lie between its data"):
        begun(file).block_list()
    with pytest.raises(StreamError, match="goes back"):
        read_pieces(file)


def test_a_scattered_image_is_refused_instead_of_filling_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "RUNS_MAX", 0)
    with pytest.raises(Unsupported, match="more than 0 pieces"):
        read_raw(a_file())


def test_a_short_stream_says_where_it_ended() -> None:
    file = a_file()
    file.truncate(file.size() - 1)
    with pytest.raises(StreamError, match="ended inside a cluster after"):
        read_raw(file)
    with pytest.raises(StreamError, match="ended inside the header after 7 bytes"):
        begun(MemoryFile(b"QFI\xfb\0\0\0"))


BASES = [a_file(), emitted(SparseDisk(virtual_size_bytes=TIB, blocks={3: b"x", 700: b"y"}))]
places = st.integers(0, 120) | st.integers(L1_AT, L1_AT + 64) | st.integers(L2_AT, DATA_AT + 64)
patches = st.lists(st.tuples(places, st.binary(min_size=1, max_size=9)), max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(BASES), patches, st.none() | st.integers(0, 6 * CLUSTER))
def test_whatever_the_bytes_only_our_errors_come(base: MemoryFile, changes: list[tuple[int, bytes]], length) -> None:
    file = base.copy()
    for at, data in changes:
        file.write_at(at, data)
    if length is not None:
        file.truncate(min(length, file.size()))
    try:
        stream = begun(file)
        assert all(index < -(-stream.virtual_size_bytes // BLOCK_BYTES) for index in stream.block_list())
    except VhdError:
        pass
    try:
        for at, data in begun(file).pieces():
            assert at + len(data) <= begun(file).virtual_size_bytes
    except VhdError:
        pass


@given(st.binary(max_size=400))
def test_any_bytes_at_all(data: bytes) -> None:
    for head in (data, b"QFI\xfb\0\0\0\3" + data):
        with contextlib.suppress(VhdError):
            begun(MemoryFile(head)).block_list()


def test_tables_that_are_announced_and_never_come_take_no_memory() -> None:
    file = patched(24, struct.pack(">QIIQ", 1 << 44, 0, 0xFFFFFFFF, CLUSTER))
    file.truncate(2 * CLUSTER)
    tracemalloc.start()
    try:
        with pytest.raises(VhdError):
            begun(file)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
