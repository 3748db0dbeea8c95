"""A disk of the pool, read by NBD, as blocks.

:meth:`NbdDisk.blocks` reads whole blocks, over several connections with many requests in flight each, and gives them
as they come, in any order, each once. Blocks of zeros are left out of a full: found by the server's map of holes
where it has one, else by looking. :meth:`NbdDisk.changed` reads what changed since another snapshot. It gives whole
blocks by default, because Xen Orchestra's merge treats every stored block as whole; ``precise`` reads only the
changed 64 KiB ranges and says so in the blocks' bitmaps, for callers that fill in the rest from the parent before
they store it.

It also satisfies :class:`vhd.block.Disk`, one block at a time, without any pipeline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from vhd.block import BLOCK_BYTES, Bitmap, Block, BlockBuffer, BufferPool, blank_past_end
from xobackup.clock import Clock
from xobackup.xapi.changed_blocks import ChangedBlocks
from xobackup.xapi.nbd.allocation import allocated_blocks
from xobackup.xapi.nbd.connection import NbdConnection
from xobackup.xapi.nbd.errors import NbdCancelled, NbdError, NbdReadFailed
from xobackup.xapi.nbd.lane import Lane, lanes_for
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.servers import Connector, Servers
from xobackup.xapi.nbd.target import NbdTarget, TargetSource
from xobackup.xapi.nbd.wire import Wire
from xobackup.xapi.nbd.work import BlockRead, NbdStats, Work

T = TypeVar("T")


class NbdDisk:
    """Nothing happens before :meth:`begin`. :meth:`cancel` may be called from any thread."""

    def __init__(
        self,
        source: TargetSource,
        *,
        name: str,
        clock: Clock,
        virtual_size_bytes: int | None = None,
        options: NbdOptions | None = None,
    ) -> None:
        self.name = name
        self.stats = NbdStats()
        self._options = options or NbdOptions()
        self._connector = Connector(
            Servers(source), options=self._options, clock=clock, size_bytes=virtual_size_bytes
        )
        self._lock = threading.RLock()
        self._ready: tuple[NbdTarget, NbdConnection] | None = None
        self._opening: Wire | None = None
        self._running: tuple[Work, list[Lane]] | None = None
        self._cancelled = False

    def begin(self) -> None:
        """Connect to one of the servers; the export must hold the disk's size, if that was given."""
        with self._lock:
            export = self._connected().export
            if self._connector.size_bytes is None:
                self._connector.size_bytes = export.size_bytes

    def __enter__(self) -> NbdDisk:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def virtual_size_bytes(self) -> int:
        assert self._connector.size_bytes is not None, "not begun"
        return self._connector.size_bytes

    @property
    def block_count(self) -> int:
        return -(-self.virtual_size_bytes // BLOCK_BYTES)

    @property
    def knows_holes(self) -> bool:
        """Whether the server tells where holes are; XAPI's do not."""
        with self._lock:
            return self._connected().export.allocation is not None

    def block_indexes(self) -> list[int]:
        """Blocks the server does not call zeros; all of them where it does not tell."""
        if self.knows_holes:
            try:
                return self._asking(lambda connection: allocated_blocks(connection, self.virtual_size_bytes))
            except NbdReadFailed as error:
                self.stats.note(error)
        return list(range(self.block_count))

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """One whole block."""
        inside = min(BLOCK_BYTES, self.virtual_size_bytes - index * BLOCK_BYTES)
        assert index >= 0 and inside > 0, f"block {index} lies outside the disk"
        self._asking(lambda connection: connection.read_into(index * BLOCK_BYTES, buffer.data[:inside]))
        blank_past_end(buffer, index, self.virtual_size_bytes)
        return None

    def blocks(
        self, pool: BufferPool, *, indexes: Sequence[int] | None = None, skip_zeros: bool = True
    ) -> Iterator[Block]:
        """Whole blocks ``indexes`` (all that hold anything), in any order; the caller releases their buffers.

        ``skip_zeros`` leaves out blocks of zeros: right for a full, wrong for a delta, where zeros replace the
        parent's data. Raises from the :class:`XapiError` tree.
        """
        wanted = self.block_indexes() if indexes is None else indexes
        assert all(0 <= index < self.block_count for index in wanted) and len(set(wanted)) == len(wanted)
        return self._run([BlockRead(index) for index in wanted], pool, skip_zeros=skip_zeros)

    def changed(self, pool: BufferPool, changes: ChangedBlocks, *, precise: bool = False) -> Iterator[Block]:
        """Blocks with any change, zeros included; whole, or (``precise``) only their changed ranges."""
        assert changes.virtual_size_bytes == self.virtual_size_bytes
        reads = [BlockRead(index, changes.bitmap(index) if precise else None) for index in changes.block_indexes()]
        return self._run(reads, pool, skip_zeros=False)

    def cancel(self) -> None:
        """Stop whatever it does; who waits for it gets :class:`NbdCancelled`."""
        self._cancelled = True
        opening, running = self._opening, self._running
        if opening is not None:
            opening.shut()
        if running is not None:
            _stop(*running)

    def close(self) -> None:
        """End the connection that waits for use."""
        with self._lock:
            self._drop(graceful=True)

    def _run(self, reads: Sequence[BlockRead], pool: BufferPool, *, skip_zeros: bool) -> Iterator[Block]:
        if not reads:
            return
        work = Work(reads, options=self._options, name=self.name, stats=self.stats)
        size = self.virtual_size_bytes
        lanes = [
            Lane(work, self._connector, pool, size_bytes=size, skip_zeros=skip_zeros)
            for _ in range(lanes_for(reads, self._options))
        ]
        self._running = (work, lanes)
        try:
            if self._cancelled:
                raise NbdCancelled(self.name)
            with ThreadPoolExecutor(max_workers=len(lanes), thread_name_prefix="nbd") as threads:
                try:
                    self._start(threads, work, lanes)
                    yield from _delivered(work, len(reads))
                finally:
                    _stop(work, lanes)
        finally:
            self._running = None
            _release(work, pool)

    def _start(self, threads: ThreadPoolExecutor, work: Work, lanes: Sequence[Lane]) -> None:
        with self._lock:
            ready, self._ready = self._ready, None
        for _ in lanes:
            work.lane_begins()

        def ended(future: Future[None]) -> None:
            work.lane_ends(future.exception())

        for number, lane in enumerate(lanes):
            threads.submit(lane.serve, ready if number == 0 else None).add_done_callback(ended)

    def _asking(self, ask: Callable[[NbdConnection], T]) -> T:
        """Ask on the waiting connection; once more on a new one if it breaks."""
        with self._lock:
            try:
                return self._on_ready(ask)
            except NbdError as error:
                if not error.transient or self._cancelled:
                    raise
                self.stats.note(error)
                return self._on_ready(ask)

    def _on_ready(self, ask: Callable[[NbdConnection], T]) -> T:
        connection = self._connected()
        try:
            return ask(connection)
        except BaseException:
            self._drop(graceful=False)
            raise

    def _connected(self) -> NbdConnection:
        """The connection that waits for use, made if there is none."""
        if self._ready is None and not self._cancelled:
            try:
                self._ready = self._connector.first(self._watch, lambda: self._cancelled)
            except NbdError:
                if not self._cancelled:
                    raise
            finally:
                self._opening = None
        if self._ready is None or self._cancelled:
            raise NbdCancelled(self.name)
        return self._ready[1]

    def _watch(self, wire: Wire) -> None:
        self._opening = wire
        if self._cancelled:
            wire.shut()

    def _drop(self, *, graceful: bool) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            self._connector.servers.left(ready[0], failed=not graceful)
            ready[1].close(graceful=graceful)


def _delivered(work: Work, count: int) -> Iterator[Block]:
    """The blocks as they come, until all ``count`` are accounted for."""
    for _ in range(count):
        found = work.results.get()
        if isinstance(found, BaseException):
            raise found
        if found is not None:
            yield found


def _stop(work: Work, lanes: Sequence[Lane]) -> None:
    """End it now. When all is read, lanes say goodbye to their servers; one still connecting need not."""
    complete = work.complete
    work.stop()
    for lane in lanes:
        lane.shut(handshake_only=complete)


def _release(work: Work, pool: BufferPool) -> None:
    """Give back what was read and nobody took."""
    while not work.results.empty():
        left = work.results.get()
        if isinstance(left, Block):
            pool.release(left.buffer)
