"""Short requests to one host over connections that are kept: what calls go over, hundreds of them in a run.

:class:`Exchange` may be shared by threads. Each request has a connection to itself; afterwards it waits for the next
one, unless the host said that it would close it, or has. An answer is bounded in size and in time, and its end is
known from its head: a length, chunks, or the end of the connection. Raises only :mod:`xobackup.xapi.errors`; nothing
is ever sent twice.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from xobackup.xapi.address import Endpoint
from xobackup.xapi.errors import ConnectionLost, ProtocolError, Unreachable, clean_text
from xobackup.xapi.http11 import Connection, Head

CONNECTIONS_MAX = 64
"""Each waiting ``event.from`` holds one."""
IDLE_MAX = 8
"""How many wait for another request."""
IDLE_S = 30.0
"""How long one waits; stunnel before XAPI gives up after minutes."""
RECEIVE_BYTES = 64 * 1024
CHUNK_LINE_BYTES_MAX = 4096
WITHOUT_BODY = (204, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    content_type: str
    body: bytes


class Exchange:
    """See the module's head."""

    def __init__(self, endpoint: Endpoint, *, tls: ssl.SSLContext, connect_s: float, answer_bytes_max: int) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._connect_s = connect_s
        self._bytes_max = answer_bytes_max
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []  # since when; the latest one last
        self._busy: set[Connection] = set()
        self._closed = False

    def post(self, target: str, headers: Mapping[str, str], body: bytes, *, limit_s: float) -> Answer:
        """Send a request and read its answer, ``limit_s`` from the first byte sent to the last one received."""
        connection = self._take(limit_s)
        kept = False
        try:
            connection.set_timeout(limit_s)
            connection.set_deadline(time.monotonic() + limit_s)
            connection.request("POST", target, {**headers, "Content-Length": str(len(body))}, body)
            head = connection.read_head()
            reader = _Reader(connection, self._endpoint.authority, self._bytes_max)
            found = reader.body_of(head)
            kept = head.kept and reader.at_the_end
            return Answer(status=head.status, content_type=head.headers.get("content-type", ""), body=found)
        finally:
            self._give_back(connection, kept=kept)

    def close(self) -> None:
        """Requests that are under way end with an error."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._busy:
                connection.shut()
        for _, connection in idle:
            connection.close()

    def _take(self, limit_s: float) -> Connection:
        """One to oneself, until it is given back."""
        if not self._places.acquire(timeout=limit_s):
            raise Unreachable(self._endpoint.authority, f"all {CONNECTIONS_MAX} connections are busy")
        try:
            connection = self._waiting() or Connection.open(self._endpoint, tls=self._tls, connect_s=self._connect_s)
        except BaseException:
            self._places.release()
            raise
        with self._lock:
            self._busy.add(connection)
        return connection

    def _give_back(self, connection: Connection, *, kept: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            gone = [connection]
            if kept and not self._closed:
                self._idle.append((time.monotonic(), connection))
                gone = [old for _, old in self._idle[:-IDLE_MAX]]
                self._idle = self._idle[-IDLE_MAX:]
        for old in gone:
            old.close()
        self._places.release()

    def _waiting(self) -> Connection | None:
        """A connection of an earlier request on which the host has said nothing since: what it says is goodbye."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since_s, connection = self._idle.pop()
            if time.monotonic() - since_s < IDLE_S and not connection.wait(0):
                return connection
            connection.close()


class _Reader:
    """The body of one answer."""

    def __init__(self, connection: Connection, peer: str, bytes_max: int) -> None:
        self._connection = connection
        self._peer = peer
        self._bytes_max = bytes_max
        self._unread = bytearray()
        self._framed = True

    @property
    def at_the_end(self) -> bool:
        """The answer ended before the connection did, and nothing came after it."""
        return self._framed and not self._unread

    def body_of(self, head: Head) -> bytes:
        if head.status in WITHOUT_BODY:
            return b""
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            return self._chunks()
        length = head.headers.get("content-length")
        if length is None:
            self._framed = False
            return self._rest()
        if not (length.isascii() and length.isdigit()):
            raise ProtocolError(self._peer, f"expected a length, found {clean_text(length)[:40]!r}")
        self._check(int(length))
        return self._exactly(int(length))

    def _rest(self) -> bytes:
        found = bytearray()
        while more := self._connection.receive(RECEIVE_BYTES):
            found += more
            self._check(len(found))
        return bytes(found)

    def _chunks(self) -> bytes:
        found = bytearray()
        while True:
            line = self._line()
            size = line.partition(b";")[0].strip()
            try:
                count = int(size, 16)
            except ValueError:
                count = -1
            if count < 0:
                raise ProtocolError(self._peer, f"expected a chunk's size, found {clean_text(repr(line[:40]))}")
            if count == 0:
                break
            self._check(len(found) + count)
            found += self._exactly(count)
            self._line()
        while self._line().strip():
            pass  # trailers
        return bytes(found)

    def _line(self) -> bytes:
        while (end := self._unread.find(b"\n")) < 0:
            if len(self._unread) > CHUNK_LINE_BYTES_MAX:
                raise ProtocolError(self._peer, "expected a chunk, found a line without an end")
            self._more()
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line

    def _exactly(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._more()
        found = bytes(self._unread[:count])
        del self._unread[:count]
        return found

    def _more(self) -> None:
        more = self._connection.receive(RECEIVE_BYTES)
        if not more:
            raise ConnectionLost(self._peer, "closed before the answer was complete")
        self._unread += more

    def _check(self, size: int) -> None:
        if size > self._bytes_max:
            raise ProtocolError(self._peer, f"the answer is bigger than {self._bytes_max} bytes")
