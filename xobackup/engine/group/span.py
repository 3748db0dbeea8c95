"""How close together the snapshots of a group were, by our own clock: an upper bound."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xobackup.clock import Clock


class Span:
    """From the first that began to the last that ended. For several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._first_s: float | None = None
        self._last_s = 0.0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A snapshot is taken inside."""
        began_s = self._clock.monotonic_s()
        with self._lock:
            self._first_s = began_s if self._first_s is None else min(self._first_s, began_s)
        yield
        with self._lock:
            self._last_s = max(self._last_s, self._clock.monotonic_s())

    @property
    def seconds(self) -> float:
        return 0.0 if self._first_s is None else max(0.0, self._last_s - self._first_s)
