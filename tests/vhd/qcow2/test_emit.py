"""Any disk as a qcow2 stream: the length first, and what QEMU makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES, BufferPool
from vhd.errors import Unsupported
from vhd.qcow2.emit import Qcow2Emitter
from vhd.qcow2.header import SIZE_MAX_BYTES
from vhd.qcow2.layout import COUNTS_PER_BLOCK, count_clusters
from xotest.pictures import open_picture, raw_of
from xotest.qcow2_images import check_image, mapped, qemu_img, raw_image
from xotest.sparse_disk import SparseDisk, letters

CLUSTER = 1 << 16
TIB = 1 << 40


def emit(emitter: Qcow2Emitter, path: Path) -> Path:
    with path.open("wb") as file:
        for piece in emitter.chunks(BufferPool(1)):
            file.write(piece)
    assert path.stat().st_size == emitter.length_bytes
    return path


@pytest.mark.parametrize("picture", ["-", "A", "-A0-", "bC-z"])
def test_qemu_finds_nothing_wrong_and_reads_the_same_bytes(tmp_path: Path, picture: str) -> None:
    path = emit(Qcow2Emitter(open_picture(picture)), tmp_path / "a.qcow2")
    check_image(path)
    assert raw_image(path) == raw_of([picture])


def test_the_length_is_that_of_the_tables_and_of_the_blocks() -> None:
    assert Qcow2Emitter(open_picture("-")).length_bytes == 4 * CLUSTER
    assert Qcow2Emitter(open_picture("-A0-")).length_bytes == 5 * CLUSTER + 2 * BLOCK_BYTES


def test_a_disk_of_4_tib_costs_what_is_in_it(tmp_path: Path) -> None:
    size = 4 * TIB
    blocks = {0: letters(32, 0), 255: letters(32, 255), 256: letters(32, 256), 2_097_151: letters(32, 2_097_151)}
    path = emit(Qcow2Emitter(SparseDisk(virtual_size_bytes=size, blocks=blocks)), tmp_path / "a.qcow2")
    assert path.stat().st_size == (1 + 2 + 1 + 3) * CLUSTER + 4 * BLOCK_BYTES
    check_image(path)
    assert json.loads(qemu_img("info", "--output=json", path))["virtual-size"] == size
    assert mapped(path) == [(0, BLOCK_BYTES), (255 * BLOCK_BYTES, 2 * BLOCK_BYTES), (size - BLOCK_BYTES, BLOCK_BYTES)]


def test_the_last_cluster_is_whole_whatever_the_size(tmp_path: Path) -> None:
    disk = SparseDisk(virtual_size_bytes=BLOCK_BYTES + CLUSTER + 512, blocks={1: letters(1, 1) + b"x" * 512})
    path = emit(Qcow2Emitter(disk), tmp_path / "a.qcow2")
    assert path.stat().st_size == (4 + 1 + 2) * CLUSTER
    check_image(path)
    assert raw_image(path) == bytes(BLOCK_BYTES) + letters(1, 1) + b"x" * 512


def test_only_the_blocks_asked_for(tmp_path: Path) -> None:
    path = emit(Qcow2Emitter(open_picture("ABC"), indexes=[1]), tmp_path / "a.qcow2")
    check_image(path)
    assert raw_image(path) == raw_of(["-B-"])


@pytest.mark.parametrize("size", [0, SIZE_MAX_BYTES + 512])
def test_a_size_that_no_image_has_is_refused(size: int) -> None:
    with pytest.raises(Unsupported, match="qcow2 image"):
        Qcow2Emitter(SparseDisk(virtual_size_bytes=size))


@pytest.mark.parametrize("content", [1, COUNTS_PER_BLOCK - 2, COUNTS_PER_BLOCK - 1, 1 << 28, 8192 * COUNTS_PER_BLOCK])
def test_reference_counts_count_themselves(content: int) -> None:
    table, blocks = count_clusters(content)
    assert (blocks - 1) * COUNTS_PER_BLOCK < content + table + blocks <= blocks * COUNTS_PER_BLOCK
    assert (table - 1) * CLUSTER < 8 * blocks <= table * CLUSTER
