from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vhd.block import BLOCK_BYTES, Block, BufferPool
from vhd.errors import StreamError
from vhd.file import ParentLink, VhdFile, VhdFileWriter
from vhd.footer import DiskType, new_footer
from vhd.header import Header
from vhd.stream import VhdStream
from xotest.layouts import HYPERV, STYLES, XAPI, XEN, XO, Style, lay_out, picture_in
from xotest.memory_file import MemoryFile
from xotest.pictures import flatten, letters_drawn, picture_of, uuid_of, write_picture

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT = ParentLink(name="/run/sr-mount/x/y.vhd", uuid=uuid_of(9), timestamp=5)
ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 266\r\n\r\n<html><body><h1>HTTP 500</h1></body>"


def reader(data: bytes, step: int = 1 << 20) -> Callable[[memoryview], int]:
    """A source that gives at most ``step`` bytes at a time."""
    position = 0

    def read_into(view: memoryview) -> int:
        nonlocal position
        piece = data[position : position + min(step, len(view))]
        view[: len(piece)] = piece
        position += len(piece)
        return len(piece)

    return read_into


def stream_of(file: MemoryFile | bytes, step: int = 1 << 20) -> VhdStream:
    data = file if isinstance(file, bytes) else file.data()
    return VhdStream(reader(data, step), name="stream")


def receive(stream: VhdStream, pool: BufferPool | None = None) -> MemoryFile:
    """Store the stream in our layout."""
    stream.begin()
    target = MemoryFile(name="received.vhd")
    footer = new_footer(
        size_bytes=stream.virtual_size_bytes,
        disk_type=DiskType(stream.footer.disk_type),
        uuid=stream.footer.uuid,
        timestamp=0,
    )
    parent = None
    if stream.footer.differencing:
        parent = ParentLink(name="p.vhd", uuid=stream.header.parent_uuid)
    writer = VhdFileWriter.create(target, footer=footer, parent=parent)
    buffers = BufferPool(1) if pool is None else pool
    for block in stream.blocks(buffers):
        writer.write_block(block)
        buffers.release(block.buffer)
    writer.finish()
    return target


def problem_of(stream: VhdStream) -> str:
    with pytest.raises(StreamError) as caught:
        receive(stream)
    return caught.value.problem


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
@pytest.mark.parametrize("parent", [None, PARENT], ids=["dynamic", "differencing"])
def test_every_writer_s_stream(style: Style, parent: ParentLink | None) -> None:
    picture = "-Ab0zC-"
    file = lay_out(picture, style, parent=parent)
    stream = stream_of(file, step=100_003)
    received = receive(stream)
    assert picture_of(VhdFile.open(received)) == picture_in(style, picture)
    assert stream.position == file.size()
    if not style.gap_sectors:
        assert stream.expected_length() == file.size()


def test_our_own_files_are_streams_too() -> None:
    file = write_picture("-Ab-", backwards=True)
    stream = stream_of(file)
    assert picture_of(VhdFile.open(receive(stream))) == "-Ab-"
    assert stream.expected_length() == file.size()


def test_blocks_come_in_the_order_of_the_file() -> None:
    stream = stream_of(lay_out("ABCD", XEN))
    stream.begin()
    pool = BufferPool(4)
    assert [block.index for block in stream.blocks(pool)] == [3, 2, 1, 0]
    assert stream.block_indexes() == [0, 1, 2, 3]


def test_xapi_s_exact_form() -> None:
    """facts/xapi 2.4: 2048 + table + n * (512 + 2 MiB) + 512, known from the table on."""
    file = lay_out("A-C", XAPI)
    stream = stream_of(file)
    assert stream.expected_length() is None
    stream.begin()
    assert stream.expected_length() == 2048 + 512 + 2 * (512 + BLOCK_BYTES) + 512 == file.size()
    assert stream.position == 2048 + 12


def test_a_disk_without_blocks() -> None:
    for style in STYLES:
        file = lay_out("---", style)
        stream = stream_of(file)
        assert picture_of(VhdFile.open(receive(stream))) == "---"
        if style in (XAPI, XO):
            assert stream.expected_length() == file.size()


