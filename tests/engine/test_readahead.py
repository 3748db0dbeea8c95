"""Reading ahead: the order kept, the storage told what comes, and nothing more than that."""

from __future__ import annotations

import pytest

from vhd.block import Bitmap, BlockBuffer
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.readahead import DEPTH, HINTED, ReadAhead, blocks_of


class Plain:
    """A disk whose block ``n`` begins with the byte ``n``."""

    name = "plain"
    virtual_size_bytes = 64 << 21

    def __init__(self) -> None:
        self.read: list[int] = []

    def block_indexes(self) -> list[int]:
        return list(range(64))

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        self.read.append(index)
        buffer.data[0] = index
        return None


class Hinted(Plain):
    """Notes what it is told; stops listening after ``listens`` hints."""

    def __init__(self, listens: int = 1000) -> None:
        super().__init__()
        self.hinted: list[int] = []
        self.early: set[int] = set()
        self._listens = listens

    def will_read(self, index: int) -> bool:
        self.hinted.append(index)
        if index not in self.read:
            self.early.add(index)
        return len(self.hinted) < self._listens


INDEXES = list(range(0, 60, 2))


@pytest.mark.parametrize("disk", [Plain(), Hinted(), Hinted(listens=3)])
def test_blocks_come_in_the_order_asked_for(disk: Plain) -> None:
    found = [(block.index, block.buffer.data[0]) for block in blocks_of(disk, INDEXES, cancel=CancelToken())]
    assert found == [(index, index) for index in INDEXES]
    assert sorted(disk.read) == INDEXES


def test_the_storage_is_told_of_every_block_that_is_not_read_at_once_before_it_is() -> None:
    disk = Hinted()
    for _ in blocks_of(disk, INDEXES, cancel=CancelToken()):
        pass
    assert disk.hinted == INDEXES[DEPTH:]
    assert disk.early == set(disk.hinted)


def test_the_hints_stay_a_bounded_number_of_blocks_ahead() -> None:
    disk = Hinted()
    blocks = blocks_of(disk, INDEXES, cancel=CancelToken())
    next(blocks)
    assert len(disk.hinted) <= HINTED + DEPTH + 1 < len(INDEXES) - DEPTH
    blocks.close()


def test_storage_that_does_not_listen_is_not_told_again() -> None:
    disk = Hinted(listens=1)
    for _ in blocks_of(disk, INDEXES, cancel=CancelToken()):
        pass
    assert len(disk.hinted) == 1


def test_a_disk_asked_in_order_answers_from_what_was_read_ahead() -> None:
    ahead = ReadAhead(Hinted(), INDEXES, cancel=CancelToken())
    buffer = BlockBuffer()
    for index in INDEXES:
        assert ahead.read_block(index, buffer) is None
        assert buffer.data[0] == index
    ahead.close()


def test_cancelling_stops_at_the_next_block() -> None:
    cancel = CancelToken()
    blocks = blocks_of(Plain(), INDEXES, cancel=cancel)
    next(blocks)
    cancel.cancel("enough")
    with pytest.raises(Cancelled):
        next(blocks)
