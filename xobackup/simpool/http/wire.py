"""One HTTP/1.1 connection: requests in, hand-written answers out. Bodies are never chunked, either way."""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from xobackup.simpool.link import Pacer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xobackup.simpool.link import Link

HEADER_MAX_BYTES = 64 * 1024
READ_AHEAD_BYTES = 256 * 1024
DRAIN_MAX_BYTES = 32 << 20
CLOSE_TIMEOUT_S = 1.0
SWALLOW_PAUSE_S = 0.25


class BadRequest(Exception):
    """The request is no HTTP; ``status`` is the line to answer."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(status)


class Disconnected(Exception):
    """The client has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request's head. Header names are lower case; ``query`` holds the cookies' members too."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    old: bool = False
    raw_query: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def content_length(self) -> int | None:
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    def param(self, name: str) -> str | None:
        """A parameter, from the query or else from the cookie."""
        return self.query.get(name, self.cookies.get(name))


class Connection:
    """A client's connection, plain or TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0
        self._unread = 0
        self._pacer: Pacer | None = None
        self._first_byte_s = 0.0
        self._raw = _Raw(sock)
        self._reader = io.BufferedReader(self._raw, READ_AHEAD_BYTES)

    def share(self) -> None:
        """One thread reads while another sends: TLS keeps one state for both ways, which a lock must guard."""
        self._raw.guard = threading.Lock()

    def slow_down(self, link: Link) -> None:
        """Be as slow as the way to the client is."""
        self._first_byte_s = link.first_byte_s
        if link.bytes_per_s is not None:
            self._pacer = Pacer(self._send_now, link.bytes_per_s)

    def begin_body(self) -> None:
        """Called before a transfer's first byte."""
        time.sleep(self._first_byte_s)

    def read_request(self) -> Request | None:
        """The next request, or ``None`` when the client closed."""
        try:
            line = self._reader.readline(HEADER_MAX_BYTES)
            if not line.strip():
                return None
            headers: dict[str, str] = {}
            total = 0
            while (raw := self._reader.readline(HEADER_MAX_BYTES)) not in (b"\r\n", b"\n", b""):
                total += len(raw)
                if total > HEADER_MAX_BYTES:
                    raise BadRequest("431 Request Header Fields Too Large")
                name, _, value = raw.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
        except OSError:
            return None
        request = parse_head(line.decode("latin-1"), headers)
        self._unread = request.content_length or ("transfer-encoding" in headers)
        return request

    def read_into(self, view: memoryview, *, at_once: bool = False) -> int:
        """Some of the body; 0 when the client closed. ``at_once``: what is there, without waiting for all of ``view``
        (a body of which only what it holds says where it ends)."""
        try:
            fill = len(view) >= READ_AHEAD_BYTES and not at_once
            got = self._reader.readinto(view) if fill else self._reader.readinto1(view)
        except OSError:
            return 0
        self._unread -= got
        if self._pacer is not None:
            self._pacer.pause_for(got)
        return got

    def read_exactly(self, count: int) -> bytes:
        """That many bytes; fewer only when the client closed."""
        found = bytearray(count)
        view, done = memoryview(found), 0
        while done < count and (got := self.read_into(view[done:])):
            done += got
        return bytes(found[:done])

    def send(self, data: bytes | memoryview) -> None:
        if self._pacer is not None:
            self._pacer.send(data)
        else:
            self._send_now(data)

    def _send_now(self, data: bytes | memoryview) -> None:
        try:
            with self._raw.guard or contextlib.nullcontext():
                self.sock.sendall(data)
        except OSError as error:
            raise Disconnected(str(error)) from error
        self.sent += len(data)

    def answer(self, status: str, headers: Sequence[str] = (), body: bytes = b"", *, version: str = "1.1") -> None:
        """A whole answer; ``headers`` are lines as they shall go out."""
        head = "\r\n".join((f"HTTP/{version} {status}", *headers, "", ""))
        self.send(head.encode("latin-1") + body)

    def close(self) -> None:
        """End in good order: everything sent arrives; what a client still sends is swallowed for a moment."""
        try:
            if self._unread > 0:
                self._swallow()
            if isinstance(self.sock, ssl.SSLSocket):
                self._say_goodbye(self.sock)
            self.sock.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            pass  # the client was faster
        finally:
            self.sock.close()

    @staticmethod
    def _say_goodbye(sock: ssl.SSLSocket) -> None:
        """Send TLS's close_notify without waiting for the client's."""
        select.select([], [sock], [], CLOSE_TIMEOUT_S)
        sock.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            sock.unwrap()

    def _swallow(self) -> None:
        """Read what a client still sends after an early answer; a reset would destroy that answer."""
        self.sock.settimeout(SWALLOW_PAUSE_S)
        swallowed = 0
        try:
            while swallowed < DRAIN_MAX_BYTES and self._unread > 0 and (got := len(self._reader.read1(1 << 16))):
                swallowed += got
                self._unread -= got if self._unread > 1 else 0
        except OSError:
            return

    def reset(self) -> None:
        """Drop the connection the hard way (RST)."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        finally:
            self.sock.close()

    def interrupt(self) -> None:
        """Wake a thread that is blocked on this connection (from another thread)."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class _Raw(io.RawIOBase):
    """The socket as a raw stream (``makefile`` would keep the socket open)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.guard: threading.Lock | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.guard is None:
            return self._sock.recv_into(buffer)
        while True:
            self._wait()
            with self.guard:
                if self._ready(0):
                    return self._sock.recv_into(buffer)

    def _wait(self) -> None:
        if not self._ready(self._sock.gettimeout()):
            raise TimeoutError

    def _ready(self, timeout_s: float | None) -> bool:
        if self._sock.fileno() < 0 or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def parse_head(line: str, headers: dict[str, str]) -> Request:
    """Raises :class:`BadRequest`."""
    parts = line.split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        raise BadRequest("400 Bad Request")
    method, target, version = parts
    path, _, query = target.partition("?")
    return Request(
        method=method,
        target=target,
        path=unquote_plus(path),
        query=parse_pairs(query.split("&")),
        headers=headers,
        old=version == "HTTP/1.0",
        raw_query=query,
        cookies=parse_pairs(headers.get("cookie", "").replace("&", ";").split(";")),
    )


def parse_pairs(pieces: list[str]) -> dict[str, str]:
    """``name=value`` pieces, percent-decoded; a comma is an ordinary character."""
    pairs = (piece.strip().partition("=") for piece in pieces if piece.strip())
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
