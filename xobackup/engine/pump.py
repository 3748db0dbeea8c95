"""The pump: blocks from one source into one or several sinks, in bounded memory.

The caller's thread reads; each sink has a thread of its own, so that reading and writing overlap. Blocks travel in
the buffers of one :class:`~vhd.block.BufferPool` and are never copied: when all sinks are done with a block its
buffer goes back, which is also what holds the reader to the pace of the slowest sink. A sink that fails drops out
and the others go on; only when none is left does the pump stop. Cancelling stops at the next block.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from vhd.block import BLOCK_BYTES, Block, BufferPool
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import AllSinksFailed
from xobackup.engine.probe import Probe
from xobackup.engine.progress import Meter
from xobackup.engine.throttle import Throttle


class BlockSink(Protocol):
    """Takes blocks, each once, in any order, from one thread. Must be done with the buffer on return."""

    def write_block(self, block: Block) -> None: ...


@dataclass(slots=True, kw_only=True)
class Pumped:
    """What went through. ``failures`` are the sinks that dropped out, by name."""

    blocks: int = 0
    failures: dict[str, BaseException] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return self.blocks * BLOCK_BYTES


def whole(_block: Block) -> int:
    """All of a block went over the wire."""
    return BLOCK_BYTES


class _Shared:
    """A block on its way to several sinks; the last one gives the buffer back."""

    __slots__ = ("_left", "_lock", "_pool", "block")

    def __init__(self, block: Block, readers: int, pool: BufferPool) -> None:
        self.block = block
        self._left = readers
        self._pool = pool
        self._lock = threading.Lock()

    def done(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._pool.release(self.block.buffer)


class _Lane:
    """One sink with its queue and thread. The queue's length is bounded by the pool's buffers."""

    def __init__(self, name: str, sink: BlockSink, meter: Meter) -> None:
        self.name = name
        self.broken = threading.Event()
        self._sink = sink
        self._meter = meter
        self._queue: SimpleQueue[_Shared | None] = SimpleQueue()
        self.future: Future[None] | None = None

    def put(self, shared: _Shared) -> None:
        self._queue.put(shared)

    def end(self) -> None:
        self._queue.put(None)

    def serve(self) -> None:
        """Write until the end; after a failure keep giving buffers back, so that nobody waits for them."""
        try:
            self._write_all()
        except BaseException:
            self.broken.set()
            while (shared := self._queue.get()) is not None:
                shared.done()
            raise

    def _write_all(self) -> None:
        busy_s = 0.0
        while (shared := self._queue.get()) is not None:
            try:
                before = time.perf_counter()
                self._sink.write_block(shared.block)
                busy_s += time.perf_counter() - before
            finally:
                shared.done()
        self._meter.busy(self.name, busy_s)


def pump(
    source: Iterator[Block],
    sinks: Sequence[tuple[str, BlockSink]],
    *,
    pool: BufferPool,
    meter: Meter,
    throttle: Throttle,
    cancel: CancelToken,
    cost: Callable[[Block], int] = whole,
    what: str = "transfer",
    probe: Probe | None = None,
) -> Pumped:
    """Move every block of ``source`` (whose buffers come from ``pool``) into every sink.

    ``cost``: the bytes that a block took on the wire, for the limit on bandwidth. ``probe`` sees every block.

    Raises what the source raises, :class:`AllSinksFailed` when no sink is left, ``Cancelled``. Sinks are not
    finished or aborted here: who made them does that, with :attr:`Pumped.failures` in hand.
    """
    lanes = [_Lane(name, sink, meter) for name, sink in sinks]
    result = Pumped()
    with ThreadPoolExecutor(max_workers=max(1, len(lanes)), thread_name_prefix="sink") as threads:
        for lane in lanes:
            lane.future = threads.submit(lane.serve)
        try:
            _feed(
                source,
                lanes,
                result,
                pool=pool,
                meter=meter,
                throttle=throttle,
                cancel=cancel,
                cost=cost,
                probe=probe,
            )
        finally:
            for lane in lanes:
                lane.end()
    for lane in lanes:
        error = lane.future.exception() if lane.future else None
        if error is not None:
            result.failures[lane.name] = error
    if lanes and len(result.failures) == len(lanes):
        raise AllSinksFailed(what, result.failures)
    return result


def _feed(
    source: Iterator[Block],
    lanes: Sequence[_Lane],
    result: Pumped,
    *,
    pool: BufferPool,
    meter: Meter,
    throttle: Throttle,
    cancel: CancelToken,
    cost: Callable[[Block], int],
    probe: Probe | None,
) -> None:
    for block in source:
        healthy = [lane for lane in lanes if not lane.broken.is_set()]
        if cancel.cancelled or not healthy:
            pool.release(block.buffer)
            cancel.check()
            return
        result.blocks += 1
        meter.add(BLOCK_BYTES)
        if probe is not None:
            probe.see(block)
        shared = _Shared(block, len(healthy), pool)
        for lane in healthy:
            lane.put(shared)
        waited = throttle.take(cost(block), cancel)
        if waited:
            meter.busy("throttle", waited)
