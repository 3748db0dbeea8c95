"""The block list of an export stream: which 2 MiB blocks a disk has, or a delta. The data are read by NBD.

XAPI's NBD servers do not say where anything is allocated, and its delta exports know what changed. Both come in the
table at the head of an export stream, which is closed right after it (Xen Orchestra does the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vhd.block import BLOCK_BYTES, BufferPool
from xobackup.engine.reading.nbd import NbdReading
from xobackup.engine.reading.source import Flow, Parents, Subject
from xobackup.engine.reading.streamed import begun_stream


def block_list(subject: Subject, *, delta: bool) -> list[int]:
    """Blocks that the disk (or its delta to the base) has. Raises what an export raises."""
    with begun_stream(subject, delta=delta) as (stream, export):
        found = stream.block_indexes()
        if not found:  # then the end is near: hear the pool out
            for _ in stream.blocks(BufferPool(1)):
                pass
            export.finish()
        return found


class Listed:
    """A delta: changed blocks by the list of a delta export, whole, by NBD."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._reading = NbdReading(subject)
        self._indexes: list[int] = []

    def prepare(self) -> None:
        self._indexes = block_list(self._subject, delta=True)

    @contextmanager
    def opened(self, parents: Parents) -> Iterator[Flow]:
        indexes = self._indexes
        with self._reading.flow(
            lambda disk, pool: disk.blocks(pool, indexes=indexes, skip_zeros=False),
            total_bytes=len(indexes) * BLOCK_BYTES,
        ) as flow:
            yield flow
