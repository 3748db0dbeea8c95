"""Time as an argument: what the wrappers and the memory remote need of a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The same shape as the engine's clock."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a counter that never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        return time.time()  # noqa: TID251 - the one place in this package

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
