"""One connection with many requests in flight; answers come in any order, data straight into the caller's buffers.

A connection belongs to one thread, which sends requests and takes answers in turn: a request is 28 bytes, so sending
never waits. What the server says about one request (an error) ends that request; anything that is not an answer to
what was asked breaks the connection with a :class:`NbdProtocolError`.
"""

from __future__ import annotations

from collections.abc import Sequence

from vhd.block import blank
from xobackup.clock import Clock
from xobackup.xapi.nbd import protocol
from xobackup.xapi.nbd.errors import NbdError, NbdProtocolError, NbdReadFailed
from xobackup.xapi.nbd.handshake import negotiate
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.protocol import BadBytes, Command, Extent, Kind
from xobackup.xapi.nbd.target import NbdTarget
from xobackup.xapi.nbd.wire import Wire


class Request:
    """Something asked for ``length`` bytes at ``offset``. ``owner`` is the caller's; ``failure`` the server's no."""

    __slots__ = ("covered", "failure", "length", "offset", "owner", "sent_s")
    command: Command

    def __init__(self, offset: int, length: int, owner: object = None) -> None:
        assert 0 < length <= protocol.LENGTH_MAX
        self.offset = offset
        self.length = length
        self.owner = owner
        self.failure: NbdReadFailed | None = None
        self.sent_s = 0.0
        self.covered: list[tuple[int, int]] = []
        """Stretches ``(begin, end)`` answered so far."""


class Read(Request):
    """Bytes into ``view``, which fixes how many."""

    __slots__ = ("view", "zero")
    command = Command.READ

    def __init__(self, offset: int, view: memoryview, owner: object = None) -> None:
        super().__init__(offset, len(view), owner)
        self.view = view
        self.zero = True
        """The server said that all of it is a hole."""


class Query(Request):
    """Where holes are; the answer may cover less than asked."""

    __slots__ = ("extents",)
    command = Command.BLOCK_STATUS

    def __init__(self, offset: int, length: int, owner: object = None) -> None:
        super().__init__(offset, length, owner)
        self.extents: list[Extent] = []


