"""One stream of bytes into several consumers, each with a thread of its own, in bounded memory.

The caller's thread reads into the buffers of a :class:`~vhd.block.BufferPool`; a buffer goes back when all consumers
are done with it, which holds the reader to the pace of the slowest. A consumer that fails drops out and the others go
on; when an *essential* one fails, or no other is left, reading stops.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

from vhd.block import BlockBuffer, BufferPool
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import AllSinksFailed
from xobackup.engine.progress import Meter
from xobackup.engine.throttle import Throttle

ACQUIRE_S = 0.5
"""How often a reader that waits for a slow consumer looks whether it should stop."""

Consume = Callable[[Iterator[memoryview]], None]
"""Takes pieces in order; each is valid until the next one is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Somebody who takes the whole stream. Without an essential one nothing of it is any good."""

    name: str
    consume: Consume
    essential: bool = False


@dataclass(slots=True, kw_only=True)
class BytesPumped:
    """What went through. ``failures``: consumers that dropped out."""

    size_bytes: int = 0
    failures: dict[str, BaseException] = field(default_factory=dict)


class _Shared:
    """A piece on its way to several consumers; the last one gives the buffer back."""

    __slots__ = ("_buffer", "_left", "_lock", "_pool", "view")

    def __init__(self, buffer: BlockBuffer, size: int, readers: int, pool: BufferPool) -> None:
        self.view = buffer.data[:size]
        self._buffer = buffer
        self._left = readers
        self._pool = pool
        self._lock = threading.Lock()

    def done(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._pool.release(self._buffer)


class _Lane:
    """A consumer with its queue and thread. The queue's length is bounded by the pool's buffers."""

    def __init__(self, consumer: Consumer, meter: Meter) -> None:
        self.consumer = consumer
        self.broken = threading.Event()
        self.queue: SimpleQueue[_Shared | None] = SimpleQueue()
        self.future: Future[None] | None = None
        self._meter = meter
        self._held: _Shared | None = None
        self._ended = False

    def serve(self) -> None:
        """Consume until the end; whatever is left over is given back, so that nobody waits for it."""
        try:
            self.consumer.consume(self._pieces())
        except BaseException:
            self.broken.set()
            raise
        finally:
            while not self._ended:
                self._ended = self._next() is None

    def _pieces(self) -> Iterator[memoryview]:
        while (shared := self._next()) is not None:
            self._held = shared
            since = time.perf_counter()
            yield shared.view
            self._meter.busy(self.consumer.name, time.perf_counter() - since)
        self._ended = True

    def _next(self) -> _Shared | None:
        if self._held is not None:
            self._held.done()
            self._held = None
        self._held = self.queue.get()
        return self._held

    def error(self) -> BaseException | None:
        return self.future.exception() if self.future is not None else None


def pump_bytes(
    read: Callable[[memoryview], int],
    consumers: Sequence[Consumer],
    *,
    pool: BufferPool,
    meter: Meter,
    throttle: Throttle,
    cancel: CancelToken,
    what: str,
) -> BytesPumped:
    """Move all that ``read`` gives (fewer bytes than asked for: the end) into every consumer.

    Raises what ``read`` raises, what an essential consumer raises, :class:`AllSinksFailed` when no other one is left,
    ``Cancelled``.
    """
    lanes = [_Lane(consumer, meter) for consumer in consumers]
    result = BytesPumped()
    with ThreadPoolExecutor(max_workers=max(1, len(lanes)), thread_name_prefix="bytes") as threads:
        for lane in lanes:
            lane.future = threads.submit(lane.serve)
        try:
            _feed(read, lanes, result, pool=pool, meter=meter, throttle=throttle, cancel=cancel)
        finally:
            for lane in lanes:
                lane.queue.put(None)
    for lane in lanes:
        error = lane.error()
        if error is not None and lane.consumer.essential:
            raise error
        if error is not None:
            result.failures[lane.consumer.name] = error
    sinks = [lane for lane in lanes if not lane.consumer.essential]
    if sinks and len(result.failures) == len(sinks):
        raise AllSinksFailed(what, result.failures)
    return result


def _feed(
    read: Callable[[memoryview], int],
    lanes: Sequence[_Lane],
    result: BytesPumped,
    *,
    pool: BufferPool,
    meter: Meter,
    throttle: Throttle,
    cancel: CancelToken,
) -> None:
    count = size = 1
    while count == size:
        buffer = _acquire(pool, cancel)
        size = len(buffer.data)
        try:
            since = time.perf_counter()
            count = read(buffer.data)
            meter.busy("source", time.perf_counter() - since)
            healthy = [lane for lane in lanes if not lane.broken.is_set()]
            stop = cancel.cancelled or not _worth_it(lanes, healthy)
        except BaseException:
            pool.release(buffer)
            raise
        if stop or not count:
            pool.release(buffer)
            cancel.check()
            return
        result.size_bytes += count
        meter.add(count)
        shared = _Shared(buffer, count, len(healthy), pool)
        for lane in healthy:
            lane.queue.put(shared)
        waited = throttle.take(count, cancel)
        if waited:
            meter.busy("throttle", waited)


def _acquire(pool: BufferPool, cancel: CancelToken) -> BlockBuffer:
    while True:
        try:
            return pool.acquire(timeout_s=ACQUIRE_S)
        except queue.Empty:
            cancel.check()


def _worth_it(lanes: Sequence[_Lane], healthy: Sequence[_Lane]) -> bool:
    """Whether everything essential and at least one other consumer is still there."""
    broken = [lane for lane in lanes if lane not in healthy]
    if any(lane.consumer.essential for lane in broken):
        return False
    return any(not lane.consumer.essential for lane in healthy)
