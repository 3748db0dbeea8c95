"""One switch to stop a run: polled between blocks, and able to wake what is blocked in a network read.

Cancelling is a request, made once, from any thread or a signal handler; whoever works raises
:class:`~xobackup.engine.errors.Cancelled` at its next check and cleans up on the way out. Clean-up itself does not
check the switch.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from xobackup.clock import Clock
from xobackup.engine.errors import Cancelled

SLEEP_STEP_S = 0.25
"""How long a sleeper may take to notice."""


class CancelToken:
    """Thread-safe; see the module's head."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.RLock()  # re-entered when a signal arrives while its own thread holds it
        self._wakers: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.reason = ""

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self, reason: str = "cancelled") -> None:
        """Ask everybody to stop, and wake those who wait in :meth:`waking`."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            wakers = list(self._wakers.values())
        for wake in wakers:
            wake()

    def check(self) -> None:
        """Raise :class:`Cancelled` if somebody asked to stop."""
        if self._event.is_set():
            raise Cancelled(self.reason)

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """While inside, ``wake`` is called (from the canceller's thread) when the switch is thrown."""
        with self._lock:
            key = self._next
            self._next += 1
            self._wakers[key] = wake
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._wakers.pop(key, None)

    def sleep(self, clock: Clock, seconds: float) -> None:
        """Sleep, noticing the switch."""
        left = seconds
        while left > 0:
            self.check()
            step = min(left, SLEEP_STEP_S)
            clock.sleep(step)
            left -= step
        self.check()


@contextmanager
def on_signals(token: CancelToken) -> Iterator[None]:
    """Let SIGTERM and SIGINT throw the switch while inside. Only from the main thread; elsewhere it does nothing.

    A second SIGINT raises ``KeyboardInterrupt`` as usual, for the operator who will not wait for the clean-up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def throw(number: int, _frame: FrameType | None) -> None:
        if token.cancelled and number == signal.SIGINT:
            raise KeyboardInterrupt
        token.cancel(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, throw) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
