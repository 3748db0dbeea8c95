"""What the service does besides runs, from time to time, each in a thread of its own: what one of them talks to may
hang, and holds up no run, no other duty, and not the end of the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

LEFT_S = 1.0
"""How long the end waits for one that is at it."""


class Duty:
    """A context in which the thread lives. ``act`` tells its troubles itself; it may look at :attr:`over`."""

    def __init__(self, name: str, act: Callable[[], None], *, every_s: float, first_s: float | None = None) -> None:
        self._act = act
        self._every_s = every_s
        self._first_s = every_s if first_s is None else first_s
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, name=name, daemon=True)

    @property
    def over(self) -> bool:
        """Whether the service ends."""
        return self._over.is_set()

    def now(self) -> None:
        """Do not wait any longer."""
        self._wake.set()

    def __enter__(self) -> Duty:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._wake.set()
        self._thread.join(LEFT_S)

    def _go(self) -> None:
        pause_s = self._first_s
        while True:
            self._wake.wait(pause_s)
            self._wake.clear()
            if self.over:
                return
            try:
                self._act()
            except Exception:  # else it would never be done again, and nobody would know
                logging.getLogger(__name__).exception("%s: it is tried again", self._thread.name)
            pause_s = self._every_s