@pytest.mark.parametrize("step", [1, 7, 511])
def test_short_reads(step: int) -> None:
    assert picture_of(VhdFile.open(receive(stream_of(lay_out("-" * 200, XAPI), step)))) == "-" * 200


def test_one_buffer_is_enough_and_comes_back_after_an_error() -> None:
    pool = BufferPool(1)
    data = lay_out("ABC", XAPI).data()
    with pytest.raises(StreamError):
        receive(stream_of(data[: 4 << 20]), pool)
    pool.acquire(timeout_s=0)


def test_bitmaps_are_kept_and_absent_sectors_are_zeros() -> None:
    file = lay_out("b", HYPERV)
    at = VhdFile.open(file).block_span(0)[1]
    file.write_at(at, b"s" * BLOCK_BYTES)
    stream = stream_of(file)
    stream.begin()
    (block,) = stream.blocks(BufferPool(1))
    assert block.bitmap is not None
    assert bytes(block.buffer.data[::512]) == bytes(0x73 if letter else 0 for letter in letters_drawn("b"))


def test_the_oldest_xen_bitmaps() -> None:
    file = lay_out("b", replace(XEN, creator_version=1, batmap=False))
    at = VhdFile.open(file).block_span(0)[0]
    raw = bytearray(512)
    file.read_into(at, memoryview(raw))
    file.write_at(at, bytes(int(f"{byte:08b}"[::-1], 2) for byte in raw))
    assert picture_of(VhdFile.open(receive(stream_of(file)))) == "b"


def test_what_lies_past_the_disk_s_end_is_passed_over() -> None:
    file = lay_out("ABC", XO)
    raw = VhdFile.open(file).footer.with_size(BLOCK_BYTES + 512).pack()
    file.write_at(0, raw)
    file.write_at(file.size() - 512, raw)
    stream = stream_of(file)
    disk = VhdFile.open(receive(stream))
    assert disk.block_indexes() == [0, 1] == stream.block_indexes()
    expected = flatten(["AB"])
    pool = BufferPool(1)
    buffer = pool.acquire()
    disk.read_block(1, buffer)
    assert bytes(buffer.data[::512]) == expected[1][:1].ljust(4096, b"\0")


def test_slack_before_the_trailing_footer_and_an_old_footer() -> None:
    file = lay_out("A", XAPI)
    raw = file.data()[-512:]
    file.write_at(file.size() - 512, b"\x55" * 100_352)
    file.write_at(file.size(), raw)
    assert picture_of(VhdFile.open(receive(stream_of(file)))) == "A"
    file.truncate(file.size() - 1)
    assert picture_of(VhdFile.open(receive(stream_of(file)))) == "A"


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        (0, "ended inside the footer after 0 bytes"),
        (100, "ended inside the footer after 100 bytes"),
        (512, "ended inside the header after 512 bytes"),
        (1600, "ended inside a gap after 1600 bytes"),
        (2050, "ended inside the block allocation table after 2050 bytes"),
        (2560, "ended inside block 0 after 2560 of 4198400 bytes"),
        (3_000_000, "ended inside block 1 after 3000000 of 4198400 bytes"),
        (4_197_888, "ended inside the trailing footer after 4197888 of 4198400 bytes"),
        (4_198_300, "ended inside the trailing footer after 4198300 of 4198400 bytes"),
    ],
)
def test_a_stream_cut_off_anywhere(length: int, problem: str) -> None:
    data = lay_out("AB", XAPI).data()
    assert len(data) == 4_198_400
    assert problem_of(stream_of(data[:length], 65_537)) == problem


@pytest.mark.parametrize("length", [0, 512, 2048, 2560, 2560 + 512 + BLOCK_BYTES, 3_000_000, 4_197_888])
@pytest.mark.parametrize("pad", [0, 5_000_000])
def test_an_http_error_inside_the_body_is_what_the_error_says(length: int, pad: int) -> None:
    """XAPI has sent 200 already when attaching the disk fails; some servers go on after the text."""
    data = lay_out("AB", XAPI).data()
    text = ERROR if not pad else ERROR + b" " * pad
    if pad and length not in (0, 2560, 2560 + 512 + BLOCK_BYTES):
        return
    assert "HTTP/1.1 500 Internal Server Error" in problem_of(stream_of(data[:length] + text))


