"""The block list of an export stream: which 2 MiB blocks a disk has, or a delta. The data are read by NBD.

The tables of a qcow2 export come before its data, too: 64 KiB for each 512 MiB of the disk with anything in them.

XAPI's NBD servers do not say where anything is allocated, and its delta exports know what changed. Both come in the
table at the head of an export stream, which is closed right after it (Xen Orchestra does the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vhd.block import BufferPool
from vhd.qcow2.stream import Qcow2Stream
from xobackup.engine.errors import TransferMismatch
from xobackup.engine.reading.nbd import NbdReading
from xobackup.engine.reading.source import Flow, Parents, Subject
from xobackup.engine.reading.streamed import begun_stream, timed_reads
from xobackup.xapi.transfer import open_export


def block_list(subject: Subject, *, delta: bool) -> list[int]:
    """Blocks that the disk (or its delta to the base) has. Raises what an export raises."""
    with begun_stream(subject, delta=delta) as (stream, export):
        found = stream.block_indexes()
        if not found:  # then the end is near: hear the pool out
            for _ in stream.blocks(BufferPool(1)):
                pass
            export.finish()
        return found


def image_block_list(subject: Subject) -> list[int]:
    """Blocks that a qcow2 disk has. Raises what an export raises, and :class:`vhd.errors.VhdError` where the tables
    are not what can be read."""
    cancel = subject.cancel
    cancel.check()
    export = open_export(
        subject.session,
        subject.vdi_ref,
        format="qcow2",
        task_label=subject.task_label,
        should_stop=lambda: cancel.cancelled,
    )
    with export, cancel.waking(export.cancel):
        stream = Qcow2Stream(timed_reads(export, subject.meter), name=f"export of disk {subject.name}")
        stream.begin()
        if stream.virtual_size_bytes != subject.virtual_size_bytes:
            raise TransferMismatch("virtual size", subject.virtual_size_bytes, stream.virtual_size_bytes)
        found = stream.block_list()
        if not found:  # then the end is near: hear the pool out
            stream.end()
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
            indexes=indexes,
        ) as flow:
            yield flow
