"""A line between two machines that can be cut, held and made slow: a TCP proxy for one address.

    with BadLine("127.0.0.1", port) as line:
        connect(line.address)
        line.cut()

``bytes_s`` is what goes through in each direction over all connections together. Little waits inside: who sends feels
at once that the line is slow.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

PIECE_BYTES = 16 << 10
BUFFER_BYTES = 32 << 10
RESET = struct.pack("ii", 1, 0)


class BadLine:
    """See the module's head."""

    def __init__(self, host: str, port: int, *, bytes_s: float | None = None) -> None:
        self._target = (host, port)
        self.bytes_s = bytes_s
        self.connections = 0
        """How many were made so far."""
        self.passed = 0
        """Bytes, in both directions."""
        self.away = False
        """Nobody gets through any more; set it, and :meth:`cut`."""
        self.cuts = 0
        self._cut_at: int | None = None
        self._every: int | None = None
        self._going = threading.Event()
        self._going.set()
        self._guard = threading.Lock()
        self._free_s = [0.0, 0.0]
        self._socks: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Every connection is reset."""
        with self._guard:
            socks = list(self._socks)
        for sock in socks:
            self._reset(sock)

    def cut_after(self, size_bytes: int) -> None:
        """Once, when so many more bytes have gone through."""
        with self._guard:
            self._cut_at = self.passed + size_bytes

    def cut_every(self, size_bytes: int) -> None:
        """Again and again, whenever so many bytes have gone through."""
        self._every = size_bytes
        self.cut_after(size_bytes)

    def lead_to(self, host: str, port: int) -> None:
        """From now on it ends there."""
        self._target = (host, port)

    def wait_passed(self, size_bytes: int) -> None:
        """Until so many bytes have gone through."""
        while self.passed < size_bytes:
            time.sleep(0.005)

    def hold(self) -> None:
        """Nothing goes through, and nobody is told."""
        self._going.clear()

    def go_on(self) -> None:
        self._going.set()

    def __enter__(self) -> BadLine:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self.go_on()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.away:
                self._reset(near)
                continue
            self.connections += 1
            far = socket.socket()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            try:
                far.connect(self._target)
            except OSError:
                self._reset(near)
                far.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            with self._guard:
                self._socks |= {near, far}
            for direction, (one, other) in enumerate(
                ((near, far), (far, near))
            ):  # a cut may close them at any moment
                threading.Thread(target=self._pump, args=(one, other, direction), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, direction: int) -> None:
        try:
            while piece := one.recv(PIECE_BYTES):
                self._going.wait()
                self._wait(len(piece), direction)
                other.sendall(piece)
                if self._count(len(piece)):
                    self.cut()
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_WR)
        except OSError:
            self._reset(one)
            self._reset(other)

    def _wait(self, size_bytes: int, direction: int) -> None:
        if self.bytes_s is None:
            return
        with self._guard:
            now_s = time.monotonic()
            self._free_s[direction] = max(now_s, self._free_s[direction]) + size_bytes / self.bytes_s
            pause_s = self._free_s[direction] - now_s
        time.sleep(pause_s)

    def _count(self, size_bytes: int) -> bool:
        with self._guard:
            self.passed += size_bytes
            due = self._cut_at is not None and self.passed >= self._cut_at
            if due:
                self.cuts += 1
                self._cut_at = None if self._every is None else self.passed + self._every
            return due

    def _reset(self, sock: socket.socket) -> None:
        with self._guard:
            self._socks.discard(sock)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