def test_an_http_error_where_the_table_should_be() -> None:
    data = lay_out("A" + "-" * 500, XAPI).data()
    assert "HTTP/1.1 500 Internal Server Error" in problem_of(stream_of(data[:2048] + ERROR + bytes(1 << 16)))


def test_garbage_is_no_stream() -> None:
    assert "footer-cookie" in problem_of(stream_of(b"\0" * 4096))
    assert "header-cookie" in problem_of(stream_of(lay_out("A", XAPI).data()[:512] + b"x" * 4096))
    data = bytearray(lay_out("A", XAPI).data())
    assert "do not end with the footer they began with" in problem_of(stream_of(bytes(data) + bytes(512)))
    data[-20] ^= 1
    assert "do not end with the footer they began with" in problem_of(stream_of(bytes(data)))
    fixed = new_footer(size_bytes=512, disk_type=DiskType.FIXED, uuid=uuid_of(1), timestamp=0).pack()
    assert "found that of a fixed one" in problem_of(stream_of(fixed * 2))


def with_head(header: Header, table: bytes, *, size: int = BLOCK_BYTES, length: int = 8192) -> bytes:
    footer = new_footer(size_bytes=size, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0).pack()
    file = MemoryFile()
    file.write_at(0, footer)
    file.write_at(512, header.pack())
    file.write_at(header.table_offset, table)
    file.write_at(length, footer)
    return file.data()


@pytest.mark.parametrize(
    ("header", "table", "problem"),
    [
        (Header(table_offset=512, table_entries=1), b"", "goes back from byte 1536 to 512"),
        (Header(table_offset=2048, table_entries=0), b"", "header-table-entries"),
        (Header(table_offset=2048, table_entries=0xFFFFFFFF), b"", "header-table-entries"),
        (Header(table_offset=2048, table_entries=4_000_000), b"", "ended inside the block allocation table"),
        (Header(table_offset=2048, table_entries=1), struct.pack(">I", 1), "block-clobbers-headers"),
        (Header(table_offset=2048, table_entries=2), struct.pack(">II", 9, 10), "block-overlap"),
        (Header(table_offset=2048, table_entries=1), struct.pack(">I", 0xFFFFFFFE), "ended inside a gap"),
        (Header(table_offset=5632, table_entries=1), struct.pack(">I", 3), "block-clobbers-headers"),
    ],
)
def test_lying_streams(header: Header, table: bytes, problem: str) -> None:
    assert problem in problem_of(stream_of(with_head(header, table)))


def test_a_stream_does_not_go_back() -> None:
    footer = new_footer(size_bytes=BLOCK_BYTES, disk_type=DiskType.DYNAMIC, uuid=uuid_of(1), timestamp=0)
    raw = replace(footer, data_offset=4096).pack()
    file = MemoryFile()
    file.write_at(0, raw)
    file.write_at(4096, Header(table_offset=2048, table_entries=1).pack())
    assert "goes back from byte 5120 to 2048" in problem_of(stream_of(file))
    far = (3 << 20) // 512
    file = MemoryFile()
    file.write_at(0, raw)
    file.write_at(4096, Header(table_offset=far * 512, table_entries=1).pack())
    file.write_at(far * 512, (12).to_bytes(4, "big") + b"\xff" * 508)
    assert "block 0 lies before the table" in problem_of(stream_of(file))


def test_leaving_early_keeps_what_was_taken() -> None:
    stream = stream_of(lay_out("ABC", XAPI))
    stream.begin()
    pool = BufferPool(1)
    blocks = stream.blocks(pool)
    first = next(blocks)
    assert isinstance(first, Block)
    pool.release(first.buffer)
    del blocks
    pool.acquire(timeout_s=0)
    with pytest.raises(AssertionError, match="begin"):
        next(stream_of(b"").blocks(pool))
