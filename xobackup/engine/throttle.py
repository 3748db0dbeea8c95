"""A limit on bytes per second, shared by all transfers of a run, and above it one shared by all runs of the process.

What may pass grows with time at the rate in force; each caller takes a ticket for its bytes and sleeps until that
much may have passed, so the average never exceeds the rate, callers go on in the order in which they came, and nobody
holds a lock while sleeping. The rate is asked for again at every step: a change takes effect in the middle of a
transfer. An idle limiter saves up no more than ``BURST_S`` of credit. A rate that other processes share is divided
among them by a :class:`Share`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from xobackup.clock import Clock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.limits.bandwidth import Limit, Timetable

BURST_S = 0.5
STEP_S = 1.0
"""How late a change of the rate may take effect."""
STEP_MIN_S = 0.001
"""Shorter sleeps are not worth it; and time must move, whatever the resolution of the clock."""
SHARE_STEP_S = 0.25
"""How late a share that others gave up is noticed."""


class Share(Protocol):
    """This limiter's part of a rate that others share."""

    def rate(self, limit_bytes_s: float) -> float:
        """What of it may pass here now; 0: nothing yet."""
        ...

    def passes(self, size_bytes: int) -> None:
        """So much is about to."""
        ...

    def waits(self) -> None:
        """More would, if it might."""
        ...


class Throttle:
    """A timetable of ``None``, or a rate of 0, means no limit. ``above``: what has to let the bytes pass too."""

    def __init__(
        self,
        rate: Timetable | float | None,
        clock: Clock,
        *,
        above: Throttle | Sequence[Throttle] | None = None,
        share: Share | None = None,
        tell: Callable[[tuple[Limit, ...]], None] | None = None,
    ) -> None:
        """``tell`` hears of the limits in force, those above included: at the first bytes, and when they change."""
        table = rate if isinstance(rate, Timetable) else Timetable(rate_bytes_s=rate or None)
        self._table = table if table.limited else None
        self._above = (above,) if isinstance(above, Throttle) else tuple(above or ())
        self._share = share
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
        waited = sum(one.take(size_bytes, cancel) for one in self._above)
        return waited if self._table is None else waited + self._take(size_bytes, cancel)

    def limits(self) -> tuple[Limit, ...]:
        """In force now, those above last."""
        own = (self._table.at(self._clock.now_s()),) if self._table is not None else ()
        return (*own, *(limit for one in self._above for limit in one.limits()))

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
        if self._share is not None:
            self._share.passes(size_bytes)
        while True:
            with self._lock:
                rate = self._advance()
                short = ticket - self._allowed
            if rate is None or short < 1:
                return self._clock.monotonic_s() - began_s
            cancel.sleep(self._clock, self._step_s(short, rate))

    def _step_s(self, short: float, rate: float) -> float:
        if self._share is None:
            return min(max(short / rate, STEP_MIN_S), STEP_S)
        self._share.waits()
        return min(max(short / rate, STEP_MIN_S), SHARE_STEP_S) if rate > 0 else SHARE_STEP_S

    def _advance(self) -> float | None:
        """Let grow what may pass, at the rate in force; returns it."""
        assert self._table is not None
        now_s, rate = self._clock.monotonic_s(), self._table.at(self._clock.now_s()).rate_bytes_s
        if rate is not None and self._share is not None:
            rate = self._share.rate(rate)
        if rate is None:
            self._allowed = self._issued
        else:
            self._allowed = min(self._allowed + (now_s - self._at_s) * rate, self._issued + rate * BURST_S)
        self._at_s = now_s
        return rate
