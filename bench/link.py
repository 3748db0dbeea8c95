"""``python -m bench.link PORT DELAY_MS RATE_MB``: a line to the local PORT with a round trip and a rate.

Prints its own port. Bytes of all connections share the rate, each direction its own; half of the delay is added each
way. A process of its own, so that it takes no time from what is measured. What it does not model is TCP's window:
between here and the ends the line is the loopback.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time

PIECE = 128 * 1024
Piece = tuple[float, bytes]


class Direction:
    """One way of the line: when bytes that come now are through."""

    def __init__(self, delay_s: float, rate_bytes_s: float) -> None:
        self._delay_s = delay_s
        self._rate = rate_bytes_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def due(self, size: int) -> float:
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            return self._free_at + self._delay_s


def carry(source: socket.socket, sink: socket.socket, direction: Direction) -> None:
    """Everything from ``source`` to ``sink``, each piece when it is due."""
    pieces: queue.Queue[Piece] = queue.Queue()

    def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = pieces.get()
                left = due - time.monotonic()
                if left > 0:
                    time.sleep(left)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)

    threading.Thread(target=deliver, daemon=True).start()
    data = b"."
    while data:
        try:
            data = source.recv(PIECE)
        except OSError:
            data = b""
        due = direction.due(len(data))
        pieces.put((due, data))
        # a real line holds no more than what is on its way: what cannot go out waits at the sender
        ahead = due - time.monotonic() - direction._delay_s
        if ahead > 0.02:
            time.sleep(ahead - 0.01)


def main(port: int, delay_ms: float, rate_mb: float) -> None:
    up, down = (Direction(delay_ms / 2000, rate_mb * 1e6) for _ in range(2))
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            near, _peer = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=carry, args=(near, far, up), daemon=True).start()
            threading.Thread(target=carry, args=(far, near, down), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
