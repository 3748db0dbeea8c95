"""The limits of one process: its numbers, its room, its rates. Whatever it does shares one of these."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xobackup.clock import Clock
from xobackup.engine.limits.bandwidth import Timetable
from xobackup.engine.limits.gates import Gate
from xobackup.engine.limits.hosts import Host, serving_hosts
from xobackup.engine.limits.links import Link, Links
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
    links: Links = field(default_factory=Links)
    """The lines between sites."""
    room: Room = field(default_factory=Room)
    shares: Shares | None = None
    """Where all of this holds over other processes too."""
    _total: Throttle | None = None
    _by_remote: dict[str, Throttle] = field(default_factory=dict)
    _by_link: dict[str, Throttle] = field(default_factory=dict)
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
            self._by_link.clear()

    def total(self, clock: Clock) -> Throttle | None:
        """The limiter of all jobs together; ``None`` without a limit."""
        if not self.bandwidth.limited:
            return None
        with self._lock:
            self._total = self._total or Throttle(self.bandwidth, clock, share=self.share("all jobs"))
            return self._total

    def to_remote(self, name: str, clock: Clock) -> Throttle | None:
        """The limiter of what is written to a remote or target: its own, and that of the link that leads there."""
        link, table = self.links.to(name), self.remotes.get(name)
        line = () if link is None else self._through(link, clock)
        if table is None or not table.limited:
            return line[0] if line else None
        with self._lock:
            if name not in self._by_remote:
                self._by_remote[name] = Throttle(table, clock, above=line, share=self.share(f"remote {name}"))
            return self._by_remote[name]

    def across(self, throttle: Throttle, places: Iterable[str], clock: Clock) -> Throttle:
        """``throttle``, and the limiters of the links to each of these places (``pool:NAME``, remotes, targets): what
        comes from one and goes to another over the same line crosses it twice."""
        lines = [line for place in places if (link := self.links.to(place)) for line in self._through(link, clock)]
        return Throttle(None, clock, above=(throttle, *lines)) if lines else throttle

    def copying(self, source: str, target: str, clock: Clock) -> Throttle | None:
        """The limiter of what is copied from a remote to another one."""
        writing, link = self.to_remote(target, clock), self.links.to(source)
        lines = () if link is None else self._through(link, clock)
        if not lines:
            return writing
        return Throttle(None, clock, above=(*lines, *([writing] if writing is not None else ())))

    def pair(self, one: str, other: str, clock: Clock) -> Throttle | None:
        """The limiter of what goes from one site to the other; ``None`` without a limit."""
        link = self.links.between(one, other)
        return next(iter(self._through(link, clock)), None) if link is not None else None

    def pair_gates(self, one: str, other: str) -> tuple[Gate, ...]:
        """What a transfer from one site to the other has to get through (:meth:`Room.through`)."""
        link = self.links.between(one, other)
        return () if link is None else _gates_of([link])

    def link_gates(self, places: Iterable[str]) -> tuple[Gate, ...]:
        """The same for a transfer from here to, or from, all of these places."""
        return _gates_of([self.links.named(name) for name in self.links.crossed(places)])

    def _through(self, link: Link, clock: Clock) -> tuple[Throttle, ...]:
        if not link.bandwidth.limited:
            return ()
        with self._lock:
            if link.name not in self._by_link:
                self._by_link[link.name] = Throttle(link.bandwidth, clock, share=self.share(f"link {link.name}"))
            return (self._by_link[link.name],)

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


def _gates_of(links: Iterable[Link]) -> tuple[Gate, ...]:
    return tuple(
        Gate(key=f"link {link.name} transfers", name=f"link {link.name}", what="transfers", room=link.transfers_max)
        for link in links
        if link.transfers_max is not None
    )
