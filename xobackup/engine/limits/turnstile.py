"""What a job asks the room for: places for VMs, snapshots, transfers, deletions of snapshots.

Each limit of the process and each of the job is a gate of its own. What was waited for is seen in the progress while
it is waited for, and in the journal afterwards, unless it was but a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.limits.gates import Gate
from xobackup.engine.limits.settings import Limits
from xobackup.engine.view import SrView
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.progress import Meter

LimitOf = Callable[[Limits], int | None]
TOLD_S = 5.0
"""Shorter waits are not worth a line."""
VMS, SNAPSHOTS, TRANSFERS, DELETIONS = "VMs", "snapshots being taken", "transfers", "deletions of snapshots"


class Turnstile:
    """For one VM of a run, or one that waits with others (``vm``: its uuid, ``name``: what the progress shows)."""

    def __init__(self, context: RunContext, *, vm: str, name: str) -> None:
        self._context = context
        self._world = context.world
        self._vm = vm
        self._name = name
        self._process = context.world.limits
        self._scopes = (
            ("", "", self._process.limits),
            (f"job {context.job.id} ", f" of job {context.job.name}", context.job.settings.limits),
        )

    @contextmanager
    def vms(self, count: int, cancel: CancelToken) -> Iterator[None]:
        """Places for ``count`` VMs that are backed up together. (The job's own limit is its queue's.)"""
        gates = _gates([("", "", self._process.limits.vms_max)], "this process", VMS, key="process")
        with self._through(gates, cancel, count=count):
            yield

    @contextmanager
    def snapshot(self, srs: Iterable[SrView], cancel: CancelToken, *, count: int = 1) -> Iterator[None]:
        """Taking a snapshot with disks on ``srs``, or ``count`` of them."""
        with self._through(self._snapshot_gates(srs), cancel, count=count):
            yield

    def snapshots_room(self, srs: Iterable[SrView]) -> int | None:
        """How many snapshots may be taken there at a time at most; ``None``: any number."""
        return min((gate.room for gate in self._snapshot_gates(srs)), default=None)

    def _snapshot_gates(self, srs: Iterable[SrView]) -> list[Gate]:
        return [
            *self._at_pool(lambda limits: limits.snapshots_per_pool, SNAPSHOTS),
            *self._at_srs(srs, lambda limits: limits.snapshots_per_sr, SNAPSHOTS),
        ]

    @contextmanager
    def transfer(self, srs: Iterable[SrView], cancel: CancelToken, meter: Meter | None = None) -> Iterator[None]:
        """Reading from ``srs``; ``meter`` of the transfer shows what is waited for."""
        known = list(srs)
        gates = [
            *self._at_pool(lambda limits: limits.transfers_per_pool, TRANSFERS),
            *self._at_hosts(known),
            *self._at_srs(known, lambda limits: limits.transfers_per_sr, TRANSFERS),
            *self._process.link_gates(self._places()),
        ]
        with self._through(gates, cancel, meter=meter):
            yield

    @contextmanager
    def deletion(self, srs: Iterable[SrView], cancel: CancelToken) -> Iterator[None]:
        """Deleting a snapshot with disks on ``srs``: spread out, then one after the other."""
        known = list(srs)
        pause_s = max(limits.deletion_pause_s for _, _, limits in self._scopes)
        left_s = self._process.room.pace(tuple(sr.uuid for sr in known), pause_s, self._world.clock)
        if left_s > 0:
            names = ", ".join(f"SR {sr.name}" for sr in known)
            self._sleep(f"{names}: {pause_s:g} s between {DELETIONS}", left_s, cancel)
        with self._through(self._at_srs(known, lambda limits: limits.deletions_per_sr, DELETIONS), cancel):
            yield

    # -- gates

    def _places(self) -> list[str]:
        """Where the transfers of the job go, as :mod:`xobackup.engine.limits.links` names it."""
        context = self._context
        return [f"pool:{context.pool}", *context.repositories, *context.sites]

    def _at_pool(self, of: LimitOf, what: str) -> list[Gate]:
        rooms = [(key, name, of(limits)) for key, name, limits in self._scopes]
        return _gates(rooms, f"pool {self._context.pool}", what, key=f"pool {self._context.pool_uuid}")

    def _at_srs(self, srs: Iterable[SrView], of: LimitOf, what: str) -> list[Gate]:
        rooms = [(key, name, of(limits)) for key, name, limits in self._scopes]
        once = {sr.uuid: sr for sr in srs}
        return [gate for uuid, sr in once.items() for gate in _gates(rooms, f"SR {sr.name}", what, key=f"sr {uuid}")]

    def _at_hosts(self, srs: Iterable[SrView]) -> list[Gate]:
        rooms = [(key, name, limits.transfers_per_host) for key, name, limits in self._scopes]
        if all(room is None for _, _, room in rooms):
            return []
        try:
            known = self._process.hosts_of(self._context.session, self._context.pool_uuid)
        except XapiError:
            return []  # the transfer will say what is wrong with the pool
        hosts = {known[sr.uuid].uuid: known[sr.uuid] for sr in srs if sr.uuid in known}
        return [
            gate
            for host in hosts.values()
            for gate in _gates(rooms, f"host {host.name}", TRANSFERS, key=f"host {host.uuid}")
        ]

    # -- waiting

    @contextmanager
    def _through(
        self, gates: list[Gate], cancel: CancelToken, *, count: int = 1, meter: Meter | None = None
    ) -> Iterator[None]:
        with _Telling(self, meter) as telling:
            through = self._process.room.through(tuple(gates), cancel, count=count, told=telling.note)
            with through:
                telling.end()
                yield

    def _sleep(self, what: str, seconds: float, cancel: CancelToken) -> None:
        with _Telling(self, None) as telling:
            telling.note(what)
            cancel.sleep(self._world.clock, seconds)
            telling.end()

    def told(self, what: str, duration_s: float) -> None:
        """Journal a wait that was more than a moment."""
        if duration_s >= TOLD_S:
            self._world.journal.write(events.Waited(vm=self._vm, what=what, duration_s=duration_s))

    def meter(self) -> Meter:
        """A line of its own in the progress."""
        return self._world.progress.meter(self._name, stage="waiting")

    def drop(self, meter: Meter) -> None:
        self._world.progress.drop(meter)

    def now_s(self) -> float:
        return self._world.clock.monotonic_s()


class _Telling:
    """One wait: a note on a meter (of its own, if none is given) while it lasts, a line in the journal after it."""

    def __init__(self, turnstile: Turnstile, meter: Meter | None) -> None:
        self._turnstile = turnstile
        self._given = meter
        self._meter: Meter | None = None
        self._first = ""
        self._since_s = 0.0

    def note(self, what: str) -> None:
        if not self._first:
            self._first, self._since_s = what, self._turnstile.now_s()
            self._meter = self._given or self._turnstile.meter()
        assert self._meter is not None
        self._meter.note(what)

    def end(self) -> None:
        """The wait is over."""
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.note("")
            if meter is not self._given:
                self._turnstile.drop(meter)
            self._turnstile.told(self._first, self._turnstile.now_s() - self._since_s)

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()


def _gates(rooms: Iterable[tuple[str, str, int | None]], name: str, what: str, *, key: str) -> list[Gate]:
    return [
        Gate(key=f"{scope}{key} {what}", name=f"{name}{scope_name}", what=what, room=room)
        for scope, scope_name, room in rooms
        if room is not None
    ]


def srs_of(disks: Iterable[SrView | None]) -> list[SrView]:
    """Those that are known, each once."""
    return list({sr.uuid: sr for sr in disks if sr is not None}.values())
