"""The loop: every few seconds, what is due is written down as running and given to the runner.

A configuration is a :class:`Plan`, replaced as a whole by :meth:`Service.adopt`. The loop survives errors of a round
(a full disk, a state file that cannot be written): it says so once and tries again; a run that could not be written
down is not started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from schedules.agenda import Due, Schedule, due, next_start
from schedules.calendar import Fire
from xobackup.clock import Clock, utc
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import EngineError
from xobackup.service.runner import Joined, Order, Runner, Work
from xobackup.service.state import Running, StateFile, read_paused

ROUND_S = 5.0
OK = "ok"


class Log(Protocol):
    """Where the service says what it does. ``level``: ``info``, ``warning``, ``error``."""

    def __call__(self, level: str, text: str, **fields: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """A schedule that runs after another one."""

    after: str
    only_ok: bool
    enabled: bool = True
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a configuration asks for. ``stop_at_end``: schedules whose runs stop when their window ends."""

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    followers: Mapping[str, Follower] = field(default_factory=dict)
    stop_at_end: frozenset[str] = frozenset()
    runs_max: int = 2
    finish_wait_s: float = 0.0
    stop_wait_s: float = 90.0

    @property
    def names(self) -> set[str]:
        return {*self.schedules, *self.followers}


class Service:
    """One per state directory. ``work`` does one run of a schedule."""

    def __init__(self, directory: Path, plan: Plan, work: Work, *, clock: Clock, log: Log) -> None:
        """Raises ``AlreadyServed``."""
        self._directory = directory
        self._clock = clock
        self._log = log
        self._plan = plan
        self._mutex = threading.RLock()
        self._complained = ""
        self._stopped = False
        self._file = StateFile(directory)
        if self._file.problem:
            log("error", self._file.problem)
        self.runner = Runner(work, runs_max=plan.runs_max, ended=self._ended)

    # -- the loop

    def start(self) -> None:
        """Begin again what an earlier process had not ended; new schedules begin now."""
        left = dict(self._file.state.running)
        self._meet()
        for name, running in left.items():
            if name not in self._plan.names:
                continue
            told = f"was ordered {running.began:%Y-%m-%d %H:%M} and did not end: it is begun again"
            self._log("warning", told, schedule=name)
            self._order(name, running.nominal, reason="did not end before")

    def round(self) -> None:
        """Look once. Never raises for what may be better the next time."""
        try:
            self._look()
        except (OSError, EngineError) as error:
            told = f"nothing is started: {error}"
            if told != self._complained:
                self._complained = told
                self._log("error", told)
        else:
            self._complained = ""

    def _look(self) -> None:
        now = self._now()
        with self._mutex:
            plan = self._plan
            if self._stopped:
                return
            for order in self.runner.stop_what_is_over(now):
                self._log("warning", "its window ended: the run is stopped", schedule=order.schedule)
            paused = read_paused(self._directory)
            for one in due(plan.schedules.values(), self._file.state.settled, now, paused):
                self._settle(one)

    def _settle(self, one: Due) -> None:
        if not one.start:
            self._file.settle(one.schedule, one.settled)
            self._log("warning", f"skipped: {one.reason}", schedule=one.schedule, nominal=one.settled.isoformat())
            return
        self._order(one.schedule, one.settled, reason=one.reason)

    def _order(self, name: str, nominal: datetime, *, reason: str) -> Joined:
        schedule = self._plan.schedules.get(name)
        follower = self._plan.followers.get(name)
        priority = schedule.priority if schedule else follower.priority if follower else 0
        stop_at = None
        if schedule is not None and name in self._plan.stop_at_end:
            stop_at = schedule.calendar.closes(self._now())
        order = Order(schedule=name, nominal=nominal, priority=priority, reason=reason, stop_at=stop_at)
        self._file.begin(name, Running(nominal=nominal, began=self._now()))
        joined = self.runner.submit(order)
        if joined is not Joined.QUEUED:
            self._log("info", f"due, and {joined.value}", schedule=name, nominal=nominal.isoformat())
        return joined

    def _ended(self, order: Order, outcome: str) -> None:
        with self._mutex:
            if self._stopped and outcome != OK:
                return  # the next start begins it again
            try:
                if not self.runner.follows(order.schedule):
                    self._file.end(order.schedule)
                for name, follower in self._plan.followers.items():
                    if follower.after == order.schedule:
                        self._follow(name, follower, order, outcome)
            except OSError as error:
                self._log("error", f"the end of its run could not be written down: {error}", schedule=order.schedule)

    def _follow(self, name: str, follower: Follower, order: Order, outcome: str) -> None:
        if not follower.enabled:
            return
        if follower.only_ok and outcome != OK:
            self._log("warning", f"skipped: {order.schedule} ended as {outcome}", schedule=name)
            return
        if reason := read_paused(self._directory).get(name):
            self._log("warning", f"skipped: paused: {reason}", schedule=name)
            return
        self._order(name, order.nominal, reason=f"after {order.schedule}")

    @property
    def unsettled(self) -> set[str]:
        """Schedules whose run was ordered and has not ended."""
        return set(self._file.state.running)

    # -- from outside

    def adopt(self, plan: Plan) -> None:
        """Follow another configuration from now on. What runs goes on as it began."""
        with self._mutex:
            self._plan = plan
            self._meet()
        self.runner.limit(plan.runs_max)

    def run_now(self, name: str) -> Joined:
        """Order a run besides the calendar."""
        with self._mutex:
            if name not in self._plan.names:
                raise EngineError(f"there is no schedule {name!r}")
            nominal = self._file.state.settled.get(name, self._now())
            return self._order(name, nominal, reason="asked for")

    def next_starts(self) -> dict[str, Fire | None]:
        """When each schedule starts next; not of those that follow others."""
        now = self._now()
        with self._mutex:
            settled = dict(self._file.state.settled)
            return {name: next_start(one, settled.get(name), now) for name, one in self._plan.schedules.items()}

    def stop(self, reason: str, hurry: threading.Event | None = None) -> list[Order]:
        """Let what runs end or clean up, and leave; returns what had not ended in time. ``hurry``: when it is set
        nothing more is waited for that could be told to stop."""
        with self._mutex:
            self._stopped = True
            plan = self._plan
        left = self.runner.stop(reason, finish_s=plan.finish_wait_s, wait_s=plan.stop_wait_s, hurry=hurry)
        self._file.close()
        return left

    def loop(self, stop: threading.Event, wake: threading.Event, after_round: Callable[[], None]) -> None:
        """Rounds until ``stop``; ``wake``: the next one at once."""
        while not stop.is_set():
            self.round()
            after_round()
            wake.wait(ROUND_S)
            wake.clear()

    def _meet(self) -> None:
        """New schedules are settled up to now, gone ones forgotten."""
        now = self._now()
        self._file.keep_only(self._plan.names)
        for name in self._plan.schedules:
            if name not in self._file.state.settled:
                self._file.settle(name, now)

    def _now(self) -> datetime:
        return utc(self._clock.now_s())


__all__ = ["OK", "CancelToken", "Follower", "Log", "Plan", "Service"]
