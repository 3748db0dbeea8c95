"""SIGTERM and SIGINT stop the service, a second one makes it hurry; SIGHUP makes it read its configuration again."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Signals:
    """What was asked for."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        self.reload = threading.Event()
        self.wake = threading.Event()
        """Set with any of them."""
        self.why = ""

    def held(self) -> _Held:
        return _Held({signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload})

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.why = signal.Signals(number).name
        self.stop.set()
        self.wake.set()

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self.reload.set()
        self.wake.set()


class _Held:
    """Signal handlers for as long as a block lasts."""

    def __init__(self, handlers: dict[signal.Signals, object]) -> None:
        self._handlers = handlers
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        for number, handler in self._handlers.items():
            self._before[number] = signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
