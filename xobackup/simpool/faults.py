"""Planned faults: what shall go wrong, when, and how often. One that was planned and never fired is a test's bug.

faults.fail_call("VM.snapshot", "SR_BACKEND_FAILURE_44", ["", "There is insufficient space", ""])
faults.lose_answer("VDI.destroy")              done, but the connection drops before the answer
faults.delay_call("VM.get_record", 0.2)
faults.break_transfer("export", after_bytes=3_000_000, how="error")
faults.expire_session_at("VM.snapshot")
faults.slow("nbd", latency_s=0.02, bytes_per_s=125_000_000)
faults.act_at("VM.snapshot", pool.restart_toolstack)
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from xobackup.simpool.failures import Failure
from xobackup.simpool.link import PERFECT, Link

if TYPE_CHECKING:
    from collections.abc import Callable

Break = Literal["error", "drop", "end", "lie", "stall", "silence"]
"""How a transfer breaks: a second HTTP answer inside the body, a reset, an early end, an early end that the task
calls a success; or it stands still with its connection open, alone or with everything else that the pool is asked,
until :meth:`Faults.end_silence`."""
LinkKind = Literal["http", "nbd"]
FOREVER = 1 << 30
RANDOM_KINDS = frozenset({"fail", "lose", "delay", "expire", "break", "linger", "vanish"})
RANDOM_BREAKS: tuple[Break, ...] = ("drop", "error", "end")
RESTART_SHARE = 0.1
"""Of the calls that go wrong, those at which the toolstack restarts, where that is possible."""
LINGER_MAX_S = 0.3
PASSING: tuple[tuple[str, list[str]], ...] = (
    ("TOO_MANY_PENDING_TASKS", []),
    ("SR_BACKEND_FAILURE_201", ["", "Currently unavailable, try again", ""]),
    ("OTHER_OPERATION_IN_PROGRESS", ["VM", "OpaqueRef:NULL", "snapshot", "OpaqueRef:NULL"]),
)
"""Failures that pass by themselves."""
SPARED = ("session.", "system.", "task:")


class ConnectionLost(Exception):
    """The connection is to be closed without an answer."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One planned fault; ``skip`` matching events pass before it fires ``times`` times."""

    kind: str
    pattern: str
    times: int = 1
    skip: int = 0
    fired: int = 0
    code: str = ""
    params: list[str] = field(default_factory=list)
    seconds: float = 0.0
    after_bytes: int = 0
    how: Break = "drop"
    action: Callable[[], None] | None = None
    still: Callable[[], None] | None = None
    """Waits until the silence is over."""
    what: str = ""

    @property
    def spent(self) -> bool:
        return self.fired >= self.times

    def __str__(self) -> str:
        return f"{self.what or self.kind} {self.pattern} ({self.fired} of {self.times} fired)"


class Chance:
    """Faults by seed. ``fired`` lists what happened, for whoever looks into a failed test."""

    def __init__(self, rng: random.Random, rate: float, restart: Callable[[], None] | None) -> None:
        self._rng = rng
        self._rate = rate
        self._restart = restart
        self.fired: list[str] = []

    def take(self, kind: str, subject: str) -> Fault | None:
        share = 0.0 if subject.startswith(SPARED) else self._share(kind)
        if not share or self._rng.uniform(0.0, 1.0) >= share:
            return None
        fault = Fault(kind=kind, pattern=subject, fired=1, action=self._restart)
        if kind == "fail":
            fault.code, fault.params = self._rng.choice(PASSING)
        elif kind == "break":
            fault.after_bytes = self._rng.randrange(4 << 20)
            fault.how = self._rng.choice(RANDOM_BREAKS)
        elif kind in ("delay", "linger"):
            fault.seconds = self._rng.uniform(0.0, LINGER_MAX_S if kind == "linger" else 0.05)
        self.fired.append(f"{kind} {subject}")
        return fault

    def _share(self, kind: str) -> float:
        """Of what is asked about, how much goes wrong in this way."""
        if kind == "act":
            return self._rate * RESTART_SHARE if self._restart is not None else 0.0
        return self._rate if kind in RANDOM_KINDS else 0.0


