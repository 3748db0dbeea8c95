"""Whose turn it is: runs wait in a queue, so many go at a time, and never two of one schedule.

What becomes due while its own schedule still runs or waits is *joined* to it: when it runs, one more run follows;
when it only waits, that one stands for both. So a schedule that is due more often than it can run never piles up.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from xobackup.engine.cancel import CancelToken

LOOK_S = 0.5
"""How often somebody who waits for the end of runs looks whether to hurry: signals wake nobody."""


class Joined(StrEnum):
    """What became of an order."""

    QUEUED = "queued"
    WAITS = "joined to the one that waits"
    FOLLOWS = "follows the one that runs"
    ELSEWHERE = "follows the one that runs on another node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run of a schedule. ``nominal``: the time it stands for; ``reason``: why now, when it is not obvious."""

    schedule: str
    nominal: datetime
    priority: int = 0
    reason: str = ""
    stop_at: datetime | None = None
    """When its window ends, if it has to stop then."""


@dataclass(slots=True)
class Run:
    """A run that goes on."""

    order: Order
    cancel: CancelToken = field(default_factory=CancelToken)


Work = Callable[[Order, CancelToken], str]
"""Does the run, returns its outcome; exceptions are its own affair to report."""


class Runner:
    """See the module's head. ``work`` runs in threads of the runner's own; ``begun`` and ``ended`` are told there."""

    def __init__(
        self,
        work: Work,
        *,
        runs_max: int,
        begun: Callable[[Order], None] = lambda _order: None,
        ended: Callable[[Order, str], None] = lambda _order, _outcome: None,
    ) -> None:
        self._work = work
        self._begun, self._ended = begun, ended
        self._changed = threading.Condition()  # of a lock that its holder may take again
        self._runs_max = runs_max
        self._waiting: list[tuple[int, int, Order]] = []
        self._following: dict[str, Order] = {}
        self._running: dict[str, Run] = {}
        self._numbers = itertools.count()
        self._stopping = ""
        self._threads: set[threading.Thread] = set()

    def submit(self, order: Order) -> Joined:
        """Take an order. After :meth:`stop` it is dropped: the state still says that it is not settled."""
        with self._changed:
            if order.schedule in self._running:
                self._following[order.schedule] = order
                return Joined.FOLLOWS
            if any(one.schedule == order.schedule for _, _, one in self._waiting):
                return Joined.WAITS
            self._enqueue(order)
            return Joined.QUEUED

    def follows(self, schedule: str) -> bool:
        """Whether one more run follows the one that runs."""
        with self._changed:
            return schedule in self._following

    @property
    def full(self) -> bool:
        """Whether a new order would have to wait."""
        with self._changed:
            return len(self._running) + len(self._waiting) >= self._runs_max

    def limit(self, runs_max: int) -> None:
        """So many at a time from now on."""
        with self._changed:
            self._runs_max = runs_max
            self._start()

    def running(self) -> list[Order]:
        with self._changed:
            return [run.order for run in self._running.values()]

    def orders(self) -> tuple[list[Order], list[Order]]:
        """Those that run and those that wait, at one instant."""
        with self._changed:
            return self.running(), self.waiting()

    def waiting(self) -> list[Order]:
        """In the order of their turns."""
        with self._changed:
            return [order for _, _, order in sorted(self._waiting, key=lambda one: one[:2])]

    def cancel(self, schedule: str, reason: str) -> bool:
        """Stop its run, and what would follow; whether there was one."""
        with self._changed:
            self._following.pop(schedule, None)
            before = len(self._waiting)
            self._waiting = [one for one in self._waiting if one[2].schedule != schedule]
            run = self._running.get(schedule)
        if run is not None:
            run.cancel.cancel(reason)
        return run is not None or len(self._waiting) < before

    def stop_what_is_over(self, now: datetime) -> list[Order]:
        """Stop runs whose window has ended; returns them."""
        with self._changed:
            over = [run for run in self._running.values() if run.order.stop_at and run.order.stop_at <= now]
        stopped = [run for run in over if not run.cancel.cancelled]
        for run in stopped:
            run.cancel.cancel("its window ended")
        return [run.order for run in stopped]

    def stop(
        self, reason: str, *, wait_s: float, finish_s: float = 0.0, hurry: threading.Event | None = None
    ) -> list[Order]:
        """Start nothing more; let what runs end within ``finish_s``, then tell it to stop and wait for that; returns
        what has not ended by then. What would have followed stays unsettled. ``hurry`` ends the first wait."""
        with self._changed:
            self._stopping = reason
            self._waiting.clear()
            end_s = time.monotonic() + finish_s
            while self._running and not (hurry and hurry.is_set()) and (left_s := end_s - time.monotonic()) > 0:
                self._changed.wait(min(left_s, LOOK_S))
            runs = list(self._running.values())
        for run in runs:
            run.cancel.cancel(reason)
        with self._changed:
            self._changed.wait_for(lambda: not self._running, timeout=wait_s)
            return [run.order for run in self._running.values()]

    def idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs and nothing waits."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running and not self._waiting, timeout=timeout_s)

    def _enqueue(self, order: Order) -> None:
        if self._stopping:
            return
        self._waiting.append((-order.priority, next(self._numbers), order))
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._runs_max and not self._stopping:
            first = min(self._waiting, key=lambda one: one[:2])
            self._waiting.remove(first)
            run = Run(first[2])
            self._running[run.order.schedule] = run
            thread = threading.Thread(target=self._go, args=(run,), name=f"run {run.order.schedule}", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _go(self, run: Run) -> None:
        outcome = "failed"
        try:
            self._begun(run.order)
            outcome = self._work(run.order, run.cancel)
        finally:
            try:
                self._ended(run.order, outcome)
            finally:
                with self._changed:
                    del self._running[run.order.schedule]
                    self._threads.discard(threading.current_thread())
                    following = self._following.pop(run.order.schedule, None)
                    if following is not None:
                        self._enqueue(following)
                    self._start()
                    self._changed.notify_all()
