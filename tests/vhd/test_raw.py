"""Raw images: what a disk reads as, and back."""

from __future__ import annotations

import pytest

from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.errors import Malformed, VhdError
from vhd.raw import RawDisk, write_raw
from xotest.memory_file import MemoryFile
from xotest.pictures import open_picture, raw_of


@pytest.mark.parametrize("picture", ["A-B", "a0-", "---", "Z"])
def test_what_is_written_is_what_the_disk_reads_as(picture: str) -> None:
    file = MemoryFile(name="raw")
    done: list[int] = []
    written = write_raw(open_picture(picture), file, progress=done.append)
    assert file.data() == raw_of([picture])
    assert written == BLOCK_BYTES * sum(character not in "-0" for character in picture)
    assert len(done) == sum(character != "-" for character in picture)
    assert file.calls[-1] == ("sync",)


@pytest.mark.parametrize("size", [0, 1, 512, 1000, BLOCK_BYTES, BLOCK_BYTES + 513])
def test_a_raw_file_of_any_length_is_a_disk_of_whole_sectors(size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    disk = RawDisk(MemoryFile(content))
    assert disk.virtual_size_bytes == -(-size // 512) * 512
    buffer = BlockBuffer()
    read = b""
    for index in disk.block_indexes():
        assert disk.read_block(index, buffer) is None
        read += bytes(buffer.data)
    assert read[:size] == content
    assert not any(read[size:])


def test_reading_past_the_end_gives_an_absent_block_of_zeros() -> None:
    buffer = BlockBuffer()
    buffer.data[0] = 1
    assert RawDisk(MemoryFile(b"x")).read_block(3, buffer) == bytes(512)
    assert not any(buffer.data)


def test_a_file_that_was_cut_meanwhile_is_an_error() -> None:
    file = MemoryFile(b"x" * 4096)
    disk = RawDisk(file)
    file.truncate(100)
    with pytest.raises(Malformed, match="raw-short"):
        disk.read_block(0, BlockBuffer())


def test_a_file_with_content_is_not_overwritten() -> None:
    with pytest.raises(VhdError, match="expected an empty file"):
        write_raw(open_picture("A"), MemoryFile(b"mine"))
