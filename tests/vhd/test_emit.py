from __future__ import annotations

import pytest

from vhd.block import BLOCK_BYTES, FULL_BITMAP, BufferPool
from vhd.check import check_file
from vhd.emit import VhdEmitter
from vhd.errors import Malformed, Unsupported
from vhd.file import ParentLink, VhdFile
from vhd.footer import DiskType
from vhd.stream import VhdStream
from xotest.memory_file import MemoryFile
from xotest.pictures import flat_of, flatten, open_picture, picture_of, uuid_of, write_picture


def emitted(emitter: VhdEmitter) -> MemoryFile:
    file = MemoryFile(name="emitted.vhd")
    for chunk in emitter.chunks(BufferPool(1)):
        file.write_at(file.size(), chunk)
    return file


def emitter_of(picture: str, **options: object) -> VhdEmitter:
    return VhdEmitter(open_picture(picture), uuid=uuid_of(60), timestamp=1000, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("picture", ["-", "A", "-A0-", "bC-z"])
def test_the_length_is_known_before_the_first_byte(picture: str) -> None:
    emitter = emitter_of(picture)
    file = emitted(emitter)
    blocks = sum(character != "-" for character in picture)
    assert emitter.length_bytes == file.size() == 2048 + 512 + blocks * (512 + BLOCK_BYTES) + 512
    assert check_file(file, now_vhd_s=1000, data=True) == []
    assert flat_of(VhdFile.open(file)) == flatten([picture])


def test_the_form_is_xapi_s() -> None:
    data = emitted(emitter_of("-Ab")).data()
    assert data[:512] == data[-512:]
    assert data[1536:2048] == bytes(512)
    assert data[2048:2060] == b"\xff\xff\xff\xff" + (5).to_bytes(4, "big") + (5 + 4097).to_bytes(4, "big")
    disk = VhdFile.open(MemoryFile(data))
    assert disk.footer.disk_type == DiskType.DYNAMIC
    assert disk.footer.creator == b"win "
    assert disk.footer.uuid == uuid_of(60)
    for index in (1, 2):
        at = disk.block_span(index)[0]
        assert data[at : at + 512] == FULL_BITMAP, "a bit left clear would leave stale data in the target"


def test_a_stream_of_ours_is_parsed_by_our_stream() -> None:
    emitter = emitter_of("A-C")
    chunks = emitter.chunks(BufferPool(1))
    rest = memoryview(b"")

    def read_into(view: memoryview) -> int:
        nonlocal rest
        if not len(rest):
            rest = next(chunks, memoryview(b""))
        count = min(len(view), len(rest))
        view[:count] = rest[:count]
        rest = rest[count:]
        return count

    stream, pool = VhdStream(read_into, name="emitted"), BufferPool(1)
    stream.begin()
    assert stream.expected_length() == emitter.length_bytes
    seen = []
    for block in stream.blocks(pool):
        seen.append((block.index, block.bitmap, chr(block.buffer.data[0])))
        pool.release(block.buffer)
    assert seen == [(0, None, "A"), (2, None, "C")]


def test_a_differencing_stream_keeps_its_bitmaps_and_names_its_parent() -> None:
    parent = ParentLink(name="base.vhd", uuid=uuid_of(61), timestamp=9)
    file = emitted(emitter_of("Ab-", parent=parent))
    disk = VhdFile.open(file)
    assert picture_of(disk) == "Ab-"
    assert disk.footer.differencing
    assert disk.header is not None
    assert disk.header.parent_uuid == uuid_of(61)
    assert disk.parent_candidates() == ["base.vhd"]
    assert check_file(file, now_vhd_s=1000) == []


def test_some_of_the_blocks() -> None:
    file = emitted(emitter_of("ABCD", indexes=[1, 3]))
    assert picture_of(VhdFile.open(file)) == "-B-D"


def test_a_size_that_is_no_multiple_of_a_block() -> None:
    disk = VhdFile.open(write_picture("AB", size_bytes=BLOCK_BYTES + 512))
    file = emitted(VhdEmitter(disk, uuid=uuid_of(1), timestamp=0))
    again = VhdFile.open(file)
    assert again.virtual_size_bytes == BLOCK_BYTES + 512
    assert flat_of(again) == flat_of(disk)


def test_the_buffer_comes_back() -> None:
    pool = BufferPool(1)
    for _ in emitter_of("AB").chunks(pool):
        pass
    chunks = emitter_of("AB").chunks(pool)
    next(chunks)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    pool.acquire(timeout_s=0)


def test_a_disk_that_breaks_while_it_is_read() -> None:
    file = write_picture("AB")
    emitter = VhdEmitter(VhdFile.open(file), uuid=uuid_of(1), timestamp=0)
    file.truncate(1 << 20)
    pool = BufferPool(1)
    with pytest.raises(Malformed, match="block-short"):
        list(emitter.chunks(pool))
    pool.acquire(timeout_s=0)


def test_a_disk_too_large_is_refused_before_anything_is_sent() -> None:
    class Huge:
        name = "huge.raw"
        virtual_size_bytes = (2040 << 30) + 512

        def block_indexes(self) -> list[int]:
            return []

        def read_block(self, index: int, buffer: object) -> None:
            raise AssertionError

    with pytest.raises(Unsupported, match="a VHD of 2190433321472 bytes"):
        VhdEmitter(Huge(), uuid=uuid_of(1), timestamp=0)
