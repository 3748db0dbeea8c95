"""The threaded server: accepts, speaks TLS, finds the handler by the longest matching prefix, one thread a client.

A prefix matches without regard to path segments (``/export_raw_vdi/`` and ``/export_raw_vdiXYZ`` reach the same
handler). No handler is ``403 Forbidden``, a method without any table ``501``.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http.wire import BadRequest, Connection, Disconnected, Request
from xobackup.simpool.link import PERFECT, Link
from xobackup.simpool.listener import Client, Listener, cut

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Handler = Callable[[Request, Connection], bool]
    """Answers a request; true to keep the connection for the next one."""

HANDSHAKE_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 3600.0
CORS = (
    "access-control-allow-origin: *",
    "access-control-allow-headers: X-Requested-With",
)


class HttpServer:
    """Serves one address until :meth:`close`."""

    def __init__(
        self, address: str, port: int, *, context: ssl.SSLContext | None, link: Callable[[], Link] = lambda: PERFECT
    ) -> None:
        self._context = context
        self._link = link
        self._routes: dict[str, dict[str, Handler]] = {}
        self._listener = Listener(address, port, self._serve, name="http")
        self.address, self.port = self._listener.address, self._listener.port

    @property
    def connections(self) -> int:
        """How many are served now."""
        return self._listener.connections

    def route(self, method: str, prefix: str, handler: Handler) -> None:
        self._routes.setdefault(method, {})[prefix] = handler

    def start(self) -> None:
        self._listener.start()

    def close(self) -> None:
        self._listener.close()

    def drop_connections(self) -> None:
        """Cut every connection, as a restart of the toolstack does."""
        self._listener.drop_connections()

    def find(self, request: Request) -> Handler | None:
        """The handler with the longest prefix of the request's path."""
        table = self._routes.get(request.method, {})
        best = max((prefix for prefix in table if request.path.startswith(prefix)), key=len, default=None)
        return None if best is None else table[best]

    def _serve(self, client: Client) -> None:
        if not self._secure(client):
            return
        link = self._link()
        connection = Connection(client.sock)
        connection.slow_down(link)
        client.interrupt = connection.interrupt
        if self._listener.closed:
            connection.reset()
            return
        self._converse(connection)

    def _secure(self, client: Client) -> bool:
        sock = client.sock
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            if self._context is not None:
                sock.getpeername()  # of a client that has gone already the next line would leave a socket open
                sock = client.sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                client.interrupt = partial(cut, sock)
                sock.do_handshake()
            sock.settimeout(IDLE_TIMEOUT_S)
        except OSError:
            return False
        return True

    def _converse(self, connection: Connection) -> None:
        try:
            while (request := connection.read_request()) is not None:
                time.sleep(self._link().latency_s)
                if not self._answer(request, connection):
                    break
        except BadRequest as error:
            with contextlib.suppress(Disconnected):
                connection.answer(error.status, ("connection: close", "content-length: 0"))
        except ConnectionLost:
            connection.reset()
            return
        except Disconnected:
            pass
        connection.close()

    def _answer(self, request: Request, connection: Connection) -> bool:
        if request.method == "OPTIONS":
            connection.answer(
                "200 OK", (*CORS, "access-control-allow-methods: PUT", "connection: close", "content-length: 0")
            )
            return False
        if request.method not in self._routes:
            answer_html(connection, "501 Method not implemented", "Method not implemented", request.method)
            return False
        handler = self.find(request)
        if handler is None:
            answer_html(connection, "403 Forbidden", "Forbidden", f"no handler for {request.path}")
            return False
        return handler(request, connection)


def html(title: str, detail: str) -> bytes:
    """An error page as xapi writes them."""
    text = f"<html><body><h1>{title}</h1>An unexpected error occurred; <h1> Additional information </h1>{detail}"
    return (text + "</body></html>").encode()


def answer_html(connection: Connection, status: str, title: str, detail: str, *, version: str = "1.1") -> None:
    """An error page; the connection is to be closed after it."""
    body = html(title, detail)
    headers = (
        "content-type: text/html",
        "connection: close",
        "cache-control: no-cache, no-store",
        f"content-length: {len(body)}",
    )
    connection.answer(status, headers, body, version=version)
