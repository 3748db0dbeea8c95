"""A TCP proxy that breaks connections: each of the first ones after so many bytes, in one direction."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

PIECE = 16 << 10


@dataclass(slots=True, kw_only=True)
class Proxy:
    """``cuts``: bytes after which the next connections end, ``down`` from the server or up to it."""

    port: int
    target: tuple[str, int]
    cuts: list[int] = field(default_factory=list)
    down: bool = True
    broken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection(self.target)
        pair = (client, server)
        threading.Thread(target=self._pump, args=(client, server, pair, False), daemon=True).start()
        self._pump(server, client, pair, True)

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, ...], down: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                passed += len(data)
                if down == self.down and self._cuts(passed):
                    break
                sink.sendall(data)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _cuts(self, passed: int) -> bool:
        with self.lock:
            if not self.cuts or passed < self.cuts[0]:
                return False
            self.cuts.pop(0)
            self.broken += 1
            return True


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """In front of a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Proxy(port=listener.getsockname()[1], target=("127.0.0.1", port))
        threading.Thread(target=made.serve, args=(listener,), daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
