"""The list of blocks to read, shared by the threads that read them, and what comes of it.

A block is taken by one lane, then done or given back. It is asked for a bounded number of times, whatever goes wrong
(``block_tries``; ``read_tries`` where the server answered with an error). The work is over when every block is done,
when one cannot be read, when the last lane is gone, or when somebody stops it.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from vhd.block import Bitmap, Block
from xobackup.xapi.errors import XapiError
from xobackup.xapi.nbd.errors import NbdCancelled, NbdReadFailed
from xobackup.xapi.nbd.options import NbdOptions

PROBLEMS_MAX = 20
"""Different problems a reader keeps for its report."""


@dataclass(frozen=True, slots=True)
class BlockRead:
    """A block to read: whole, or the sectors of ``bitmap`` only."""

    index: int
    bitmap: Bitmap = None


@dataclass(slots=True)
class NbdStats:
    """What reading took, for reports."""

    received_bytes: int = 0
    zero_blocks: int = 0
    """Blocks left out because they are zeros."""
    connections: int = 0
    in_flight_max: int = 0
    """Most requests in flight on one connection."""
    problems: list[str] = field(default_factory=list)
    """What went wrong on the way and was got past."""

    def note(self, problem: object) -> None:
        text = str(problem)
        if text not in self.problems and len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


class Work:
    """Thread-safe. ``results`` gets, for each block, the block or ``None`` (zeros, left out), or an error, once."""

    def __init__(self, reads: Sequence[BlockRead], *, options: NbdOptions, name: str, stats: NbdStats) -> None:
        self.stats = stats
        self.results: SimpleQueue[Block | BaseException | None] = SimpleQueue()
        self._options = options
        self._name = name
        self._todo = deque(reads)
        self._left = len(reads)
        self._tries: Counter[int] = Counter()
        self._failed_reads: Counter[int] = Counter()
        self._changed = threading.Condition()
        self._ended = False
        self._lanes = 0

    @property
    def over(self) -> bool:
        return self._ended or self._left == 0

    @property
    def complete(self) -> bool:
        """Every block is done."""
        return self._left == 0 and not self._ended

    def take(self, *, wait: bool) -> BlockRead | None:
        """The next block; ``None`` when there is none now, or (``wait``) never again."""
        with self._changed:
            while not self._todo:
                if not wait or self.over:
                    return None
                self._changed.wait()
            if self.over:
                return None
            return self._todo.popleft()

    def put_back(self, read: BlockRead) -> None:
        """It was not asked for after all."""
        with self._changed:
            self._todo.appendleft(read)
            self._changed.notify()

    def done(self, block: Block | None) -> None:
        """Deliver a block; ``None``: it is zeros."""
        with self._changed:
            self.results.put(block)
            self._left -= 1
            if block is None:
                self.stats.zero_blocks += 1
            if self.over:
                self._changed.notify_all()

    def give_back(self, read: BlockRead, error: BaseException) -> None:
        """It was asked for in vain: another lane may, unless it has been tried too often."""
        with self._changed:
            if not self.over:
                self.stats.note(error)
            self._tries[read.index] += 1
            final = self._tries[read.index] >= self._options.block_tries
            if isinstance(error, NbdReadFailed):
                self._failed_reads[read.index] += 1
                final = final or not error.transient
                final = final or self._failed_reads[read.index] >= self._options.read_tries
            self._todo.appendleft(read)
            self._changed.notify()
            if final:
                self._end(error)

    def note(self, problem: object) -> None:
        with self._changed:
            self.stats.note(problem)

    def count(self, *, received_bytes: int, in_flight_max: int) -> None:
        """What a connection did, at its end."""
        with self._changed:
            self.stats.received_bytes += received_bytes
            self.stats.in_flight_max = max(self.stats.in_flight_max, in_flight_max)
            self.stats.connections += 1

    def lane_begins(self) -> None:
        with self._changed:
            self._lanes += 1

    def lane_ends(self, error: BaseException | None) -> None:
        """With an error: this lane gave up. That is the work's end only if no lane is left."""
        with self._changed:
            self._lanes -= 1
            if error is not None and not self.over:
                self.stats.note(error)
                if not self._lanes or not isinstance(error, XapiError):
                    self._end(error)

    def stop(self) -> None:
        """No more blocks are wanted; whoever waits for one gets :class:`NbdCancelled`."""
        with self._changed:
            if not self.over:
                self._end(NbdCancelled(self._name))

    def _end(self, error: BaseException) -> None:
        if not self.over:
            self._ended = True
            self.results.put(error)
        self._changed.notify_all()
