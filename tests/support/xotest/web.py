"""A house of pages without a service: a real history, schedules that only remember what was ordered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xobackup.cli.serving.catalogue import catalogue
from xobackup.cli.serving.desk import ServiceDesk
from xobackup.clock import FakeClock
from xobackup.engine.progress import Snapshot
from xobackup.history import ask
from xobackup.history.collect import catch_up
from xobackup.history.standing import Objective, Overview, Standing, overview
from xobackup.history.store import Store
from xobackup.notify.oddities import Oddity
from xobackup.service.operations import Operations
from xobackup.web.access import Passwords, Role, Throttle, User, hash_password
from xobackup.web.app import Door, Settings
from xobackup.web.audit import Audit
from xobackup.web.commands import Catalogue
from xobackup.web.house import JobView, LiveView, Refused, RemoteView, ScheduleView, StartView
from xobackup.web.sessions import Sessions
from xobackup.web.tokens import read_tokens
from xobackup.web.views import DrView, TargetView
from xobackup.web.worker_views import WorkersView
from xotest.paper import (
    PaperBackups,
    PaperWork,
    paper_depth,
    paper_desk,
    paper_operations,
    paper_plans,
    paper_replicas,
    paper_workers,
)

PASSWORD = "correct horse"
_HASH = hash_password(PASSWORD)


@dataclass(slots=True, kw_only=True)
class PaperHouse:
    """See the module's head."""

    history: Store
    journals: Path
    clock: FakeClock
    url: str = "file:///mnt/nas"
    orders: list[tuple[str, ...]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=lambda: {"history": ""})
    meters: tuple[Snapshot, ...] = ()
    odd: list[Oddity] = field(default_factory=list)
    engine: WorkersView | None = None
    version: str = "1.0"
    keep_sums: bool = False
    sums: dict[float, list[Mapping[str, Any]]] = field(default_factory=dict)
    work: PaperWork = field(default_factory=PaperWork)
    operations: Operations = field(init=False)
    desk: ServiceDesk = field(init=False)
    backups: PaperBackups = field(init=False)

    def __post_init__(self) -> None:
        self.operations = paper_operations(self.journals.parent, self.work, self.clock)
        self.desk = paper_desk(self.operations, self.store)
        self.backups = PaperBackups(self.now_s)

    @property
    def commands(self) -> Catalogue:
        return catalogue()

    def replicas(self) -> list[TargetView]:
        return paper_replicas(self.now_s(), self.backups.name)

    def dr_plans(self) -> list[DrView]:
        return paper_plans(self.backups.name)

    def now_s(self) -> float:
        return self.clock.now_s()

    def store(self) -> Store:
        catch_up(self.history, self.journals)
        return self.history

    def overview(self) -> Overview:
        return self._of(ask.latest(self.store()))

    def _of(self, rows: Iterable[Mapping[str, Any]]) -> Overview:
        wanted = {"nightly": Objective(rpo_s=26 * 3600, why="jobs.nightly.rpo")}
        return overview(rows, wanted, self.now_s())

    def standings(self, uuid: str) -> Sequence[Standing]:
        return self._of(ask.latest(self.store(), uuid=uuid)).vms

    def days(self, since: float, until: float) -> list[Mapping[str, Any]]:
        """As the service keeps them for a minute."""
        if since not in self.sums or not self.keep_sums:
            self.sums = {since: ask.days(self.store(), since=since, until=until)}
        return self.sums[since]

    def jobs(self) -> list[JobView]:
        return [
            JobView(
                name="nightly", mode="delta", pools=("main",), remotes=("nas",), targets=(), schedules=("night",),
                retention=7, rpo_s=26 * 3600, rpo_why="jobs.nightly.rpo",
            )
        ]  # fmt: skip

    def schedules(self) -> list[ScheduleView]:
        at = datetime.fromtimestamp(self.now_s() + 3600, tz=UTC)
        paused = [order for order in self.orders if order[0] in ("pause", "resume")][-1:]
        state = "paused" if paused and paused[0][0] == "pause" else ""
        return [ScheduleView(name="night", when="cron 0 3 * * * (UTC)", jobs=("nightly",), next_at=at, state=state)]

    def calendar(self, days: int) -> list[StartView]:
        at = datetime.fromtimestamp(self.now_s() + 3600, tz=UTC)
        return [StartView(schedule="night", at=at, jobs=("nightly",), why="")][:days]

    def remotes(self) -> list[RemoteView]:
        return [
            RemoteView(
                name="nas", url=self.url, seen_at=self.now_s(), used_bytes=3, free_bytes=1, total_bytes=4,
                depth=paper_depth(self.now_s()),
            ),
            RemoteView(name="gone", url="file:///gone", seen_at=self.now_s(), problem="it does not answer"),
            RemoteView(name="new", url="s3://bucket"),
        ]  # fmt: skip

    def workers(self) -> WorkersView:
        return self.engine or paper_workers(self.now_s(), self.backups.name)

    def live(self) -> list[LiveView]:
        if not self.meters:
            return []
        return [LiveView(schedule="night", job="nightly", began_at=self.now_s() - 5, stopping="", meters=self.meters)]

    def problems(self) -> list[str]:
        return self.told

    def oddities(self) -> list[Oddity]:
        return self.odd

    def healthy(self) -> dict[str, str]:
        return self.parts

    def run_now(self, schedule: str) -> str:
        return self._order("run", schedule)

    def cancel(self, schedule: str, reason: str) -> bool:
        self._order("cancel", schedule, reason)
        return True

    def pause(self, schedule: str, reason: str) -> None:
        self._order("pause", schedule, reason)

    def resume(self, schedule: str) -> None:
        self._order("resume", schedule)

    def _order(self, deed: str, schedule: str, *more: str) -> str:
        if schedule != "night":
            raise Refused(404, "there is no schedule of this name")
        self.orders.append((deed, schedule, *more))
        return "queued"


def door_of(directory: Path, clock: FakeClock, *, open_to_look: bool = True, secure: bool = False) -> Door:
    """Three users with one password."""
    roles = {"vera": Role.VIEWER, "oleg": Role.OPERATOR, "anna": Role.ADMIN}
    users = {name: User(name=name, password_hash=_HASH, role=role) for name, role in roles.items()}
    return Door(
        settings=Settings(open_to_look=open_to_look, secure=secure, hosts=frozenset({"testserver"}), zone=UTC),
        passwords=Passwords(users),
        sessions=Sessions(clock.monotonic_s),
        throttle=Throttle(clock.monotonic_s),
        audit=Audit(directory, clock.now_s),
        tokens=lambda: read_tokens(directory),
        now_s=clock.now_s,
    )
