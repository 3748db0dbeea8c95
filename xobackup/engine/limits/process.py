"""The limits of one process: its numbers, its room, its rates. Whatever it does shares one of these."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xobackup.clock import Clock
from xobackup.engine.limits.bandwidth import Timetable
from xobackup.engine.limits.hosts import Host, serving_hosts
from xobackup.engine.limits.room import Room
from xobackup.engine.limits.settings import PROCESS_DEFAULTS, Limits
from xobackup.engine.throttle import Share, Throttle

if TYPE_CHECKING:
    from xobackup.xapi.session import Session


class Shares(Protocol):
    """Other processes, with which rates are shared."""

    def of(self, name: str) -> Share:
        """A part of the rate that everybody calls so; every limiter has one of its own."""
        ...


@dataclass(slots=True, kw_only=True)
class ProcessLimits:
    """``bandwidth``: of all jobs together; ``remotes``: of what is written to each remote, by name."""

    limits: Limits = PROCESS_DEFAULTS
    bandwidth: Timetable = field(default_factory=Timetable)
    remotes: Mapping[str, Timetable] = field(default_factory=dict)
    room: Room = field(default_factory=Room)
    shares: Shares | None = None
    """Where all of this holds over other processes too."""
    _total: Throttle | None = None
    _by_remote: dict[str, Throttle] = field(default_factory=dict)
    _hosts: dict[str, dict[str, Host]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def share(self, name: str) -> Share | None:
        """A part of the rate that all processes call so; ``None``: it is this one's alone."""
        return None if self.shares is None else self.shares.of(name)

    def hold_over_all(self, room: Room, shares: Shares) -> None:
        """From now on this holds over other processes too; what has begun ends as it began."""
        with self._lock:
            self.room, self.shares = room, shares
            self._total = None
            self._by_remote.clear()

    def total(self, clock: Clock) -> Throttle | None:
        """The limiter of all jobs together; ``None`` without a limit."""
        if not self.bandwidth.limited:
            return None
        with self._lock:
            self._total = self._total or Throttle(self.bandwidth, clock, share=self.share("all jobs"))
            return self._total

    def to_remote(self, name: str, clock: Clock) -> Throttle | None:
        """The limiter of what is written to a remote."""
        table = self.remotes.get(name)
        if table is None or not table.limited:
            return None
        with self._lock:
            if name not in self._by_remote:
                self._by_remote[name] = Throttle(table, clock, share=self.share(f"remote {name}"))
            return self._by_remote[name]

    def hosts_of(self, session: Session, pool_uuid: str) -> Mapping[str, Host]:
        """SR uuid -> the host that serves its disks; a pool is asked once. Raises ``XapiError``."""
        with self._lock:
            if pool_uuid not in self._hosts:
                pool = next(iter(session.records("pool").values()), {})
                self._hosts[pool_uuid] = serving_hosts(
                    srs=session.records("SR"),
                    pbds=session.records("PBD"),
                    hosts=session.records("host"),
                    master=str(pool.get("master", "")),
                )
            return self._hosts[pool_uuid]
