"""The loop: every few seconds, what is due is written down as running and given to the runner.

A configuration is a :class:`Plan`, replaced as a whole by :meth:`Service.adopt`. The loop survives errors of a round
(a full disk, a state file that cannot be written, a database that is away): it says so once and tries again; a run
that could not be written down is not started, and an end that could not be is written down later.

What is written down rules: a run that is noted as ours and that nobody here knows is begun again, whether this
process is a new one, had to stop it, or did not hear whether its note was taken. What is noted as another node's is
left to that node, until it is gone.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from schedules.agenda import Due, due, next_start
from schedules.calendar import Fire
from xobackup.clock import Clock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import EngineError
from xobackup.service.plan import Follower, Log, Plan
from xobackup.service.runner import Joined, Order, Runner, Work
from xobackup.service.state import StateFile
from xobackup.service.store import Begun, Look, Running, ScheduleStore

ROUND_S = 5.0
OK = "ok"
FULL_WAITS = timedelta(seconds=15)
"""What is due is left so long to other nodes by one that has no place for it."""


class Service:
    """One per state directory. ``work`` does one run of a schedule."""

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        work: Work,
        *,
        clock: Clock,
        log: Log,
        store: ScheduleStore | None = None,
    ) -> None:
        """``store``: a file in the directory when ``None``. Raises ``AlreadyServed``."""
        self._log = log
        self._plan = plan
        self._mutex = threading.RLock()
        self._complained = ""
        self._unmet = True
        self._stopped = False
        self._owed: list[tuple[Order, str, bool]] = []
        """Ends to be written down: of what, how it ended, and whether another one of it followed at once."""
        self._given_up: dict[int, Order] = {}
        """Runs (by ``id``) that were stopped because others may have begun them again."""
        self._told = ""
        self._closed: list[Order] = []
        """Runs whose end is written down and whose thread has still to go."""
        self._left: set[str] | None = None
        self._settled: Mapping[str, datetime] = {}
        self._elsewhere: dict[str, str] = {}
        self.store = StateFile(directory, clock) if store is None else store
        if self.store.problem:
            log("error", self.store.problem)
        self.runner = Runner(work, runs_max=plan.runs_max, ended=self._ended)

    # -- the loop

    def start(self) -> None:
        """Begin again what an earlier process had not ended; new schedules begin now."""
        with self._mutex:
            self._surviving(lambda: self._begin_again(self._seen()))
        self.store.watch(self.stop_what_was_lost)

    def round(self) -> None:
        """Look once. Never raises for what may be better the next time."""
        self._surviving(self._look)

    @property
    def problem(self) -> str:
        """Why nothing is started, or what else is wrong with what is remembered."""
        return self._complained or self.store.problem

    def _surviving(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, EngineError) as error:
            told = f"nothing is started: {error}"
            if told != self._complained:
                self._complained = told
                self._log("error", told)
        else:
            if self._complained and self.store.is_shared:
                self._log("info", "schedules are followed again")
            self._complained = ""

    def _look(self) -> None:
        self.stop_what_was_lost()
        with self._mutex:
            if self._stopped:
                return
            for order in self.runner.stop_what_is_over(self._now()):
                self._log("warning", "its window ended: the run is stopped", schedule=order.schedule)
            self._pay()
            look = self._seen()
            self._begin_again(look)
            mine = [
                one
                for name, one in self._plan.schedules.items()
                if name not in look.state.running or look.state.running[name].here
            ]
            for one in due(mine, look.state.settled, look.now, look.paused):
                self._settle(one, look)

    def _seen(self) -> Look:
        """A look, when what this node follows is known to the store."""
        if self._unmet:
            self._meet()
        look = self.store.look()
        if not set(self._plan.schedules) <= set(look.state.settled):  # somebody lost what was remembered
            self._meet()
            look = self.store.look()
        if self.store.problem != self._told:
            self._told = self.store.problem
            if self._told:
                self._log("warning", self._told)
        self._settled = look.state.settled
        self._elsewhere = {name: one.host for name, one in look.state.running.items() if not (one.here or one.gone)}
        return look

    def stop_what_was_lost(self) -> None:
        """Stop runs that others may have begun by now. Needs no store."""
        if reason := self.store.lost():
            for order in itertools.chain(*self.runner.orders()):
                self._give_up(order, reason)

    def _give_up(self, order: Order, reason: str) -> None:
        if id(order) not in self._given_up and self.runner.cancel(order.schedule, reason):
            self._given_up[id(order)] = order
            self._log("warning", f"the run is stopped: {reason}", schedule=order.schedule)

    def _begin_again(self, look: Look) -> None:
        """What was ordered and is in nobody's hands; and what somebody asked for on another node."""
        known = list(itertools.chain(*self.runner.orders()))
        self._closed = [one for one in self._closed if any(one is order for order in known)]
        for one in [one for one in self._given_up.values() if not any(one is order for order in known)]:
            self._given_up.pop(id(one), None)
        here = {one.schedule for one in known}
        owed = {order.schedule for order, _, _ in self._owed}
        closed = {one.schedule for one in self._closed}
        for order in known:
            running = look.state.running.get(order.schedule)
            if order.schedule not in owed | closed and (running is None or not running.here):
                self._give_up(
                    order, f"it was given to {running.host if running else 'another node, and ended there'}"
                )
        for name, running in look.state.running.items():
            if name not in self._plan.names or name in owed:
                continue
            if name in here:
                if running.here and running.again:
                    self.store.heard(name)
                    self._order(name, running.nominal, reason="asked for")
            elif (running.here or running.gone) and name not in look.paused:
                self._take_over(name, running)

    def _take_over(self, name: str, running: Running) -> None:
        if running.here:
            told = f"was ordered {running.began:%Y-%m-%d %H:%M} and did not end: it is begun again"
            reason = "did not end before"
        else:
            how = f"was not heard of since {running.seen:%Y-%m-%d %H:%M:%S %Z}" if running.seen else "left"
            told = f"was begun by {running.host} which {how}: it is begun again"
            reason = f"was begun by {running.host} which {how}"
        if running.run_id:
            reason += f"; follows run {running.run_id}"
        if self._order(name, running.nominal, reason=reason, instead_of=running.node) is not None:
            self._log("warning", told, schedule=name, **({"follows": running.run_id} if running.run_id else {}))

    def _settle(self, one: Due, look: Look) -> None:
        since = look.state.settled[one.schedule]
        if not one.start:
            if self.store.settle(one.schedule, one.settled, since=since):
                self._log("warning", f"skipped: {one.reason}", schedule=one.schedule, nominal=one.settled.isoformat())
            return
        if self.store.is_shared and self.runner.full and look.now - one.fire.at < FULL_WAITS:
            return  # another node may have a place; and if not, it waits here
        self._order(one.schedule, one.settled, reason=one.reason, since=since)

    def _order(
        self,
        name: str,
        nominal: datetime,
        *,
        reason: str,
        since: datetime | None = None,
        instead_of: str | None = None,
    ) -> Joined | None:
        """``None``: another node came first."""
        begun = self.store.begin(name, nominal, since=since, instead_of=instead_of)
        return self._submit(name, nominal, begun, reason)

    def _submit(self, name: str, nominal: datetime, begun: Begun, reason: str) -> Joined | None:
        if begun is Begun.LATE:
            return None
        if begun is Begun.ELSEWHERE:
            self._log("info", f"due, and {Joined.ELSEWHERE.value}", schedule=name, nominal=nominal.isoformat())
            return Joined.ELSEWHERE
        schedule = self._plan.schedules.get(name)
        follower = self._plan.followers.get(name)
        priority = schedule.priority if schedule else follower.priority if follower else 0
        stop_at = None
        if schedule is not None and name in self._plan.stop_at_end:
            stop_at = schedule.calendar.closes(self._now())
        order = Order(schedule=name, nominal=nominal, priority=priority, reason=reason, stop_at=stop_at)
        joined = self.runner.submit(order)
        if joined is not Joined.QUEUED:
            self._log("info", f"due, and {joined.value}", schedule=name, nominal=nominal.isoformat())
        return joined

    def _ended(self, order: Order, outcome: str) -> None:
        given_up = self._given_up.pop(id(order), None)
        if given_up is not None and outcome != OK:
            return  # whoever has it by now begins it again
        with self._mutex:
            if self._stopped and outcome != OK:
                return  # the next start begins it again
            self._owed.append((order, outcome, self._goes_on(order)))
            try:
                self._pay()
            except (OSError, EngineError) as error:
                told = f"the end of its run could not be written down, and will be: {error}"
                self._log("error", told, schedule=order.schedule)

    def _pay(self) -> None:
        """Write down how runs ended, and order what follows them."""
        while self._owed:
            order, outcome, went_on = self._owed[0]
            after = self._after(order, outcome)
            goes_on = went_on or self._goes_on(order)
            begun = self.store.end(order.schedule, goes_on=goes_on, then=after, nominal=order.nominal)
            self._owed.pop(0)
            if not goes_on and order.schedule not in begun:
                self._closed.append(order)
            for name, what in begun.items():
                reason = "asked for" if name == order.schedule else f"after {order.schedule}"
                self._submit(name, order.nominal, what, reason)

    def _goes_on(self, order: Order) -> bool:
        """Whether another run of its schedule follows, waits, or has taken its place by now."""
        known = itertools.chain(*self.runner.orders())
        another = any(one.schedule == order.schedule and one is not order for one in known)
        return another or self.runner.follows(order.schedule)

    def _after(self, order: Order, outcome: str) -> list[str]:
        """What follows a run that ended like that."""
        found: list[str] = []
        followers = {name: one for name, one in self._plan.followers.items() if one.after == order.schedule}
        paused = self.store.paused() if followers else {}
        for name, follower in followers.items():
            if not follower.enabled:
                continue
            if follower.only_ok and outcome != OK:
                self._log("warning", f"skipped: {order.schedule} ended as {outcome}", schedule=name)
            elif name in paused:
                self._log("warning", f"skipped: paused: {paused[name]}", schedule=name)
            else:
                found.append(name)
        return found

    @property
    def unsettled(self) -> set[str]:
        """Schedules whose run was ordered here and has not ended."""
        if self._left is not None:
            return self._left
        try:
            running = self.store.look().state.running
        except (OSError, EngineError):
            return {order.schedule for order in itertools.chain(*self.runner.orders())}
        return {name for name, one in running.items() if one.here}

    # -- from outside

    def adopt(self, plan: Plan) -> None:
        """Follow another configuration from now on. What runs goes on as it began."""
        with self._mutex:
            self._plan, self._unmet = plan, True
            self._surviving(self._meet)
        self.runner.limit(plan.runs_max)

    def run_now(self, name: str) -> Joined:
        """Order a run besides the calendar."""
        with self._mutex:
            if name not in self._plan.names:
                raise EngineError(f"there is no schedule {name!r}")
            if self._unmet:
                self._meet()
            self._pay()
            nominal = self._settled.get(name, self._now())
            joined = self._order(name, nominal, reason="asked for")
            assert joined is not None, "only who says since when may be late"
            return joined

    def next_starts(self) -> dict[str, Fire | None]:
        """When each schedule starts next; not of those that follow others."""
        now = self._now()
        with self._mutex:
            settled = dict(self._settled)
            return {name: next_start(one, settled.get(name), now) for name, one in self._plan.schedules.items()}

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """Schedules whose run other nodes had when we looked last, and their hosts."""
        return dict(self._elsewhere)

    def stop(self, reason: str, hurry: threading.Event | None = None) -> list[Order]:
        """Let what runs end or clean up, and leave; returns what had not ended in time. ``hurry``: when it is set
        nothing more is waited for that could be told to stop."""
        with self._mutex:
            self._stopped = True
            plan = self._plan
        left = self.runner.stop(reason, finish_s=plan.finish_wait_s, wait_s=plan.stop_wait_s, hurry=hurry)
        with self._mutex:
            with suppress(OSError, EngineError):
                self._pay()
            self._left = self.unsettled
            self.store.close(in_order=not left)
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
        plan = self._plan
        known = {name: plan.fingerprints.get(name, "") for name in plan.names}
        self.store.meet(known, set(plan.schedules))
        self._unmet = False

    def _now(self) -> datetime:
        return self.store.now()


__all__ = ["OK", "CancelToken", "Follower", "Log", "Plan", "Service"]