class Faults:
    """The plan of one pool, changed by tests and asked by the server's threads."""

    def __init__(self) -> None:
        self._plan: list[Fault] = []
        self._chance: Chance | None = None
        self._links: dict[LinkKind, Link] = {}
        self._lock = threading.Lock()
        self._moving, self._speaking = threading.Event(), threading.Event()
        self._speaking.set()
        self.sessions_expired = 0

    def plan(self, fault: Fault) -> Fault:
        with self._lock:
            self._plan.append(fault)
        return fault

    def fail_call(self, method: str, code: str, params: list[str], *, times: int = 1, skip: int = 0) -> Fault:
        """The call fails with this code before it does anything."""
        return self.plan(Fault(kind="fail", pattern=method, code=code, params=params, times=times, skip=skip))

    def lose_answer(self, method: str, *, times: int = 1, skip: int = 0) -> Fault:
        """The call is carried out, then the connection is dropped without an answer."""
        return self.plan(Fault(kind="lose", pattern=method, times=times, skip=skip))

    def delay_call(self, method: str, seconds: float, *, times: int = FOREVER) -> Fault:
        return self.plan(Fault(kind="delay", pattern=method, seconds=seconds, times=times))

    def lose_change_log(self, *, times: int = 1, skip: int = 0) -> Fault:
        """The next snapshot of a tracked disk cannot keep its log: tracking is off, a message says so."""
        return self.plan(Fault(kind="cbt", pattern="snapshot", times=times, skip=skip))

    def expire_session_at(self, method: str, *, times: int = 1, skip: int = 0) -> Fault:
        """All sessions are gone when this call arrives."""
        return self.plan(Fault(kind="expire", pattern=method, times=times, skip=skip))

    def break_transfer(
        self, direction: str, *, after_bytes: int, how: Break = "drop", times: int = 1, skip: int = 0
    ) -> Fault:
        """An ``export``, ``import``, ``dump`` or ``nbd`` breaks once that many bytes of its body have passed."""
        fault = Fault(kind="break", pattern=direction, after_bytes=after_bytes, how=how, times=times, skip=skip)
        if how in ("stall", "silence"):
            self._moving.clear()
            fault.still = lambda: self._stand_still(all_of_it=how == "silence")
        return self.plan(fault)

    def _stand_still(self, *, all_of_it: bool) -> None:
        if all_of_it:
            self._speaking.clear()
        self._moving.wait()

    def end_silence(self) -> None:
        """What stood still goes on: transfers as broken ones."""
        self._moving.set()
        self._speaking.set()

    def linger(self, direction: str, seconds: float, *, times: int = 1) -> Fault:
        """The control domain keeps the disk attached that long after a transfer (``VDI_IN_USE`` meanwhile)."""
        return self.plan(Fault(kind="linger", pattern=direction, seconds=seconds, times=times))

    def vanish_task(self, label: str, *, times: int = 1, skip: int = 0) -> Fault:
        """A task with this label is gone the moment it ends: nobody learns how."""
        return self.plan(Fault(kind="vanish", pattern=label, times=times, skip=skip))

    def act_at(
        self, method: str, action: Callable[[], None], *, what: str = "act", times: int = 1, skip: int = 0
    ) -> Fault:
        """Something happens to the pool when this call arrives, before it is looked at."""
        return self.plan(Fault(kind="act", pattern=method, action=action, what=what, times=times, skip=skip))

    def randomly(self, seed: int, *, rate: float, restart: Callable[[], None] | None = None) -> None:
        """Besides what is planned, ``rate`` of all calls and transfers go wrong in ways that a client survives.

        ``restart``: what restarts the toolstack, if that may happen too.
        """
        with self._lock:
            self._chance = Chance(random.Random(seed), rate, restart)

    @property
    def by_chance(self) -> list[str]:
        """What :meth:`randomly` has let happen so far."""
        with self._lock:
            return [] if self._chance is None else list(self._chance.fired)

    def slow(
        self, kind: LinkKind, *, latency_s: float = 0.0, bytes_per_s: float | None = None, first_byte_s: float = 0.0
    ) -> None:
        """Connections of this kind that begin from now on are so slow; without values: as fast as they can."""
        with self._lock:
            self._links[kind] = Link(latency_s=latency_s, bytes_per_s=bytes_per_s, first_byte_s=first_byte_s)

    def link(self, kind: LinkKind) -> Link:
        with self._lock:
            return self._links.get(kind, PERFECT)

    def clear(self) -> None:
        with self._lock:
            self._plan.clear()
            self._links.clear()
            self._chance = None

    def unfired(self) -> list[str]:
        """Planned faults that have not fired as often as planned; ``FOREVER`` ones count once."""
        with self._lock:
            return [str(fault) for fault in self._plan if not (fault.spent or _kept(fault))]

    def take(self, kind: str, subject: str, *, planned_only: bool = False) -> Fault | None:
        """The fault that hits ``subject`` now, counted as fired."""
        with self._lock:
            for fault in self._plan:
                if fault.kind != kind or fault.spent or not fnmatchcase(subject, fault.pattern):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.fired += 1
                return fault
            return None if self._chance is None or planned_only else self._chance.take(kind, subject)

    def act(self, method: str) -> None:
        """Let happen what is planned for the arrival of this call; while the pool is silent it stays unanswered."""
        self._speaking.wait()
        fault = self.take("act", method)
        if fault is not None and fault.action is not None:
            fault.action()

    def check_call(self, method: str) -> None:
        """Raise the failure planned for this call, if any."""
        fault = self.take("fail", method, planned_only=method.startswith("Async."))
        if fault is not None:
            raise Failure.unchecked(fault.code, fault.params)


def _kept(fault: Fault) -> bool:
    return fault.times >= FOREVER and fault.fired > 0
