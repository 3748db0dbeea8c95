"""What the pages are about: a service, its configuration and its history, as they ask for it. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from xobackup.engine.progress import Snapshot
from xobackup.history.standing import Overview, Standing
from xobackup.history.store import Store
from xobackup.notify.oddities import Oddity
from xobackup.service.operations import Operation
from xobackup.web.commands import Catalogue
from xobackup.web.requests import Wish
from xobackup.web.views import Depth, DrView, Offers, PointsView, RemoteVms, TargetView
from xobackup.web.worker_views import WorkersView


class Refused(Exception):
    """What was asked for is not there, or cannot be. ``status``: of HTTP."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        self.status = status
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """A schedule now. ``state``: ``running``, ``waiting``, ``paused``, ``disabled`` or ``""``."""

    name: str
    when: str
    jobs: tuple[str, ...]
    next_at: datetime | None
    state: str
    paused_for: str = ""
    last_outcome: str = ""
    remarks: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        data = asdict(self)
        data["next_at"] = self.next_at.isoformat() if self.next_at else None
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class StartView:
    """One start that lies ahead."""

    schedule: str
    at: datetime
    jobs: tuple[str, ...]
    why: str

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteView:
    """A remote, as it was last seen. ``None``: the storage does not tell, or nobody looked yet."""

    name: str
    url: str
    """Without secrets."""
    seen_at: float | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    problem: str = ""
    depth: Depth | None = None
    """Of the longer look, once a day."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """A run of this service that goes on, with its meters."""

    schedule: str
    job: str
    began_at: float
    stopping: str
    meters: tuple[Snapshot, ...]

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job of the configuration."""

    name: str
    mode: str
    pools: tuple[str, ...]
    remotes: tuple[str, ...]
    targets: tuple[str, ...]
    schedules: tuple[str, ...]
    retention: int
    rpo_s: float | None
    rpo_why: str

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


class Desk(Protocol):
    """Where orders are taken; what becomes of them is an operation."""

    def order(self, wish: Wish, who: str) -> Operation:
        """Raises ``Refused``: nothing of that name, the same goes on already, too many wait."""
        ...

    def retry(self, run_id: str, who: str) -> Operation:
        """The VMs that failed in a run."""
        ...

    def restore(self, plan_id: str, who: str) -> Operation:
        """Carry out what an operation planned."""
        ...

    def newest(self, limit: int) -> Sequence[Operation]: ...

    def get(self, operation_id: str) -> Operation: ...

    def meters(self, operation_id: str) -> Sequence[Snapshot]: ...

    def wait(self, operation_id: str, timeout_s: float) -> Operation:
        """As it is when it has ended, or by then."""
        ...

    def cancel(self, operation_id: str, reason: str) -> bool: ...

    def written(self, operation_id: str, name: str) -> BinaryIO:
        """The file of that name that a command wrote, to be read and closed. Raises ``Refused``."""
        ...


class Backups(Protocol):
    """What is on remotes and pools: looked up in a bounded time, and kept with its age."""

    def listed(self) -> Sequence[RemoteVms]: ...

    def points(self, vm: str, *, again: bool = False) -> Sequence[PointsView]:
        """By remote. ``again``: whatever is kept."""
        ...

    def offers(self, pool: str) -> Offers: ...

    def pools(self) -> Sequence[str]:
        """Of the configuration."""
        ...


class House(Protocol):
    """Thread-safe. Whatever cannot be answered raises :class:`Refused` or a ``HistoryError``."""

    @property
    def version(self) -> str: ...

    @property
    def commands(self) -> Catalogue:
        """The command line. The same as long as the process lives."""
        ...

    def now_s(self) -> float: ...

    def store(self) -> Store:
        """The history, as far as the journals go now."""
        ...

    def overview(self) -> Overview: ...

    def standings(self, uuid: str) -> Sequence[Standing]:
        """Of one VM, in each job."""
        ...

    def days(self, since: float, until: float) -> Sequence[Mapping[str, Any]]:
        """Sums by day (:func:`xobackup.history.ask.days`); they may be a minute old."""
        ...

    def jobs(self) -> Sequence[JobView]: ...

    def schedules(self) -> Sequence[ScheduleView]: ...

    def calendar(self, days: int) -> Sequence[StartView]: ...

    def remotes(self) -> Sequence[RemoteView]: ...

    def replicas(self) -> Sequence[TargetView]: ...

    def dr_plans(self) -> Sequence[DrView]: ...

    @property
    def desk(self) -> Desk: ...

    @property
    def backups(self) -> Backups: ...

    def live(self) -> Sequence[LiveView]: ...

    def workers(self) -> WorkersView:
        """As they were some seconds ago: never waits for their database."""
        ...

    def problems(self) -> Sequence[str]:
        """What is wrong with the service itself: a configuration that is not followed, a history that cannot be
        written.
        """
        ...

    def oddities(self) -> Sequence[Oddity]:
        """What is unusual though nothing failed."""
        ...

    def healthy(self) -> Mapping[str, str]:
        """Parts and what is wrong with them, ``""`` when nothing is; what ``/readyz`` says."""
        ...

    def run_now(self, schedule: str) -> str:
        """Order a run; what becomes of the order."""
        ...

    def cancel(self, schedule: str, reason: str) -> bool: ...

    def pause(self, schedule: str, reason: str) -> None: ...

    def resume(self, schedule: str) -> None: ...
