"""What every way of reading a disk has in common.

A source is asked twice: :meth:`Source.prepare` asks the pool what there is to read and leaves nothing open, so that
nothing has been written when the answer is no; :meth:`Source.opened` reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from vhd.block import Block, BufferPool
from xobackup.engine.pump import whole

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.progress import Meter
    from xobackup.engine.reading.slots import NbdSlots
    from xobackup.engine.view import PoolSnapshot
    from xobackup.repository.base_disk import BaseDisk
    from xobackup.xapi.image_format import ImageFormat
    from xobackup.xapi.nbd.options import NbdOptions
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A snapshot's disk to be read. ``vdi`` is its record; ``base`` what a delta continues."""

    session: Session
    vdi_ref: str
    vdi: Mapping[str, Any]
    live_ref: str
    image_format: ImageFormat
    name: str
    task_label: str
    base: PoolSnapshot | None
    nbd: NbdOptions
    slots: NbdSlots
    cancel: CancelToken
    meter: Meter

    @property
    def virtual_size_bytes(self) -> int:
        return int(self.vdi["virtual_size"])


@dataclass(slots=True, kw_only=True)
class Flow:
    """A disk on its way. ``received_bytes`` is true once ``finish`` has returned."""

    total_bytes: int
    """Of the blocks to come; an upper bound where zeros are left out."""
    indexes: Sequence[int]
    """Blocks that may come, ascending. Those left out on the way are zeros, or as in the base."""
    blocks: Callable[[BufferPool], Iterator[Block]]
    finish: Callable[[], None]
    """To call after the last block: raises unless all of it was right."""
    received_bytes: Callable[[], int]
    cost: Callable[[Block], int] = whole
    """What a block took on the wire."""
    buffers: int | None = None
    """How many buffers keep it busy; ``None``: as the job says."""
    notes: Callable[[], list[str]] = list
    """What went wrong on the way and was got past."""
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """What somebody should look at: a remote, and a sentence."""


Parents = Callable[[], Mapping[str, "BaseDisk | None"]]
"""Opens the disk that a delta continues, on every remote that is written to (by name); ``None``: it cannot be."""


class Source(Protocol):
    """One way to read one disk."""

    def prepare(self) -> None: ...

    def opened(self, parents: Parents) -> AbstractContextManager[Flow]: ...


def timed_blocks(blocks: Iterator[Block], pool: BufferPool, meter: Meter) -> Iterator[Block]:
    """``blocks``, counting the time waited for each as the source's, unless it waits for a buffer itself."""
    with closed(blocks):
        while True:
            before, free = time.perf_counter(), pool.free
            block = next(blocks, None)
            if free:
                meter.busy("source", time.perf_counter() - before)
            if block is None:
                return
            yield block


@contextmanager
def closed(blocks: Iterator[Block]) -> Iterator[None]:
    """Close a generator of blocks at the end, whatever happened: its threads and connections end with it."""
    try:
        yield
    finally:
        close = getattr(blocks, "close", None)
        if close is not None:
            close()
