"""The export stream as a source: a delta or a full, data included. What every pool can do.

A stream counts only when it was whole (length, trailing footer) and the pool's task says success.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vhd.block import BLOCK_BYTES
from vhd.footer import DiskType
from vhd.stream import VhdStream
from xobackup.engine.errors import TransferMismatch
from xobackup.engine.reading.source import Flow, Parents, Subject
from xobackup.xapi.transfer import VdiExport, open_export

if TYPE_CHECKING:
    from xobackup.engine.progress import Meter

KIND_OF_STREAM = "kind of stream"


class Streamed:
    """One export stream; ``delta``: with the subject's base."""

    def __init__(self, subject: Subject, *, delta: bool) -> None:
        self._subject = subject
        self._delta = delta

    def prepare(self) -> None:
        """What there is to read comes with the stream."""

    @contextmanager
    def opened(self, parents: Parents) -> Iterator[Flow]:
        with begun_stream(self._subject, delta=self._delta) as (stream, export):
            indexes = stream.block_indexes()
            total = len(indexes) * BLOCK_BYTES
            yield Flow(
                total_bytes=total,
                indexes=indexes,
                blocks=stream.blocks,
                finish=export.finish,
                received_bytes=lambda: total,
            )


@contextmanager
def begun_stream(subject: Subject, *, delta: bool) -> Iterator[tuple[VhdStream, VdiExport]]:
    """An export stream whose head has been read and is what was asked for."""
    assert not delta or subject.base is not None
    cancel = subject.cancel
    cancel.check()
    with (
        open_export(
            subject.session,
            subject.vdi_ref,
            base_ref=subject.base.vdi_ref if delta and subject.base else None,
            task_label=subject.task_label,
            should_stop=lambda: cancel.cancelled,
        ) as export,
        cancel.waking(export.cancel),
    ):
        stream = VhdStream(timed_reads(export, subject.meter), name=f"export of disk {subject.name}")
        stream.begin()
        check_stream(stream, subject.vdi, delta=delta)
        yield stream, export


def check_stream(stream: VhdStream, vdi: Mapping[str, Any], *, delta: bool) -> None:
    """Whether what the pool sends is what was asked for: the size, and a delta only when there is a base."""
    expected = int(vdi["virtual_size"])
    rounded = -(-expected // BLOCK_BYTES) * BLOCK_BYTES  # how raw sources are announced
    if stream.virtual_size_bytes not in (expected, rounded):
        raise TransferMismatch("virtual size", expected, stream.virtual_size_bytes)
    kind = DiskType.DIFFERENCING if delta else DiskType.DYNAMIC
    if stream.footer.disk_type != kind:
        raise TransferMismatch(KIND_OF_STREAM, kind.name.lower(), DiskType(stream.footer.disk_type).name.lower())


def timed_reads(export: VdiExport, meter: Meter) -> Callable[[memoryview], int]:
    """The export's ``readinto``, counting the time it takes as the source's."""

    def read_into(buffer: memoryview) -> int:
        before = time.perf_counter()
        count = export.readinto(buffer)
        meter.busy("source", time.perf_counter() - before)
        return count

    return read_into
