"""A line between two programs that can be cut, held silent, and put right again: TCP here, to a socket there."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

PIECE = 1 << 16
LOOK_S = 0.02


class Line(StrEnum):
    """How it is."""

    OPEN = "open"
    HELD = "held"
    """What is sent is swallowed by nobody and delivered to nobody: it waits, and nobody is told."""
    CUT = "cut"
    """Connections are reset, new ones are closed at once."""


class Proxy:
    """See the module's head; make one with :func:`proxied`."""

    def __init__(self, target: Path | tuple[str, int]) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(LOOK_S)
        self.line = Line.OPEN
        self.port = int(self._listening.getsockname()[1])
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def postgres_url(self, user: str = "xobackup", database: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(OSError):  # nobody came yet, or it is closed
                near, _ = self._listening.accept()
                thread = threading.Thread(target=self._pump, args=(near,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            while self.line is Line.HELD and not self._closing.wait(LOOK_S):
                pass
            if self.line is Line.CUT:
                return
            with self._far() as far:
                self._carry(near, far)

    def _far(self) -> socket.socket:
        if isinstance(self._target, Path):
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._target))
            return far
        return socket.create_connection(self._target)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        while not self._closing.is_set() and self.line is not Line.CUT:
            if self.line is Line.HELD:
                self._closing.wait(LOOK_S)
                continue
            ready, _, _ = select.select([near, far], [], [], LOOK_S)
            for one in ready if self.line is Line.OPEN else ():
                piece = one.recv(PIECE)
                if not piece:
                    return
                (far if one is near else near).sendall(piece)

    def close(self) -> None:
        self._closing.set()
        self._listening.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def proxied(target: Path | tuple[str, int]) -> Iterator[Proxy]:
    """A line to ``target``: the path of a Unix socket, or host and port."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
