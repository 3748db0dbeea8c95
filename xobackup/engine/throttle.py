"""A limit on bytes per second, shared by all transfers of a run, and above it one shared by all runs of the process.

What may pass grows with time at the rate in force; each caller takes a ticket for its bytes and sleeps until that
much may have passed, so the average never exceeds the rate, callers go on in the order in which they came, and nobody
holds a lock while sleeping. The rate is asked for again at every step: a change takes effect in the middle of a
transfer. An idle limiter saves up no more than ``BURST_S`` of credit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from xobackup.clock import Clock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.limits.bandwidth import Limit, Timetable

BURST_S = 0.5
STEP_S = 1.0
"""How late a change of the rate may take effect."""
STEP_MIN_S = 0.001
"""Shorter sleeps are not worth it; and time must move, whatever the resolution of the clock."""


class Throttle:
    """A timetable of ``None``, or a rate of 0, means no limit. ``above``: one that has to let the bytes pass too."""

    def __init__(
        self,
        rate: Timetable | float | None,
        clock: Clock,
        *,
        above: Throttle | None = None,
        tell: Callable[[tuple[Limit, ...]], None] | None = None,
    ) -> None:
        """``tell`` hears of the limits in force, those above included: at the first bytes, and when they change."""
        table = rate if isinstance(rate, Timetable) else Timetable(rate_bytes_s=rate or None)
        self._table = table if table.limited else None
        self._above = above
        self._tell = tell
        self._told: tuple[Limit, ...] = ()
        self._clock = clock
        self._lock = threading.Lock()
        self._issued = 0.0
        self._allowed = 0.0
        self._at_s = clock.monotonic_s()

    def take(self, size_bytes: int, cancel: CancelToken) -> float:
        """Wait until ``size_bytes`` may pass; return the seconds waited."""
        if self._tell is not None:
            self._say()
        waited = self._above.take(size_bytes, cancel) if self._above is not None else 0.0
        return waited if self._table is None else waited + self._take(size_bytes, cancel)

    def limits(self) -> tuple[Limit, ...]:
        """In force now, those above last."""
        own = (self._table.at(self._clock.now_s()),) if self._table is not None else ()
        return (*own, *(self._above.limits() if self._above is not None else ()))

    def _say(self) -> None:
        limits = self.limits()
        with self._lock:
            changed, self._told = limits != self._told, limits
        if changed and self._tell is not None:
            self._tell(limits)

    def _take(self, size_bytes: int, cancel: CancelToken) -> float:
        began_s = self._clock.monotonic_s()
        with self._lock:
            self._advance()
            self._issued += size_bytes
            ticket = self._issued
        while True:
            with self._lock:
                rate = self._advance()
                short = ticket - self._allowed
            if rate is None or short < 1:
                return self._clock.monotonic_s() - began_s
            cancel.sleep(self._clock, min(max(short / rate, STEP_MIN_S), STEP_S))

    def _advance(self) -> float | None:
        """Let grow what may pass, at the rate in force; returns it."""
        assert self._table is not None
        now_s, rate = self._clock.monotonic_s(), self._table.at(self._clock.now_s()).rate_bytes_s
        if rate is None:
            self._allowed = self._issued
        else:
            self._allowed = min(self._allowed + (now_s - self._at_s) * rate, self._issued + rate * BURST_S)
        self._at_s = now_s
        return rate
