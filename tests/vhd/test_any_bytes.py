"""Whatever the bytes are: only this room's errors come out, and memory stays bounded."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vhd.block import BLOCK_BYTES, BlockBuffer, BufferPool
from vhd.check import check_file
from vhd.checksum import checksum
from vhd.errors import VhdError
from vhd.file import ParentLink, VhdFile, VhdFileUpdater
from vhd.findings import errors_of
from vhd.footer import DiskType, new_footer
from vhd.header import Header
from vhd.storage import read_exactly
from vhd.stream import VhdStream
from xotest.layouts import HYPERV, XEN, lay_out
from xotest.memory_file import MemoryFile
from xotest.pictures import uuid_of, write_picture

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT = ParentLink(name="0.vhd", uuid=uuid_of(9), timestamp=5)
BASES = [
    write_picture("-"),
    write_picture("A-b"),
    write_picture("-b", parent=PARENT),
    lay_out("A-b", XEN, parent=PARENT),
    lay_out("Ab-", HYPERV, parent=PARENT),
]
FIXED = MemoryFile(new_footer(size_bytes=1024, disk_type=DiskType.FIXED, uuid=uuid_of(1), timestamp=0).pack())
BUFFER = BlockBuffer()


@dataclass(frozen=True)
class Damage:
    """Bytes overwritten at places counted from the start or (negative) the end, then perhaps checksums mended."""

    base: int
    patches: tuple[tuple[int, bytes], ...]
    mend: bool
    length: int | None

    def apply(self) -> MemoryFile:
        file = BASES[self.base].copy()
        if self.length is not None:
            file.truncate(min(self.length, file.size()))
        for at, data in self.patches:
            place = at if at >= 0 else file.size() + at
            if place >= 0:
                file.write_at(place, data)
        if self.mend:
            mend(file)
        return file


def mend(file: MemoryFile) -> None:
    """Right checksums for both footers and the header, as a liar would have them."""
    for at, length, field in ((0, 512, 64), (max(file.size() - 512, 0), 512, 64), (512, 1024, 36)):
        raw = read_exactly(file, at, length)
        if len(raw) == length:
            file.write_at(at + field, struct.pack(">I", checksum(raw, field)))


INTERESTING = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    511,
    512,
    1024,
    2047,
    2048,
    1 << 16,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 64) - 1,
]
values = st.one_of(
    st.binary(min_size=1, max_size=24),
    st.sampled_from(INTERESTING).map(lambda n: (n & 0xFFFFFFFF).to_bytes(4, "big")),
    st.sampled_from(INTERESTING).map(lambda n: n.to_bytes(8, "big")),
)
FIELDS = [8, 12, 16, 24, 28, 32, 40, 48, 56, 60, 68, 84]
places = st.one_of(
    st.sampled_from(FIELDS),
    st.sampled_from([512 + n for n in (0, 8, 16, 24, 28, 32, 40, 56, 60, 64, 576, 580, 584, 592, 600, 768)]),
    st.sampled_from([1536, 1540, 2048, 2052, 2056, 2060, 2064, 2072, 2560, 3072]),
    st.sampled_from([at - 512 for at in FIELDS]),
    st.integers(0, 4200),
)
damages = st.builds(
    Damage,
    base=st.integers(0, len(BASES) - 1),
    patches=st.lists(st.tuples(places, values), max_size=4).map(tuple),
    mend=st.booleans(),
    length=st.none() | st.integers(0, 6000) | st.integers(0, 3 * BLOCK_BYTES),
)
fuzz = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read_all(file: MemoryFile) -> None:
    for trailing_footer in (True, False):
        try:
            disk = VhdFile.open(file, trailing_footer=trailing_footer)
            disk.parent_candidates()
            disk.has_batmap()
            for index in disk.block_indexes():
                disk.bitmap(index)
                disk.read_block(index, BUFFER)
        except VhdError:
            pass


def receive_all(file: MemoryFile) -> None:
    position = 0

    def read_into(view: memoryview) -> int:
        nonlocal position
        done = file.read_into(position, view)
        position += done
        return done

    stream, pool = VhdStream(read_into, name="x"), BufferPool(1)
    try:
        stream.begin()
        stream.expected_length()
        for block in stream.blocks(pool):
            pool.release(block.buffer)
    except VhdError:
        pass
    pool.acquire(timeout_s=0)


def grow(file: MemoryFile) -> None:
    try:
        updater = VhdFileUpdater.open(file)
        updater.grow(3000)
        updater.reserve(1)
        updater.trim()
    except VhdError:
        return
    VhdFile.open(file, trailing_footer=False)


@fuzz
@given(damages)
def test_a_damaged_file_gives_our_errors_only(damage: Damage) -> None:
    file = damage.apply()
    read_all(file)
    found = check_file(file, now_vhd_s=0, parent_of=lambda name: None, data=True)
    if not errors_of(found):
        VhdFile.open(file)


@fuzz
@given(damages)
def test_a_damaged_stream_gives_our_errors_only(damage: Damage) -> None:
    receive_all(damage.apply())


@fuzz
@given(damages)
def test_growing_a_damaged_file_gives_our_errors_or_a_disk(damage: Damage) -> None:
    grow(damage.apply())


@fuzz
@given(st.binary(max_size=3000), st.binary(max_size=600))
def test_any_bytes_at_all(head: bytes, tail: bytes) -> None:
    file = MemoryFile(head + tail)
    read_all(file)
    receive_all(file)
    check_file(file, now_vhd_s=0)
    footer = FIXED.data()
    ended = MemoryFile(head + footer)
    read_all(ended)
    check_file(ended)


@fuzz
@given(st.lists(st.integers(0, 12_300) | st.just(0xFFFFFFFF), min_size=3, max_size=3))
def test_a_lying_table_never_shows_one_block_s_bytes_as_another_s(sectors: list[int]) -> None:
    """Whatever three entries say: refused, or every block lies apart from all else inside the file."""
    file = BASES[1].copy()
    file.write_at(2048, struct.pack(">3I", *sectors))
    try:
        disk = VhdFile.open(file)
    except VhdError:
        return
    spans = sorted((disk.bat[index], disk.bat[index] + 4097) for index in disk.block_indexes())
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert all(start * 512 >= 2560 and end * 512 <= file.size() - 512 for start, end in spans)


def lying(header: Header, size_bytes: int, length: int) -> MemoryFile:
    footer = new_footer(size_bytes=size_bytes, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0).pack()
    file = MemoryFile()
    file.write_at(length - 512, footer)
    file.write_at(0, footer)
    file.write_at(512, header.pack())
    return file


@pytest.mark.parametrize("act", [read_all, receive_all, check_file], ids=["open", "stream", "check"])
@pytest.mark.parametrize("entries", [0xFFFFFFFF, 1 << 30, 1 << 22, 1 << 20])
@pytest.mark.parametrize("size_bytes", [512, 1 << 60])
def test_a_huge_table_that_is_not_there_takes_no_memory(
    act: Callable[[MemoryFile], None], entries: int, size_bytes: int
) -> None:
    file = lying(Header(table_offset=2048, table_entries=entries), size_bytes, 1 << 16)
    tracemalloc.start()
    try:
        act(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("act", [read_all, check_file], ids=["open", "check"])
def test_the_largest_table_takes_a_few_times_its_size(act: Callable[[MemoryFile], None]) -> None:
    """A sparse file can hold the largest table allowed: 16 MiB, and nothing per block beyond that."""
    entries = 1 << 22
    file = lying(Header(table_offset=2048, table_entries=entries), 512, 1 << 26)
    for at in range(0, 4 * entries, 1 << 16):
        file.write_at(2048 + at, b"\xff" * (1 << 16))
    tracemalloc.start()
    try:
        act(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 80 << 20
