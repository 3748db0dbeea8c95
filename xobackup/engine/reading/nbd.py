"""A snapshot's disk by NBD: the one place of the engine where a disk of the pool is opened that way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from vhd.block import BLOCK_BYTES, Block, BufferPool
from xobackup.engine.reading.source import Flow, Subject, timed_blocks
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import target_source

ReadBlocks = Callable[[NbdDisk, BufferPool], Iterator[Block]]


class NbdReading:
    """Opens the subject's disk by NBD within the run's budget of connections."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    @contextmanager
    def disk(self) -> Iterator[tuple[NbdDisk, NbdOptions]]:
        """The disk, connected, and with how much; cancelling the run wakes whoever waits for it."""
        subject = self._subject
        with subject.slots.taken(subject.nbd.connections, subject.cancel) as connections:
            options = replace(subject.nbd, connections=connections)
            disk = NbdDisk(
                target_source(subject.session, subject.vdi_ref),
                name=subject.name,
                clock=subject.session.clock,
                virtual_size_bytes=subject.virtual_size_bytes,
                options=options,
            )
            with subject.cancel.waking(disk.cancel), disk:
                yield disk, options

    @contextmanager
    def flow(self, read: ReadBlocks, *, indexes: Sequence[int]) -> Iterator[Flow]:
        """What ``read`` gives, as a flow. With nothing to read nobody connects."""
        if not indexes:
            yield Flow(
                total_bytes=0, indexes=(), blocks=lambda pool: iter(()), finish=_nothing, received_bytes=lambda: 0
            )
            return
        with self.disk() as (disk, options):
            yield Flow(
                buffers=options.buffers_wanted,
                total_bytes=len(indexes) * BLOCK_BYTES,
                indexes=indexes,
                blocks=lambda pool: timed_blocks(read(disk, pool), pool, self._subject.meter),
                finish=_nothing,  # every block was answered for as it came
                received_bytes=lambda: disk.stats.received_bytes,
                notes=lambda: list(disk.stats.problems),
            )


def _nothing() -> None:
    """There is no end to hear: NBD answers each request by itself."""