class NbdConnection:
    """Made on a connected :class:`Wire`: the handshake is done on return."""

    def __init__(self, wire: Wire, target: NbdTarget, *, options: NbdOptions, clock: Clock) -> None:
        self._wire = wire
        self._options = options
        self._clock = clock
        self._in_flight: dict[int, Request] = {}
        self._cookie = 0
        self._head = memoryview(bytearray(protocol.CHUNK.size))
        self.in_flight_bytes = 0
        self.in_flight_max = 0
        self.received_bytes = 0
        self.server = wire.server
        self.export = negotiate(wire, target, options)
        self.request_bytes = min(options.request_bytes, self.export.block_bytes_max or options.request_bytes)

    @classmethod
    def open(cls, target: NbdTarget, *, options: NbdOptions, clock: Clock) -> NbdConnection:
        wire = Wire.connect(target, connect_s=options.connect_s, clock=clock)
        try:
            return cls(wire, target, options=options, clock=clock)
        except BaseException:
            wire.close()
            raise

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet."""
        return len(self._in_flight)

    def submit(self, requests: Sequence[Request]) -> None:
        """Send requests; their answers come by :meth:`next_done`."""
        if not requests:
            return
        now = self._clock.monotonic_s()
        parts = []
        for request in requests:
            self._cookie += 1
            request.sent_s = now
            self._in_flight[self._cookie] = request
            self.in_flight_bytes += request.length
            parts.append(protocol.pack_request(request.command, self._cookie, request.offset, request.length))
        self.in_flight_max = max(self.in_flight_max, len(self._in_flight))
        self._wire.send(b"".join(parts))

    def next_done(self) -> Request:
        """Wait until a request, whichever, is answered. There must be one in flight."""
        assert self._in_flight, "nothing was asked"
        try:
            while True:
                request = self._answer()
                if request is not None:
                    return request
        except BadBytes as error:
            raise NbdProtocolError(self.server, str(error)) from error

    def read_into(self, offset: int, view: memoryview) -> None:
        """Read and wait; for what is not worth a pipeline. Nothing else may be in flight."""
        at = 0
        while at < len(view):
            self.submit([Read(offset + at, view[at : at + self.request_bytes])])
            done = self.next_done()
            if done.failure is not None:
                raise done.failure
            at += done.length

    def shut(self) -> None:
        """Break it, from any thread."""
        self._wire.shut()

    def close(self, *, graceful: bool = True) -> None:
        """End it; gracefully: say so to the server, and end TLS properly (a reset makes some peers stumble)."""
        try:
            if graceful:
                self._wire.send(protocol.pack_request(Command.DISC, 0))
        except NbdError:
            graceful = False
        self._wire.close(goodbye_s=self._options.goodbye_s if graceful else 0.0)

    def _answer(self) -> Request | None:
        """Take one answer or a part of one; returns the request it completes."""
        oldest = next(iter(self._in_flight.values()))
        until_s = oldest.sent_s + self._options.request_s
        head = self._head[: protocol.SIMPLE.size]
        self._wire.receive_into(head, until_s=until_s)
        magic = bytes(head[:4])
        if magic == protocol.SIMPLE_MAGIC:
            return self._simple(until_s)
        if magic != protocol.CHUNK_MAGIC or not self.export.structured:
            raise BadBytes(f"expected a reply, found {bytes(head)!r}")
        self._wire.receive_into(self._head[protocol.SIMPLE.size :], until_s=until_s)
        _magic, flags, kind, cookie, length = protocol.CHUNK.unpack(self._head)
        request = self._asked(cookie)
        self._chunk(request, kind, length, until_s)
        if not flags & protocol.DONE:
            if kind == Kind.NONE:
                raise BadBytes("expected the end of an answer in an empty chunk, found none")
            return None
        if request.failure is None:
            _check_covered(request)
        return self._end(cookie)

    def _simple(self, until_s: float) -> Request:
        _magic, number, cookie = protocol.SIMPLE.unpack(self._head[: protocol.SIMPLE.size])
        request = self._asked(cookie)
        if number:
            request.failure = self._failure(request, number)
        elif isinstance(request, Read) and not request.covered:
            request.zero = False
            self._wire.receive_into(request.view, until_s=until_s)
            self.received_bytes += request.length
        else:
            raise BadBytes("expected chunks, found a simple reply")
        return self._end(cookie)

    def _chunk(self, request: Request, kind: int, length: int, until_s: float) -> None:
        """Take a chunk's payload."""
        if kind & protocol.KIND_ERROR:
            self._error_chunk(request, kind, length)
        elif kind == Kind.NONE:
            _check_length("an empty chunk", length, 0)
        elif kind == Kind.BLOCK_STATUS and isinstance(request, Query):
            if request.extents or length > 4 + 8 * protocol.EXTENTS_MAX:
                raise BadBytes(f"expected one list of extents, found another or one of {length} bytes")
            context = self.export.allocation
            if context is None:
                raise BadBytes("found extents, but the server has not offered them")
            payload = self._wire.receive(length, until_s=until_s)
            request.extents = protocol.unpack_extents(
                payload, context=context, offset=request.offset, length=request.length
            )
        elif kind == Kind.OFFSET_DATA and isinstance(request, Read):
            if length < 9:
                raise BadBytes(f"expected an offset and data, found {length} bytes")
            view = self._place(request, length - 8)
            request.zero = False
            self._wire.receive_into(view, until_s=until_s)
            self.received_bytes += len(view)
        elif kind == Kind.OFFSET_HOLE and isinstance(request, Read):
            _check_length("a hole", length, 12)
            blank(self._place(request, None))
        else:
            raise BadBytes(f"expected an answer to {request.command.name}, found a chunk of kind {kind:#x}")

    def _place(self, request: Read, count: int | None) -> memoryview:
        """Where a chunk's data belongs; a hole's length (``None`` here) follows its offset."""
        offset = int.from_bytes(self._wire.receive(8), "big")
        if count is None:
            count = int.from_bytes(self._wire.receive(4), "big")
        begin = offset - request.offset
        end = begin + count
        inside = 0 <= begin < end <= request.length
        if not inside or any(begin < other_end and other < end for other, other_end in request.covered):
            asked = f"{request.length} bytes at {request.offset}"
            raise BadBytes(f"expected a part of {asked} not seen yet, found {count} bytes at {offset}")
        request.covered.append((begin, end))
        return request.view[begin:end]

    def _error_chunk(self, request: Request, kind: int, length: int) -> None:
        if not 6 <= length <= protocol.CHUNK_ERROR_MAX:
            raise BadBytes(f"expected an error and its text, found {length} bytes")
        payload = self._wire.receive(length)
        number, said = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:6], "big")
        if 6 + said > length or not number:
            raise BadBytes(f"expected an error and its text in a chunk of kind {kind:#x}, found {payload[:16]!r}")
        text = payload[6 : 6 + said].decode("utf-8", "replace")
        request.failure = request.failure or self._failure(request, number, text)

    def _failure(self, request: Request, number: int, said: str = "") -> NbdReadFailed:
        return NbdReadFailed(
            self.server,
            errno_name=protocol.errno_name(number),
            offset=request.offset,
            length=request.length,
            transient=protocol.errno_passes(number),
            said=said,
        )

    def _asked(self, cookie: int) -> Request:
        request = self._in_flight.get(cookie)
        if request is None:
            raise BadBytes(f"found an answer to request {cookie}, which is not in flight")
        return request

    def _end(self, cookie: int) -> Request:
        request = self._in_flight.pop(cookie)
        self.in_flight_bytes -= request.length
        return request


def _check_length(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise BadBytes(f"{what}: expected {expected} bytes, found {found}")


def _check_covered(request: Request) -> None:
    """Whether an answer that ended without an error was whole."""
    if isinstance(request, Query):
        if not request.extents:
            raise BadBytes("expected extents, found an answer without any")
        return
    found = sum(end - begin for begin, end in request.covered)  # they do not overlap
    if found != request.length:
        raise BadBytes(f"expected {request.length} bytes at {request.offset}, found only {found}")
