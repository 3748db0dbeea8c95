"""Changed block tracking as a source: exactly the 64 KiB ranges that were written, completed to whole blocks.

What is stored are whole blocks, because Xen Orchestra's merge ignores bitmaps; so the rest of a block comes from the
disk that the delta continues (:mod:`~xobackup.engine.reading.completing`). Blocks which cannot be completed from
there with certainty are read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vhd.block import Block, BufferPool
from xobackup.engine.errors import EngineError
from xobackup.engine.reading.completing import Completer
from xobackup.engine.reading.nbd import NbdReading
from xobackup.engine.reading.source import Flow, Parents, Subject
from xobackup.xapi.cbt import CbtRefusal, changed_between, delta_refusal
from xobackup.xapi.changed_blocks import ChangedBlocks
from xobackup.xapi.errors import NotFound
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.records import VdiRecord


class CbtRefused(EngineError):
    """The changes of a disk cannot be asked for."""

    def __init__(self, refusal: CbtRefusal) -> None:
        self.refusal = refusal
        super().__init__(str(refusal))


class Tracked:
    """One delta."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._reading = NbdReading(subject)
        self._changes = ChangedBlocks.of_ranges((), virtual_size_bytes=subject.virtual_size_bytes)

    def prepare(self) -> None:
        """Ask for the changes; raises :class:`CbtRefused`."""
        base, snapshot = self._base(), self._record(self._subject.vdi_ref)
        refusal = delta_refusal(live=self._record(self._subject.live_ref), base=base, snapshot=snapshot)
        if refusal is not None:
            raise CbtRefused(refusal)
        assert base is not None
        found = changed_between(self._subject.session, base, snapshot)
        if isinstance(found, CbtRefusal):
            raise CbtRefused(found)
        self._changes = found

    @contextmanager
    def opened(self, parents: Parents) -> Iterator[Flow]:
        changes = self._changes
        indexes = changes.block_indexes()
        partial = [index for index in indexes if changes.bitmap(index) is not None]
        completer = Completer(parents() if partial else {})
        unsure = [index for index in partial if not completer.knows(index)]
        precise = changes.widened(unsure)

        def read(disk: NbdDisk, pool: BufferPool) -> Iterator[Block]:
            failed: list[int] = []
            yield from completer.completed(disk.changed(pool, precise, precise=True), pool, failed)
            yield from disk.blocks(pool, indexes=sorted(failed), skip_zeros=False)

        with self._reading.flow(read, indexes=indexes) as flow:
            problems = flow.notes
            flow.notes = lambda: [*_unsure(unsure), *problems()]
            flow.warnings = completer.warnings
            flow.cost = lambda block: precise.bytes_in(block.index)
            yield flow

    def _base(self) -> VdiRecord | None:
        base = self._subject.base
        assert base is not None
        try:
            return self._record(base.vdi_ref)
        except NotFound:
            return None

    def _record(self, ref: str) -> VdiRecord:
        return VdiRecord.parse(ref, self._subject.session.record("VDI", ref))


def _unsure(indexes: list[int]) -> list[str]:
    if not indexes:
        return []
    return [f"{len(indexes)} blocks were read whole: the backup has no digests to complete them by"]
