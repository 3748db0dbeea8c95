"""A minimal HTTP/1.1 client. For transfers: one request per connection, bodies read into the caller's buffers.

XAPI's handlers answer without Content-Length, without chunks and without keep-alive: the end of the connection is
the end of the body. So all that is needed is a request head, an answer's head, and a socket; in exchange the hot
path is one ``recv_into`` per piece, about twice as fast over TLS as a general client. Calls, whose answers do have
a length, go over the same connections (:mod:`xobackup.xapi.exchange`).

The receive buffer of the socket is left to the kernel: setting it would switch its auto-tuning off, which is what
lets a fast line with a long way have enough bytes in flight.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

from xobackup.xapi.address import Endpoint
from xobackup.xapi.errors import (
    AnswerTimeout,
    ConnectionLost,
    ProtocolError,
    TlsError,
    TransportError,
    Unreachable,
    clean_text,
)
from xobackup.xapi.tls import CheckedContext, Dial

HEAD_BYTES_MAX = 64 * 1024
SEND_BYTES = 1024 * 1024
"""At most this much per send, so that the idle timeout is about silence and not about the caller's buffer size."""

_REFUSED_TEXT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of an answer; header names in lower case, the last one of a name counts."""

    status: int
    reason: str
    headers: Mapping[str, str]
    old: bool = False
    """HTTP/1.0."""

    @property
    def kept(self) -> bool:
        """Whether the peer keeps the connection for another request."""
        said = self.headers.get("connection", "").lower()
        return "keep-alive" in said if self.old else "close" not in said


class Connection:
    """One connection to one host. :meth:`shut` may be called from any thread, everything else from one at a time."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self._sock = sock
        self._peer = peer
        self._early = memoryview(b"")  # received with the head or peeked at, not yet taken
        self._until_s: float | None = None
        self.ended = False
        """The peer has closed its side, and all of it was taken."""
        self.ragged = False
        """It closed without saying goodbye (TLS close_notify): a reset looks like that too. Some peers always do."""

    @classmethod
    def open(cls, endpoint: Endpoint, *, tls: ssl.SSLContext, connect_s: float) -> Connection:
        """Connect and, if the endpoint is secure, shake hands; the policy is checked in ``tls``."""
        peer = endpoint.authority
        if isinstance(tls, CheckedContext) and tls.dial is not None:
            return cls(_dialled(tls.dial, endpoint, connect_s), peer)
        try:
            plain = socket.create_connection((endpoint.host, endpoint.port), timeout=connect_s)
        except TimeoutError as error:
            raise Unreachable(peer, f"no connection within {connect_s:g} s") from error
        except OSError as error:
            raise Unreachable(peer, f"cannot connect: {error.strerror or error}") from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock = plain
            if endpoint.secure:
                sock = tls.wrap_socket(plain, server_hostname=endpoint.host, suppress_ragged_eofs=False)
        except TimeoutError as error:
            plain.close()
            raise Unreachable(peer, f"no TLS handshake within {connect_s:g} s") from error
        except ssl.SSLError as error:
            plain.close()
            raise TlsError(peer, f"TLS does not come about: {clean_text(str(error.reason or error))}") from error
        except OSError as error:
            plain.close()
            raise Unreachable(peer, f"cannot connect: {error.strerror or error}") from error
        return cls(sock, peer)

    def set_timeout(self, seconds: float) -> None:
        """The silence allowed from now on."""
        self._sock.settimeout(seconds)

    def set_deadline(self, until_s: float) -> None:
        """The time, as ``time.monotonic`` counts it, until which heads and pieces may come."""
        self._until_s = until_s

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a request's head, and a small ``body`` with it. ``target`` must be encoded already."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._peer}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        assert not any("\r" in line or "\n" in line for line in lines)
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``."""
        view = memoryview(data).cast("B")
        at = 0
        try:
            while at < len(view):
                at += self._sock.send(view[at : at + SEND_BYTES])
        except (OSError, ValueError) as error:
            raise self._lost("sending", error) from error

    def read_head(self) -> Head:
        """The answer's head (informational ones skipped)."""
        while True:
            head = self._one_head()
            if head.status >= 200:
                return head

    def receive_into(self, buffer: memoryview) -> int:
        """Fill ``buffer``; fewer bytes only at the end of the body."""
        done = 0
        if self._early:
            done = min(len(buffer), len(self._early))
            buffer[:done] = self._early[:done]
            self._early = self._early[done:]
        size = len(buffer)
        receive = self._sock.recv_into
        try:
            while done < size:
                count = receive(buffer[done:])
                if count == 0:
                    self.ended = True
                    break
                done += count
        except ssl.SSLEOFError:
            self.ended = self.ragged = True
        except (OSError, ValueError) as error:
            raise self._lost("receiving", error) from error
        return done

    def receive(self, count: int) -> bytes:
        """What is there, at most ``count`` bytes of it, waiting for the first one; nothing at the end."""
        if self._early:
            found = bytes(self._early[:count])
            self._early = self._early[count:]
            return found
        return self._receive(count)

    def wait(self, seconds: float) -> bool:
        """Whether there is something to receive, waiting at most ``seconds`` for it."""
        if self._early or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes without taking them; fewer only at the end."""
        while len(self._early) < count:
            more = self._receive(count - len(self._early))
            if not more:
                break
            self._early = memoryview(bytes(self._early) + more)
        return bytes(self._early[:count])

    def text(self) -> bytes:
        """What is left of a small body, for a message; never raises and never takes more than 64 KiB."""
        parts = bytearray()
        with contextlib.suppress(TransportError):
            while len(parts) < _REFUSED_TEXT_BYTES:
                buffer = bytearray(4096)
                count = self.receive_into(memoryview(buffer)[: max(1, len(self._early) or 4096)])
                parts += buffer[:count]
                if self.ended:
                    break
        return bytes(parts)

    def shut(self) -> None:
        """Break the connection; a thread waiting in another method wakes up with an error."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's, which is for one thread only

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def _one_head(self) -> Head:
        raw = bytearray()
        while (end := _end_of_head(raw)) is None:
            if len(raw) > HEAD_BYTES_MAX:
                raise ProtocolError(self._peer, f"the answer's head is longer than {HEAD_BYTES_MAX} bytes")
            more = bytes(self._early) or self._receive(16384)
            self._early = memoryview(b"")
            if not more:
                found = clean_text(raw[:80].decode("latin-1"))
                raise ConnectionLost(self._peer, f"closed before an answer was complete; so far {found!r}")
            raw += more
        self._early = memoryview(bytes(raw[end:]))
        return parse_head(bytes(raw[:end]), peer=self._peer)

    def _receive(self, count: int) -> bytes:
        if self._until_s is not None:
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:
                raise AnswerTimeout(self._peer, "receiving: the answer was not complete in time")
            self._sock.settimeout(left_s)
        try:
            return self._sock.recv(count)
        except ssl.SSLEOFError:
            self.ragged = True
            return b""
        except (OSError, ValueError) as error:
            raise self._lost("receiving", error) from error

    def _lost(self, doing: str, error: Exception) -> TransportError:
        if isinstance(error, TimeoutError):
            return AnswerTimeout(self._peer, f"{doing}: silence for {self._sock.gettimeout() or 0:g} s")
        why = getattr(error, "strerror", None) or clean_text(str(error)) or type(error).__name__
        return ConnectionLost(self._peer, f"{doing}: the connection broke: {why}")


def _dialled(dial: Dial, endpoint: Endpoint, connect_s: float) -> socket.socket:
    try:
        return dial(endpoint.host, endpoint.port, connect_s)
    except OSError as error:
        raise Unreachable(endpoint.authority, f"cannot connect: {error}") from error


def parse_head(raw: bytes, *, peer: str) -> Head:
    """Parse a head up to and including its empty line; tolerant about spaces and line ends as XAPI needs it."""
    lines = raw.decode("latin-1").replace("\r\n", "\n").split("\n")
    version, _, rest = lines[0].partition(" ")
    code, _, reason = rest.strip().partition(" ")
    if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isascii() and code.isdigit()):
        raise ProtocolError(peer, f"expected an HTTP/1.1 answer, found {clean_text(lines[0])[:80]!r}")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    old = version == "HTTP/1.0"
    return Head(status=int(code), reason=clean_text(reason), headers=headers, old=old)


def _end_of_head(raw: bytearray) -> int | None:
    ends = [at + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := raw.find(mark)) >= 0]
    return min(ends, default=None)
