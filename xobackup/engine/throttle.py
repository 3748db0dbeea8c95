"""A limit on bytes per second, shared by all transfers of a run.

Each caller reserves its bytes on one common timeline and sleeps until its turn is over: the average never exceeds
the rate, and nobody holds a lock while sleeping. An idle limiter saves up no more than ``BURST_S`` of credit.
"""

from __future__ import annotations

import threading

from xobackup.clock import Clock
from xobackup.engine.cancel import CancelToken

BURST_S = 0.5


class Throttle:
    """``rate_bytes_s`` of ``None`` or 0 means no limit."""

    def __init__(self, rate_bytes_s: float | None, clock: Clock) -> None:
        self._rate = rate_bytes_s or 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at_s = clock.monotonic_s()

    def take(self, size_bytes: int, cancel: CancelToken) -> float:
        """Wait until ``size_bytes`` may pass; return the seconds waited."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._clock.monotonic_s()
            start = max(self._free_at_s, now - BURST_S)
            self._free_at_s = start + size_bytes / self._rate
            wait = self._free_at_s - now
        if wait <= 0:
            return 0.0
        cancel.sleep(self._clock, wait)
        return wait
