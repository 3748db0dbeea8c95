"""One HTTP request, bounded as a whole: a server that answers a byte a minute does not hold a run up.

The request is made by a thread of its own. When time is up or the run stops, its connection is cut and nobody waits
for it any more. Redirects are not followed: what was configured is what is talked to.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.hooks.said import OUTPUT_BYTES_MAX, last_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``tls``: for ``https`` URLs."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = None
    tls: ssl.SSLContext | None = None


def send(request: Request, *, timeout_s: float, cancel: CancelToken | None) -> str:
    """Send it; returns what was wrong, as a sentence, or ``""``. ``cancel`` as for commands."""
    sending = _Sending(request, timeout_s)
    try:
        with contextlib.nullcontext() if cancel is None else cancel.waking(sending.over.set):
            sending.start()
            sending.over.wait(timeout_s)
    except Cancelled as stopped:
        return f"was not sent because the run stops ({stopped})"
    if sending.done:
        return sending.problem
    sending.cut()
    if cancel is not None and cancel.cancelled:
        return f"was cut off because the run stops ({cancel.reason})"
    return f"had no whole answer within {timeout_s:g} s"


class _Sending(threading.Thread):
    def __init__(self, request: Request, timeout_s: float) -> None:
        super().__init__(name="hook request", daemon=True)
        self._request = request
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self.over = threading.Event()
        self.done = False
        self.problem = ""

    def run(self) -> None:
        try:
            self.problem = self._send()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.problem = f"failed: {error or type(error).__name__}"
        finally:
            self.done = True
            self.over.set()

    def _send(self) -> str:
        request = self._request
        parts = urlsplit(request.url)
        self._connection = _connection(parts, self._timeout_s, request.tls)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            self._connection.request(request.method, target, body=request.body, headers=dict(request.headers))
            answer = self._connection.getresponse()
            said = answer.read(OUTPUT_BYTES_MAX)
            if 200 <= answer.status < 300:
                return ""
            told = last_lines(said)
            return f"was answered {answer.status} {answer.reason}" + (f": {told}" if told else "")
        finally:
            self._connection.close()

    def cut(self) -> None:
        sock = getattr(self._connection, "sock", None)
        with contextlib.suppress(OSError, AttributeError):
            sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def _connection(parts: SplitResult, timeout_s: float, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = tls or ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout_s, context=context)
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_s)
    raise ValueError(f"expected http or https, found {parts.scheme!r}")


def unverified() -> ssl.SSLContext:
    """TLS with whoever answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_address(host: str) -> bool:
    """Whether it is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
