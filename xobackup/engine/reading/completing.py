"""Blocks of which only the changed ranges were read, completed from the disk that the delta continues.

Only bytes that agree with the digest taken when they were written are used; zeros only where every digest file says
that there never was a block. A remote whose block is damaged or missing is told of, and the block completed from
another one; where none has it, it goes to ``failed`` and is read whole from the pool. A block that turns out to be
what the parent has already is left out, when the only remote that would store it has just given that parent.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum, auto
from typing import TYPE_CHECKING

from vhd.block import SECTOR_BYTES, Bitmap, Block, BlockBuffer, BufferPool, runs
from xobackup.engine.reading.source import closed

if TYPE_CHECKING:
    from xobackup.repository.base_disk import BaseDisk

WORKERS = 4
"""Blocks completed at a time; the reader needs five buffers or more, so some are left for what is in flight."""
TOLD_MAX = 3
"""Blocks named per remote; the others are counted."""


class _Found(Enum):
    COMPLETE = auto()
    SAME = auto()
    FAILED = auto()


class Completer:
    """``parents``: the disk that the delta continues, by remote that will store it; ``None``: it cannot be opened."""

    def __init__(self, parents: Mapping[str, BaseDisk | None]) -> None:
        self._parents = {remote: parent for remote, parent in parents.items() if parent is not None}
        self._alone = len(parents) == 1
        self._spares = BufferPool(WORKERS)
        self._problems: Counter[str] = Counter()
        self.warnings: list[tuple[str, str]] = []
        self.same = 0

    def knows(self, index: int) -> bool:
        """Whether any remote can prove what its block ``index`` should be."""
        return any(parent.knows(index) for parent in self._parents.values())

    def completed(self, blocks: Iterator[Block], pool: BufferPool, failed: list[int]) -> Iterator[Block]:
        """``blocks``, whole ones as they are; ``failed`` gets the indexes of those that could not be completed."""
        waiting: deque[tuple[Block, Future[_Found]]] = deque()
        with closed(blocks), ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="complete") as threads:
            try:
                for block in blocks:
                    if block.bitmap is None:
                        yield block
                        continue
                    waiting.append((block, threads.submit(self._complete, block)))
                    if len(waiting) >= WORKERS:
                        yield from self._next(waiting, pool, failed)
                while waiting:
                    yield from self._next(waiting, pool, failed)
            finally:
                for block, future in waiting:
                    if not future.cancel():
                        future.exception()
                    pool.release(block.buffer)
                self._sum_up()

    def _next(
        self, waiting: deque[tuple[Block, Future[_Found]]], pool: BufferPool, failed: list[int]
    ) -> Iterator[Block]:
        block, future = waiting[0]
        found = future.result()
        waiting.popleft()
        if found is _Found.COMPLETE:
            yield Block(block.index, None, block.buffer)
            return
        pool.release(block.buffer)
        if found is _Found.FAILED:
            failed.append(block.index)
        else:
            self.same += 1

    def _complete(self, block: Block) -> _Found:
        spare = self._spares.acquire()
        try:
            return self._complete_with(block, spare)
        finally:
            self._spares.release(spare)

    def _complete_with(self, block: Block, spare: BlockBuffer) -> _Found:
        for remote, parent in self._parents.items():
            if not parent.knows(block.index):
                continue
            problem = parent.read_block(block.index, spare)
            if problem:
                self._tell(remote, problem)
                continue
            if self._alone and _agrees(block.bitmap, block.buffer, spare):
                return _Found.SAME
            for first, count in runs(block.bitmap, present=False):
                start, end = first * SECTOR_BYTES, (first + count) * SECTOR_BYTES
                block.buffer.data[start:end] = spare.data[start:end]
            return _Found.COMPLETE
        return _Found.FAILED

    def _tell(self, remote: str, problem: str) -> None:
        self._problems[remote] += 1
        if self._problems[remote] <= TOLD_MAX:
            self.warnings.append((remote, f"{problem}; read from elsewhere for this backup, run verify"))

    def _sum_up(self) -> None:
        for remote, count in self._problems.items():
            if count > TOLD_MAX:
                self.warnings.append((remote, f"and {count - TOLD_MAX} blocks more"))
        self._problems.clear()


def _agrees(bitmap: Bitmap, one: BlockBuffer, other: BlockBuffer) -> bool:
    """Whether two blocks are equal in the sectors of ``bitmap``."""
    for first, count in runs(bitmap):
        start, end = first * SECTOR_BYTES, (first + count) * SECTOR_BYTES
        if bytes(one.data[start:end]) != bytes(other.data[start:end]):
            return False
    return True
