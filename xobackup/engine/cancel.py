"""One switch to stop a run: polled between blocks, and able to wake what is blocked in a network read.

Cancelling is a request, made once, from any thread or a signal handler; whoever works raises
:class:`~xobackup.engine.errors.Cancelled` at its next check and cleans up on the way out. Clean-up itself does not
check the switch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from xobackup.clock import Clock
from xobackup.engine.errors import Cancelled

SLEEP_STEP_S = 0.25
"""How long a sleeper may take to notice."""
ECHO_S = 0.5
"""A second signal within this time is the first one's echo: a terminal and ``sudo`` may both pass one on."""
ABORTED = "\nstopped at once: nothing was cleaned up, the next start does that\n"
SHOW_CURSOR = "\x1b[?25h"


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


def abort_process(number: int) -> None:
    """End at once, with the exit code of the signal, whatever threads are at. A crash, to what is on disk: the next
    start finds and cleans what this one leaves."""
    with suppress(OSError):
        os.write(2, (SHOW_CURSOR if sys.stderr.isatty() else "").encode() + ABORTED.encode())
    os._exit(128 + number)


@contextmanager
def on_signals(token: CancelToken, *, abort: Callable[[int], None] = abort_process) -> Iterator[None]:
    """Let SIGTERM and SIGINT throw the switch while inside. Only from the main thread; elsewhere it does nothing.

    A second signal does not wait for the clean-up: it calls ``abort``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first_s: list[float] = []

    def throw(number: int, _frame: FrameType | None) -> None:
        if not first_s:
            first_s.append(time.perf_counter())
            token.cancel(f"stopped by {signal.Signals(number).name}")
        elif time.perf_counter() - first_s[0] >= ECHO_S:
            abort(number)

    before = {number: signal.signal(number, throw) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
