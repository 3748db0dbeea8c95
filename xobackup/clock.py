"""Time as an argument, so that a simulation can own it.

Everything that needs the time of day takes a :class:`Clock`; nobody else calls ``time.time``.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time of day, a monotonic counter, and sleeping."""

    def now_s(self) -> float:
        """Return Unix time in seconds."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a counter that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        return time.time()  # noqa: TID251 - the one place

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class FakeClock:
    """A clock a test owns: it moves only when somebody sleeps or calls :meth:`advance`."""

    def __init__(self, start_s: float = 1_767_225_600.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now_s += seconds


def utc(seconds: float) -> datetime:
    """Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, tz=UTC)
