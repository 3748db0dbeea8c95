"""A web server for hooks: keeps what it was asked, answers as told, or not at all."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from xotest.certificates import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class HookServer:
    """``status`` of every answer; ``silent``: no answer until the server is closed."""

    origin: str
    asked: list[Asked] = field(default_factory=list)
    status: int = 200
    location: str = ""
    silent: bool = False
    said: bytes = b"as you wish\n"
    by_path: Callable[[Asked], tuple[int, bytes]] | None = None
    """Status and body of an answer, instead of the same for all."""
    closed: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


@contextmanager
def hook_server(
    certificate: Certificate | None = None, *, at: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[HookServer]:
    """Serve while inside; by TLS with a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(
                method=self.command, path=self.path, headers=dict(self.headers), body=self.rfile.read(length)
            )
            server.asked.append(asked)
            server.reached.set()
            if server.silent:
                server.closed.wait(30)
                return
            status, said = server.by_path(asked) if server.by_path else (server.status, server.said)
            self.send_response(status)
            if server.location:
                self.send_header("Location", server.location)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = _answer

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                """The client went away, as clients do."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: Any) -> None:
            """A handshake that the client broke off."""

    listener = Quiet(at, Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert_path, certificate.key_path)
        listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    host, port = listener.server_address[:2]
    server = HookServer(origin=f"{'https' if certificate else 'http'}://{host!s}:{port}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
