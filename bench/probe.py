"""What it costs to look how well passing blocks can be compressed, against the pump that they pass through anyway.

The sink only takes digests, which is the least that any sink does; with a disk or a network in the way the share is
smaller still. Half of the blocks can be compressed, half cannot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.measure import Settings, Variant, interleave, seconds
from bench.rows import Row
from vhd.block import BLOCK_BYTES, Block, BufferPool
from xobackup.clock import SystemClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.probe import Probe
from xobackup.engine.progress import Meter
from xobackup.engine.pump import pump
from xobackup.engine.throttle import Throttle
from xobackup.repository.digests import entry_of

BLOCKS = 1500
GOAL = 0.08


def rows(settings: Settings) -> Iterator[Row]:
    count, pool = settings.blocks(BLOCKS), _filled(8)
    times = interleave(
        [
            Variant(name="pump", run=lambda: _pump(pool, count)),
            Variant(name="probe alone", run=lambda: _look(pool, count)),
        ],
        settings.runs,
    )
    gib = count * BLOCK_BYTES / (1 << 30)
    alone = f"the probe costs {1000 * times['probe alone'] / gib:.1f} ms/GiB"
    yield Row(
        name="probe of compressibility / pump to a sink that only digests",
        ratio=times["probe alone"] / times["pump"],
        goal=GOAL,
        better="lower",
        detail=f"{count * 2} MiB: {seconds(times)}; {alone}",
    )


class _Digests:
    def write_block(self, block: Block) -> None:
        entry_of(None, block.buffer.data)


def _filled(count: int) -> BufferPool:
    """Buffers of text and of noise, which keep it."""
    text = b"".join(b"line %d of a log that says little\n" % line for line in range(70_000))[:BLOCK_BYTES]
    pool = BufferPool(count)
    for number, buffer in enumerate([pool.acquire() for _ in range(count)]):
        buffer.data[:] = text.ljust(BLOCK_BYTES, b".") if number % 2 else os.urandom(BLOCK_BYTES)
        pool.release(buffer)
    return pool


def _blocks(pool: BufferPool, count: int) -> Iterator[Block]:
    for index in range(count):
        yield Block(index=index, bitmap=None, buffer=pool.acquire())


def _look(pool: BufferPool, count: int) -> None:
    probe = Probe()
    for block in _blocks(pool, count):
        probe.see(block)
        pool.release(block.buffer)


def _pump(pool: BufferPool, count: int) -> None:
    clock = SystemClock()
    pump(
        _blocks(pool, count),
        [("digests", _Digests())],
        pool=pool,
        meter=Meter("probe", clock),
        throttle=Throttle(None, clock),
        cancel=CancelToken(),
    )
