"""What pages, API and metrics show of workers. Pure data, looked up elsewhere and kept with its age."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from xobackup.web.views import Looked

ANY = "*"
"""Tasks that any worker may do; among sites that live: all together."""
NOWHERE = "-"
"""What no site reaches all of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingOn:
    """One VM that a worker does."""

    vm: str
    vm_name: str
    job: str
    since_s: float
    """Seconds ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker. ``state``: ``ready``, ``draining`` or ``lost``; ``release``: ``""``, ``older`` or ``newer`` than this
    service's, ``another`` when that cannot be told; ``skew_s``: its clock minus the database's."""

    id: str
    site: str
    host: str
    pid: int
    version: str
    release: str
    state: str
    slots: int
    doing: tuple[WorkingOn, ...]
    reach: tuple[str, ...]
    heard_s: float
    up_s: float
    skew_s: float
    relay: str = ""
    """Where it leads workers of other sites, if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingView:
    """What waits for workers of one site (:data:`ANY`; :data:`NOWHERE`)."""

    site: str
    count: int
    oldest_s: float
    reason: str
    vms: tuple[str, ...]
    """Some of them, the one that waits longest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitView:
    """A limit that is shared. ``kind``: ``rate`` (bytes per second) or ``places``. ``limit`` ``None``: not known
    here; ``used``: by all together; ``holders``: by how many."""

    name: str
    kind: str
    limit: float | None
    used: float
    holders: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A process that transfers and is no worker: this service, another control node, a command."""

    site: str
    host: str
    pid: int
    version: str
    heard_s: float
    up_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A control node that shares schedules. ``state``: ``ready`` or ``lost``; ``running``: schedules whose runs it
    has; ``skew_s``: its clock minus the database's."""

    host: str
    pid: int
    version: str
    state: str
    running: tuple[str, ...]
    heard_s: float
    skew_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersView:
    """``there``: the configuration has an engine's database."""

    there: bool = False
    looked: Looked = field(default_factory=Looked)
    workers: tuple[WorkerView, ...] = ()
    waiting: tuple[WaitingView, ...] = ()
    limits: tuple[LimitView, ...] = ()
    nodes: tuple[NodeView, ...] = ()
    members: tuple[MemberView, ...] = ()

    @property
    def alive(self) -> int:
        return sum(one.state != "lost" for one in self.workers)

    @property
    def problem(self) -> str:
        """What is wrong with it as a part of the service."""
        return f"the engine's database: {self.looked.problem}" if self.there and self.looked.problem else ""

    def alive_by_site(self) -> dict[str, int]:
        """Also those that drain; all of them at :data:`ANY`; a site whose workers are lost has none."""
        found = Counter({one.site: 0 for one in self.workers})
        found.update(one.site for one in self.workers if one.state != "lost")
        return {**found, ANY: self.alive}

    def doing_by_site(self) -> dict[str, int]:
        found = Counter({one.site: 0 for one in self.workers})
        for one in self.workers:
            found[one.site] += len(one.doing)
        return dict(found)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)
