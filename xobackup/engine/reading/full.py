"""A full by NBD: every allocated block by the list of an export stream where the pool gives one, else every block.

Blocks of zeros are left out either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vhd.block import BLOCK_BYTES
from vhd.errors import Malformed, Unsupported
from xobackup.engine.reading.listed import block_list, image_block_list
from xobackup.engine.reading.nbd import NbdReading
from xobackup.engine.reading.source import Flow, Parents, Subject
from xobackup.xapi.errors import FullNeeded, NotSupported, OperatorProblem
from xobackup.xapi.image_format import ImageFormat

NO_LIST = (FullNeeded, OperatorProblem, NotSupported)
"""The pool says no to the list, not to the disk."""


class NbdFull:
    """See the module's head."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._reading = NbdReading(subject)
        self._indexes: list[int] | None = None
        self._notes: list[str] = []

    def prepare(self) -> None:
        try:
            if self._subject.image_format is ImageFormat.QCOW2:
                self._indexes = image_block_list(self._subject)
            else:
                self._indexes = block_list(self._subject, delta=False)
        except (*NO_LIST, Malformed, Unsupported) as error:
            self._notes.append(f"the pool gives no list of blocks, all of them are read: {error}")

    @contextmanager
    def opened(self, parents: Parents) -> Iterator[Flow]:
        indexes = self._indexes
        blocks = -(-self._subject.virtual_size_bytes // BLOCK_BYTES) if indexes is None else len(indexes)
        every = range(blocks) if indexes is None else indexes
        with self._reading.flow(lambda disk, pool: disk.blocks(pool, indexes=indexes), indexes=every) as flow:
            problems = flow.notes
            flow.notes = lambda: [*self._notes, *problems()]
            yield flow
