"""The pump: nothing is lost, memory is bounded, a failing sink drops out, cancelling stops it."""

import threading
from collections.abc import Iterator

import pytest

from vhd.block import BLOCK_BYTES, Block, BufferPool
from xobackup.clock import FakeClock, SystemClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import AllSinksFailed, Cancelled
from xobackup.engine.progress import Meter
from xobackup.engine.pump import pump
from xobackup.engine.throttle import Throttle


class Collect:
    """Remembers what each block began with, and fails or waits on request."""

    def __init__(self, fail_at: int | None = None, gate: threading.Event | None = None) -> None:
        self.seen: dict[int, bytes] = {}
        self.fail_at = fail_at
        self.gate = gate

    def write_block(self, block: Block) -> None:
        if self.gate:
            assert self.gate.wait(10)
        if block.index == self.fail_at:
            raise OSError("disk full")
        assert block.index not in self.seen
        self.seen[block.index] = bytes(block.buffer.data[:4])


def blocks(count: int, pool: BufferPool, *, on_block=None) -> Iterator[Block]:
    for index in range(count):
        buffer = pool.acquire(timeout_s=10)
        buffer.data[:4] = index.to_bytes(4, "big")
        if on_block:
            on_block(index)
        yield Block(index, None, buffer)


def run(count: int, sinks, *, buffers: int = 3, cancel: CancelToken | None = None, on_block=None):
    pool = BufferPool(buffers)
    clock = SystemClock()
    meter = Meter("disk", clock)
    try:
        return pump(
            blocks(count, pool, on_block=on_block),
            sinks,
            pool=pool,
            meter=meter,
            throttle=Throttle(None, clock),
            cancel=cancel or CancelToken(),
        ), meter
    finally:
        for _ in range(buffers):  # every buffer came back, whatever happened
            pool.acquire(timeout_s=5)


@pytest.mark.parametrize("sinks", [1, 2, 3])
def test_every_sink_gets_every_block(sinks: int) -> None:
    collected = [Collect() for _ in range(sinks)]
    result, meter = run(20, [(str(n), sink) for n, sink in enumerate(collected)])
    expected = {index: index.to_bytes(4, "big") for index in range(20)}
    assert all(sink.seen == expected for sink in collected)
    assert result.blocks == 20 and not result.failures
    assert meter.snapshot().done_bytes == 20 * BLOCK_BYTES


def test_a_failing_sink_drops_out_and_the_others_get_everything() -> None:
    good, bad = Collect(), Collect(fail_at=5)
    result, _ = run(20, [("good", good), ("bad", bad)])
    assert len(good.seen) == 20 and len(bad.seen) == 5
    assert list(result.failures) == ["bad"] and "disk full" in str(result.failures["bad"])


def test_when_no_sink_is_left_reading_stops() -> None:
    read = []
    with pytest.raises(AllSinksFailed, match="a: disk full; b: disk full"):
        run(10_000, [("a", Collect(fail_at=0)), ("b", Collect(fail_at=2))], on_block=read.append)
    assert len(read) < 100


def test_a_failing_source_passes_through_and_the_sinks_end() -> None:
    def fail(index: int) -> None:
        if index == 7:
            raise ConnectionResetError("pool went away")

    pool, clock, sink = BufferPool(3), SystemClock(), Collect()
    with pytest.raises(ConnectionResetError):
        pump(
            blocks(20, pool, on_block=fail),
            [("nas", sink)],
            pool=pool,
            meter=Meter("disk", clock),
            throttle=Throttle(None, clock),
            cancel=CancelToken(),
        )
    assert len(sink.seen) == 7


def test_the_reader_waits_for_the_slowest_sink() -> None:
    gate = threading.Event()
    read: list[int] = []
    slow, fast = Collect(gate=gate), Collect()

    def watch(index: int) -> None:
        read.append(index)
        if index == 2:  # three buffers: the fourth block cannot be read before the slow sink moves
            threading.Timer(0.05, lambda: (counts.append(len(read)), gate.set())).start()

    counts: list[int] = []
    run(10, [("slow", slow), ("fast", fast)], buffers=3, on_block=watch)
    assert counts == [3] and len(slow.seen) == len(fast.seen) == 10


def test_cancelling_stops_at_the_next_block() -> None:
    cancel = CancelToken()
    sink = Collect()
    with pytest.raises(Cancelled, match="enough"):
        run(1000, [("nas", sink)], cancel=cancel, on_block=lambda i: cancel.cancel("enough") if i == 5 else None)
    assert len(sink.seen) <= 5


def test_the_throttle_spaces_blocks_out() -> None:
    clock = FakeClock()
    throttle = Throttle(BLOCK_BYTES, clock)  # one block a second
    start = clock.monotonic_s()
    for _ in range(10):
        throttle.take(BLOCK_BYTES, CancelToken())
    assert 9.4 <= clock.monotonic_s() - start <= 10


def test_no_limit_never_waits() -> None:
    clock = FakeClock()
    assert Throttle(None, clock).take(1 << 40, CancelToken()) == 0.0


def test_idle_time_is_not_saved_up() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, clock)
    clock.advance(3600)
    start = clock.monotonic_s()
    for _ in range(10):
        throttle.take(1000, CancelToken())
    assert clock.monotonic_s() - start >= 9
