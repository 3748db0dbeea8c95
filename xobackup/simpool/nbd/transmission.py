"""The transmission phase of one connection: reads answered in order, everything else refused.

Requests are read while earlier answers are still on their way, so that an added latency delays every answer by the
same time and a client with many requests in flight does not feel it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.http.wire import Disconnected
from xobackup.simpool.link import Cable, Pacer
from xobackup.simpool.nbd import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.http.wire import Connection
    from xobackup.simpool.storage.composed import ComposedDisk
    from xobackup.simpool.toolstack import Toolstack

READ_MAX_BYTES = 64 << 20
"""A longer read is refused: no client asks for it, and it would be memory."""


class Transmission:
    """Runs until the client goes; counts what it did."""

    def __init__(self, toolstack: Toolstack, connection: Connection, disk: ComposedDisk) -> None:
        self._connection = connection
        self._disk = disk
        self._fault = toolstack.faults.take("break", "nbd")
        self._link = toolstack.faults.link("nbd")
        self._send: Callable[[bytes | memoryview], None] = connection.send
        self.requests = 0
        self.sent_bytes = 0
        self.outcome = "ok"

    def run(self) -> None:
        cable: Cable | None = None
        if self._link.bytes_per_s is not None:
            self._send = Pacer(self._send, self._link.bytes_per_s).send
        if self._link.latency_s > 0:
            self._connection.share()
            cable = Cable(self._send, self._link.latency_s, errors=(Disconnected, OSError))
            self._send = cable.send
        try:
            while (request := self._request()) is not None:
                self.requests += 1
                self._answer(request)
        except (Disconnected, OSError):
            self.outcome = "dropped" if self.outcome == "dropped" else "disconnected"
        finally:
            if cable is not None:
                cable.close()

    def _request(self) -> protocol.Request | None:
        """The next request, or ``None`` when the client says goodbye."""
        head = self._connection.read_exactly(protocol.REQUEST.size)
        if not head:
            return None
        if len(head) < protocol.REQUEST.size:
            raise Disconnected("half a request")
        magic, _flags, kind, handle, offset, length = protocol.REQUEST.unpack(head)
        if magic != protocol.REQUEST_MAGIC:
            raise Disconnected(f"no request: {magic:#x}")
        if kind == protocol.CMD_DISC:
            return None
        if kind == protocol.CMD_WRITE:
            self._skip(length)
        return protocol.Request(kind=kind, handle=handle, offset=offset, length=length)

    def _skip(self, length: int) -> None:
        while length:
            got = len(self._connection.read_exactly(min(length, 1 << 20)))
            if not got:
                raise Disconnected("half a write")
            length -= got

    def _answer(self, request: protocol.Request) -> None:
        error = self._refusal(request)
        if error:
            self._send(protocol.answer(request, error))
            return
        fault = self._fault
        if fault is not None and self.sent_bytes + request.length > fault.after_bytes:
            if fault.how != "error":
                self.outcome = "dropped"
                if fault.still is not None:
                    fault.still()
                self._connection.reset()
                raise Disconnected("planned")
            self._fault = None
            self._send(protocol.answer(request, protocol.EIO))
            return
        head = protocol.REPLY.size
        answer = memoryview(bytearray(head + request.length))
        answer[:head] = protocol.answer(request)
        self._disk.read_into(request.offset, answer[head:])
        self._send(answer)
        self.sent_bytes += request.length

    def _refusal(self, request: protocol.Request) -> int:
        if request.kind == protocol.CMD_WRITE:
            return protocol.EPERM
        if request.kind != protocol.CMD_READ or not 0 < request.length <= READ_MAX_BYTES:
            return protocol.EINVAL
        if request.offset + request.length > self._disk.virtual_size_bytes:
            return protocol.EINVAL
        return 0
