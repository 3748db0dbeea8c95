"""Read a disk ahead of its consumer: several blocks in flight, delivered in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from vhd.block import Bitmap, Block, BlockBuffer, BufferPool, Disk
from xobackup.engine.cancel import CancelToken

WORKERS = 4
"""Threads that read; storage wants several requests in flight, Python gains nothing from more."""
DEPTH = 8
"""Blocks of 2 MiB read ahead."""
HINTED = 8
"""Blocks after those that the storage is told of, so that it fetches them meanwhile."""


@runtime_checkable
class FarAway(Protocol):
    """A disk whose storage is worth asking for several blocks at a time, since each answer takes its time."""

    @property
    def parallel(self) -> int: ...


@runtime_checkable
class Hinted(Protocol):
    """A disk whose storage can be told what is read soon."""

    def will_read(self, index: int) -> bool:
        """Whether it could."""
        ...


def blocks_of(
    disk: Disk, indexes: Sequence[int], *, cancel: CancelToken, workers: int | None = None
) -> Iterator[Block]:
    """The blocks of ``indexes`` in that order. A block's buffer is the consumer's until it asks for the next one."""
    parallel = disk.parallel if isinstance(disk, FarAway) else 1
    workers, depth = workers or max(WORKERS, parallel), max(DEPTH, parallel)
    pool = BufferPool(depth + 1)
    flight: deque[tuple[int, BlockBuffer, Future[Bitmap]]] = deque()
    rest, ahead = iter(indexes), _hints(disk, indexes[depth:])
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read") as threads:

        def send() -> bool:
            index = next(rest, None)
            if index is None:
                return False
            next(ahead, None)
            buffer = pool.acquire()
            flight.append((index, buffer, threads.submit(disk.read_block, index, buffer)))
            return True

        try:
            while len(flight) < depth and send():
                pass
            while flight:
                cancel.check()
                index, buffer, future = flight.popleft()
                bitmap = future.result()
                send()
                yield Block(index, bitmap, buffer)
                pool.release(buffer)
        finally:
            for _, _, future in flight:
                future.cancel()


def _hints(disk: Disk, indexes: Sequence[int]) -> Iterator[None]:
    """Each step tells the storage of one more block, the first of several, as long as it listens."""
    hint = disk.will_read if isinstance(disk, Hinted) else None
    for at, index in enumerate(indexes):
        if hint is None or not hint(index):
            return
        if at >= HINTED:
            yield


class ReadAhead:
    """A disk whose blocks are asked for once each, in ascending order: each answer is there already.

    ``indexes``: the blocks that will be asked for. Satisfies :class:`vhd.block.Disk`; use :meth:`close` at the end.
    """

    def __init__(
        self, disk: Disk, indexes: Sequence[int], *, cancel: CancelToken, workers: int | None = None
    ) -> None:
        """``workers`` 1: the disk is read in order, block after block."""
        self._disk = disk
        self._indexes = list(indexes)
        self._ahead = blocks_of(disk, self._indexes, cancel=cancel, workers=workers)

    @property
    def name(self) -> str:
        return self._disk.name

    @property
    def virtual_size_bytes(self) -> int:
        return self._disk.virtual_size_bytes

    def block_indexes(self) -> list[int]:
        return self._indexes

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        block = next(self._ahead)
        assert block.index == index, f"asked for block {index} out of order, {block.index} is next"
        buffer.data[:] = block.buffer.data
        return block.bitmap

    def close(self) -> None:
        """Stop reading ahead."""
        close = getattr(self._ahead, "close", None)
        if close is not None:
            close()


class Padded:
    """A disk seen as a larger one: zeros past its end. To fill a target that is larger than what it gets."""

    def __init__(self, disk: Disk, size_bytes: int) -> None:
        assert size_bytes >= disk.virtual_size_bytes
        self._disk = disk
        self._size_bytes = size_bytes
        self._own = -(-disk.virtual_size_bytes // len(BlockBuffer().data))
        self.parallel = disk.parallel if isinstance(disk, FarAway) else 1

    @property
    def name(self) -> str:
        return self._disk.name

    @property
    def virtual_size_bytes(self) -> int:
        return self._size_bytes

    def block_indexes(self) -> list[int]:
        return self._disk.block_indexes()

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        if index < self._own:
            return self._disk.read_block(index, buffer)
        buffer.data[:] = bytes(len(buffer.data))
        return bytes(len(buffer.bitmap))
