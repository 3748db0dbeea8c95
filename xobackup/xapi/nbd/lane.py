"""One lane: a thread with a connection, keeping as many requests in flight as depth and buffers allow.

A lost connection is made again, to whichever server has done best so far, with the export's name asked for anew;
attempts in a row that bring nothing are bounded. What was in flight goes back to the work.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence

from vhd.block import BLOCK_BYTES, SECTOR_BYTES, Block, BlockBuffer, BufferPool, blank_absent, blank_past_end, runs
from xobackup.xapi.errors import XapiError
from xobackup.xapi.nbd.connection import NbdConnection, Read
from xobackup.xapi.nbd.errors import NbdReadFailed
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.servers import LOOK_S, Connector
from xobackup.xapi.nbd.target import NbdTarget
from xobackup.xapi.nbd.wire import Wire
from xobackup.xapi.nbd.work import BlockRead, Work

_ZEROS = bytearray(BLOCK_BYTES)


def is_zero(data: memoryview) -> bool:
    """Whether a block's data are all zeros. A bytearray compares by one memcmp; two views would byte by byte."""
    return _ZEROS == data  # noqa: SIM300 - the left side decides who compares


class _Pending:
    """A block whose requests are in flight."""

    __slots__ = ("buffer", "failure", "left", "read", "zero")

    def __init__(self, read: BlockRead, buffer: BlockBuffer) -> None:
        self.read = read
        self.buffer = buffer
        self.left = 0
        self.failure: NbdReadFailed | None = None
        self.zero = True


class Lane:
    """:meth:`serve` runs in a thread of its own; :meth:`shut` may be called from any."""

    def __init__(
        self, work: Work, connector: Connector, pool: BufferPool, *, size_bytes: int, skip_zeros: bool
    ) -> None:
        self._work = work
        self._connector = connector
        self._options = connector.options
        self._pool = pool
        self._size_bytes = size_bytes
        self._skip_zeros = skip_zeros
        self._pending: dict[int, _Pending] = {}
        self._wire: Wire | NbdConnection | None = None
        self._blocks = 0

    def watch(self, wire: Wire | NbdConnection) -> None:
        """What :meth:`shut` has to break."""
        self._wire = wire
        if self._work.over and not (self._work.complete and isinstance(wire, NbdConnection)):
            wire.shut()

    def shut(self, *, handshake_only: bool = False) -> None:
        """Break what it waits for; with ``handshake_only`` not a connection that is in use already."""
        wire = self._wire
        if wire is not None and not (handshake_only and isinstance(wire, NbdConnection)):
            wire.shut()

    def serve(self, ready: tuple[NbdTarget, NbdConnection] | None = None) -> None:
        """Read until the work is over; raises what ended this lane before."""
        tries = 0
        while not self._work.over:
            before = self._blocks
            try:
                self._one_connection(ready)
            except XapiError as error:
                tries = 1 if self._blocks > before else tries + 1
                if self._work.over:
                    return
                if not error.transient or tries >= self._options.reconnect_tries:
                    raise
                self._work.note(error)
                self._connector.pause(lambda: self._work.over)
            ready = None
        if ready is not None:  # others were done before this lane began: nobody else would end its connection
            self._connector.servers.left(ready[0], failed=False)
            ready[1].close()

    def _one_connection(self, ready: tuple[NbdTarget, NbdConnection] | None) -> None:
        servers = self._connector.servers
        target = ready[0] if ready else servers.choose()
        failed = True
        connection = None
        try:
            connection = ready[1] if ready else self._connector.connect(target, self.watch)
            self.watch(connection)
            self._read(connection, target)
            failed = False
        finally:
            servers.left(target, failed=failed and not self._work.over)
            if connection is not None:
                self._work.count(received_bytes=connection.received_bytes, in_flight_max=connection.in_flight_max)
                connection.close(graceful=not failed and not connection.in_flight)
            self._wire = None

    def _read(self, connection: NbdConnection, target: NbdTarget) -> None:
        try:
            while True:
                self._fill(connection)
                if not connection.in_flight:
                    return  # nothing in flight and nothing to ask for: the work is over
                done = connection.next_done()
                assert isinstance(done, Read) and isinstance(done.owner, _Pending)
                self._answered(done, done.owner, target)
        except XapiError as error:
            self._abandon(error)
            raise
        finally:
            self._release()

    def _fill(self, connection: NbdConnection) -> None:
        """Ask for more while there is room, blocks and buffers; waits for them only when nothing is in flight."""
        room = self._options.depth * self._options.request_bytes
        fresh: list[Read] = []
        asked = connection.in_flight_bytes
        while asked < room and not self._work.over:
            idle = not fresh and not connection.in_flight
            read = self._work.take(wait=idle)
            if read is None:
                break
            buffer = self._buffer(wait=idle)
            if buffer is None:
                self._work.put_back(read)
                break
            pending = _Pending(read, buffer)
            self._pending[read.index] = pending
            requests = self._requests(pending, connection.request_bytes)
            pending.left = len(requests)
            fresh += requests
            asked += sum(request.length for request in requests)
        connection.submit(fresh)

    def _requests(self, pending: _Pending, request_bytes: int) -> list[Read]:
        """The reads of one block: one run of sectors each, cut at the disk's end and at the longest request."""
        data = pending.buffer.data
        start = pending.read.index * BLOCK_BYTES
        inside = min(BLOCK_BYTES, self._size_bytes - start)
        found = []
        for first, count in runs(pending.read.bitmap):
            end = min((first + count) * SECTOR_BYTES, inside)
            for at in range(first * SECTOR_BYTES, end, request_bytes):
                found.append(Read(start + at, data[at : min(at + request_bytes, end)], pending))
        assert found, f"block {pending.read.index}: nothing to read in it"
        return found

    def _buffer(self, *, wait: bool) -> BlockBuffer | None:
        while True:
            try:
                return self._pool.acquire(timeout_s=LOOK_S if wait else 0.0)
            except queue.Empty:
                if not wait or self._work.over:
                    return None

    def _answered(self, done: Read, pending: _Pending, target: NbdTarget) -> None:
        pending.left -= 1
        pending.failure = pending.failure or done.failure
        pending.zero = pending.zero and done.zero
        if pending.left:
            return
        del self._pending[pending.read.index]
        if pending.failure is not None:
            self._pool.release(pending.buffer)
            self._work.give_back(pending.read, pending.failure)
            return
        self._blocks += 1
        self._connector.servers.works(target)
        self._deliver(pending)

    def _deliver(self, pending: _Pending) -> None:
        read, buffer = pending.read, pending.buffer
        blank_absent(buffer, read.bitmap)
        blank_past_end(buffer, read.index, self._size_bytes)
        if self._skip_zeros and (pending.zero or is_zero(buffer.data)):
            self._pool.release(buffer)
            self._work.done(None)
        else:
            self._work.done(Block(index=read.index, bitmap=read.bitmap, buffer=buffer))

    def _abandon(self, error: XapiError) -> None:
        """The connection is gone: what was in flight is for somebody else, or for us later."""
        for pending in reversed(self._pending.values()):
            self._work.give_back(pending.read, error)

    def _release(self) -> None:
        for pending in self._pending.values():
            self._pool.release(pending.buffer)
        self._pending.clear()


def lanes_for(reads: Sequence[BlockRead], options: NbdOptions) -> int:
    """How many connections are worth it: each costs the host an attach of the disk."""
    return max(1, min(options.connections, -(-len(reads) // options.depth)))
