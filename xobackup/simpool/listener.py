"""A TCP listener with one thread per client, which can be closed at any moment: nobody is left waiting."""

from __future__ import annotations

import contextlib
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JOIN_TIMEOUT_S = 5.0


class Client:
    """One accepted connection. ``interrupt`` wakes its thread; whoever wraps the socket replaces it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.interrupt: Callable[[], None] = partial(cut, sock)


class Listener:
    """Listens on one address until :meth:`close`; every connection is given to ``serve``, which closes it."""

    def __init__(self, address: str, port: int, serve: Callable[[Client], None], *, name: str) -> None:
        self._serve = serve
        self._name = name
        self._clients: dict[threading.Thread, Client] = {}
        self._lock = threading.Lock()
        self.closed = False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, port), family=family, backlog=128, reuse_port=False)
        self.address, self.port = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name=f"simpool-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, cut every connection, wait for the threads."""
        with self._lock:
            self.closed = True
            clients = dict(self._clients)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for client in clients.values():
            client.interrupt()
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT_S)
        for thread in clients:
            if thread is not threading.current_thread():  # a host that dies while it is at work for somebody
                thread.join(JOIN_TIMEOUT_S)

    @property
    def connections(self) -> int:
        """How many are served now."""
        with self._lock:
            return len(self._clients)

    def drop_connections(self) -> None:
        """Cut every connection, as a restart of the service does."""
        with self._lock:
            clients = dict(self._clients)
        for client in clients.values():
            client.interrupt()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            client = Client(sock)
            thread = threading.Thread(target=self._run, args=(client,), name=f"simpool-{self._name}", daemon=True)
            with self._lock:
                if self.closed:
                    sock.close()
                    return
                self._clients[thread] = client
            thread.start()

    def _run(self, client: Client) -> None:
        try:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve(client)
        finally:
            client.sock.close()  # nothing but a bug leaves it open
            with self._lock:
                self._clients.pop(threading.current_thread(), None)


def cut(sock: socket.socket) -> None:
    """Wake a thread that is blocked on ``sock``."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
