"""How slow the way to a client is: latency, bandwidth, and a first byte that takes its time.

A latency delays what is sent without holding back what comes after it, as a long cable does: many answers can be on
their way at once. A bandwidth is each connection's own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Data = bytes | memoryview

STEP_BYTES = 64 * 1024
"""Paced data goes out in pieces of this."""
ON_THE_WAY_MAX_BYTES = 64 << 20
"""So much may be on a slow cable; whoever sends more waits."""
DRAIN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One kind of connection (``http``, ``nbd``)."""

    latency_s: float = 0.0
    """Added to every answer (a round trip)."""
    bytes_per_s: float | None = None
    first_byte_s: float = 0.0
    """Added before a transfer's first byte."""


PERFECT = Link()


class Pacer:
    """Sends no faster than so many bytes a second; a pause gives no credit for later."""

    def __init__(self, send: Callable[[Data], None], bytes_per_s: float) -> None:
        self._send = send
        self._rate = bytes_per_s
        self._free_at_s = 0.0

    def send(self, data: Data) -> None:
        view = memoryview(data)
        for start in range(0, len(view), STEP_BYTES):
            piece = view[start : start + STEP_BYTES]
            self.pause_for(len(piece))
            self._send(piece)

    def pause_for(self, count: int) -> None:
        """Wait until the way is free, then occupy it for so many bytes."""
        now = time.monotonic()
        if self._free_at_s > now:
            time.sleep(self._free_at_s - now)
        self._free_at_s = max(self._free_at_s, now) + count / self._rate


class Cable:
    """Sends everything ``latency_s`` later, in order, from a thread of its own. :meth:`close` waits for the rest."""

    def __init__(
        self, send: Callable[[Data], None], latency_s: float, *, errors: tuple[type[Exception], ...] = (OSError,)
    ) -> None:
        self._send = send
        self._errors = errors
        self._latency_s = latency_s
        self._waiting: deque[tuple[float, Data]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self.broken: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="simpool-cable", daemon=True)
        self._thread.start()

    def send(self, data: Data) -> None:
        """Hand over; raises what went wrong with earlier data."""
        with self._changed:
            while self._bytes > ON_THE_WAY_MAX_BYTES and self.broken is None:
                self._changed.wait()
            if self.broken is not None:
                raise self.broken
            self._waiting.append((time.monotonic() + self._latency_s, data))
            self._bytes += len(data)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(DRAIN_TIMEOUT_S)

    def _work(self) -> None:
        while (item := self._next()) is not None:
            due_s, data = item
            time.sleep(max(0.0, due_s - time.monotonic()))
            try:
                self._send(data)
            except self._errors as error:
                self._end(error)
                return
            with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()

    def _next(self) -> tuple[float, Data] | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None

    def _end(self, error: Exception) -> None:
        with self._changed:
            self.broken = error
            self._changed.notify_all()
