"""A disk as a compact qcow2 file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.errors import Unsupported
from vhd.qcow2.writer import Qcow2FileWriter
from xotest.memory_file import MemoryFile
from xotest.pictures import open_picture, raw_of
from xotest.qcow2_images import begun, check_image, raw_image, read_pieces
from xotest.sparse_disk import SparseDisk, letters

CLUSTER = 1 << 16
TIB = 1 << 40


def write(disk: SparseDisk) -> MemoryFile:
    file, buffer = MemoryFile(name="a.qcow2"), BlockBuffer()
    writer = Qcow2FileWriter(file, size_bytes=disk.virtual_size_bytes)
    for index in disk.block_indexes():
        disk.read_block(index, buffer)
        writer.write_block(index, buffer.data)
    assert file.size() <= writer.finish()
    return file


def put(file: MemoryFile, path: Path) -> Path:
    path.write_bytes(file.data())
    return path


@pytest.mark.parametrize("picture", ["-", "A", "-A0-", "bC-z"])
def test_qemu_finds_nothing_wrong_and_reads_the_same_bytes(tmp_path: Path, picture: str) -> None:
    path = put(write(open_picture(picture)), tmp_path / "a.qcow2")  # type: ignore[arg-type]
    check_image(path)
    assert raw_image(path) == raw_of([picture])


def test_clusters_of_zeros_take_no_room_and_the_rest_is_found(tmp_path: Path) -> None:
    one, zero = letters(1, 7), bytes(CLUSTER)
    blocks = {0: zero + one + one + zero + one, 5: b"", 300: one, 2_097_151: zero * 31 + one}
    file = write(SparseDisk(virtual_size_bytes=4 * TIB, blocks=blocks))
    # header and L1, three tables, five clusters, reference counts and their table
    assert file.size() == (2 + 3 + 5 + 2) * CLUSTER
    check_image(put(file, tmp_path / "a.qcow2"))
    found = dict(read_pieces(file))
    starts = [0, 300 * BLOCK_BYTES, 4 * TIB - CLUSTER]
    assert sorted(found) == [CLUSTER, 2 * CLUSTER, 4 * CLUSTER, *starts[1:]]
    assert set(found.values()) == {one}


def test_the_last_cluster_is_whole(tmp_path: Path) -> None:
    disk = SparseDisk(virtual_size_bytes=BLOCK_BYTES + 512, blocks={1: b"x" * 512})
    path = put(write(disk), tmp_path / "a.qcow2")
    check_image(path)
    assert raw_image(path) == bytes(BLOCK_BYTES) + b"x" * 512


def test_a_file_without_its_end_is_no_image() -> None:
    file, buffer = MemoryFile(), BlockBuffer()
    writer = Qcow2FileWriter(file, size_bytes=BLOCK_BYTES)
    buffer.data[:] = letters(32, 0)
    writer.write_block(0, buffer.data)
    assert file.data()[:4] == bytes(4)


def test_a_disk_of_no_size_is_refused() -> None:
    with pytest.raises(Unsupported):
        Qcow2FileWriter(MemoryFile(), size_bytes=0)


def test_what_was_written_can_be_streamed() -> None:
    assert begun(write(open_picture("A-bC"))).block_list() == [0, 2, 3]  # type: ignore[arg-type]
