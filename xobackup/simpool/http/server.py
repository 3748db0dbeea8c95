"""The threaded server: accepts, speaks TLS, finds the handler by the longest matching prefix, one thread a client.

A prefix matches without regard to path segments (``/export_raw_vdi/`` and ``/export_raw_vdiXYZ`` reach the same
handler). No handler is ``403 Forbidden``, a method without any table ``501``.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from functools import partial
from typing import TYPE_CHECKING

from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http.wire import BadRequest, Connection, Disconnected, Request

if TYPE_CHECKING:
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
    """Listens on one address until :meth:`close`."""

    def __init__(self, address: str, port: int, *, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._routes: dict[str, dict[str, Handler]] = {}
        self._clients: dict[threading.Thread, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server((address, port), backlog=128, reuse_port=False)
        self.address, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name="simpool-accept", daemon=True)

    def route(self, method: str, prefix: str, handler: Handler) -> None:
        self._routes.setdefault(method, {})[prefix] = handler

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, cut every connection, wait for the threads."""
        with self._lock:
            self._closed = True
            clients = dict(self._clients)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for interrupt in clients.values():
            interrupt()
        self._thread.join(5)
        for thread in clients:
            thread.join(5)

    def drop_connections(self) -> None:
        """Cut every connection, as a restart of the toolstack does."""
        with self._lock:
            clients = dict(self._clients)
        for interrupt in clients.values():
            interrupt()

    def find(self, request: Request) -> Handler | None:
        """The handler with the longest prefix of the request's path."""
        table = self._routes.get(request.method, {})
        best = max((prefix for prefix in table if request.path.startswith(prefix)), key=len, default=None)
        return None if best is None else table[best]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), name="simpool-client", daemon=True)
            with self._lock:
                if self._closed:
                    sock.close()
                    return
                self._clients[thread] = partial(cut, sock)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            secured = self._secure(sock)
            if secured is None:
                return
            sock = secured
            connection = Connection(sock)
            with self._lock:
                self._clients[threading.current_thread()] = connection.interrupt
                closed = self._closed
            if closed:
                connection.reset()
                return
            self._converse(connection)
        finally:
            sock.close()  # nothing but a bug leaves it open
            with self._lock:
                self._clients.pop(threading.current_thread(), None)

    def _secure(self, sock: socket.socket) -> socket.socket | None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            if self._context is None:
                sock.settimeout(IDLE_TIMEOUT_S)
                return sock
            sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._clients[threading.current_thread()] = partial(cut, sock)
            sock.do_handshake()
            sock.settimeout(IDLE_TIMEOUT_S)
        except OSError:
            sock.close()
            return None
        return sock

    def _converse(self, connection: Connection) -> None:
        try:
            while (request := connection.read_request()) is not None:
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


def cut(sock: socket.socket) -> None:
    """Wake a thread that is blocked on ``sock``."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


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
