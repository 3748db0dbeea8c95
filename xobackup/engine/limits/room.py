"""The one room of a process where everybody waits; see the order of acquisition in the package's head."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xobackup.clock import Clock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.limits.gates import Gate, Ticket, blocked_by, grantable, needs_of


class Room:
    """Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._used: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._free_at_s: dict[str, float] = {}

    @contextmanager
    def through(
        self, gates: tuple[Gate, ...], cancel: CancelToken, *, count: int = 1, told: Callable[[str], None]
    ) -> Iterator[None]:
        """Through all ``gates`` while inside; waits for its turn. ``told`` hears what is waited for, when it changes.

        Raises ``Cancelled`` when the switch is thrown while waiting.
        """
        if not gates:
            yield
            return
        ticket = Ticket(number=next(self._numbers), needs=needs_of(gates, count))
        with cancel.waking(self._wake):
            self._enter(ticket, cancel, told)
        try:
            yield
        finally:
            with self._changed:
                for gate, taken in ticket.needs:
                    self._used[gate.key] -= taken
                self._changed.notify_all()

    def _enter(self, ticket: Ticket, cancel: CancelToken, told: Callable[[str], None]) -> None:
        said = ""
        with self._changed:
            self._waiting.append(ticket)
            try:
                while ticket not in grantable(self._waiting, self._used):
                    reason = blocked_by(ticket, self._waiting, self._used)
                    if reason != said:
                        said = reason
                        told(reason)
                    self._changed.wait()
                    cancel.check()
                for gate, taken in ticket.needs:
                    self._used[gate.key] += taken
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()  # who came later may have waited for this one's place only

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def pace(self, keys: tuple[str, ...], pause_s: float, clock: Clock) -> float:
        """Reserve the next moment ``pause_s`` after the last one of each key; returns the seconds until then."""
        if not keys or pause_s <= 0:
            return 0.0
        with self._changed:
            now_s = clock.monotonic_s()
            at_s = max([now_s, *(self._free_at_s.get(key, now_s) for key in keys)])
            for key in keys:
                self._free_at_s[key] = at_s + pause_s
        return at_s - now_s
