"""What the page asks of this service: answered from the configuration that holds now, the runs, and the history."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from xobackup.cli.history_store import collect, history_url
from xobackup.cli.objectives import objectives
from xobackup.cli.serving.desk import ServiceDesk
from xobackup.cli.unusual import unusual
from xobackup.clock import SystemClock, utc
from xobackup.engine.errors import EngineError
from xobackup.engine.run import version
from xobackup.history import ask
from xobackup.history.errors import HistoryError
from xobackup.history.standing import Objective, Overview, Standing, overview
from xobackup.history.store import Store, open_store
from xobackup.service.shared import StoreAway
from xobackup.web.house import JobView, LiveView, Refused, RemoteView, ScheduleView, StartView
from xobackup.web.views import DrView, Looked, TargetView
from xobackup.web.worker_views import WorkersView

if TYPE_CHECKING:
    from xobackup.cli.serving.eyes import Eyes
    from xobackup.cli.serving.works import Works
    from xobackup.clock import Clock
    from xobackup.notify.oddities import Oddity
    from xobackup.service.operations import Operations
    from xobackup.service.service import Service
    from xobackup.web.commands import Catalogue

FRESH_S = 2.0
"""How old an answer about now may be: what many browsers ask at once is found once."""
DAYS_FRESH_S = 60.0
REMARKS_AHEAD = timedelta(days=60)

T = TypeVar("T")


class ServiceHouse:
    """A :class:`xobackup.web.house.House`."""

    def __init__(
        self, works: Works, service: Service, eyes: Eyes, operations: Operations, clock: Clock | None = None
    ) -> None:
        self._works, self._service, self._eyes = works, service, eyes
        self.desk = ServiceDesk(operations, lambda: works.configuration, self.store)
        self.backups = eyes.backups
        self._clock = clock or SystemClock()
        self._mutex = threading.RLock()
        self._opened: tuple[str, Store] | None = None
        self._fresh: dict[str, tuple[float, object]] = {}

    @property
    def version(self) -> str:
        return version() or "unknown"

    @property
    def commands(self) -> Catalogue:
        from xobackup.cli.serving.catalogue import catalogue

        return catalogue()

    def now_s(self) -> float:
        return self._clock.now_s()

    def store(self) -> Store:
        with self._mutex:
            store = self._store()
            self._once("collect", lambda: collect(self._works.configuration, store))
            return store

    def _store(self) -> Store:
        url = history_url(self._works.configuration)
        if self._opened is not None and self._opened[0] != url:
            self._opened[1].close()
            self._opened = None
        if self._opened is None:
            self._opened = (url, open_store(url))
        return self._opened[1]

    def overview(self) -> Overview:
        with self._mutex:
            return self._once("overview", self._overview)

    def _overview(self) -> Overview:
        now_s = self.now_s()
        wanted = self._objectives()
        return overview(ask.latest(self.store()), wanted, now_s)

    def standings(self, uuid: str) -> Sequence[Standing]:
        return overview(ask.latest(self.store(), uuid=uuid), self._objectives(), self.now_s()).vms

    def days(self, since: float, until: float) -> Sequence[Mapping[str, Any]]:
        with self._mutex:
            store = self.store()
            return self._once(
                f"days {since}", lambda: ask.days(store, since=since, until=until), fresh_s=DAYS_FRESH_S
            )

    def _objectives(self) -> Mapping[str, Objective]:
        """They follow from the calendar a year ahead: found once an hour, and for another configuration."""
        configuration = self._works.configuration
        with self._mutex:
            key = f"objectives {id(configuration)}"
            return self._once(key, lambda: objectives(configuration, utc(self.now_s())), fresh_s=3600)

    def _once(self, key: str, find: Callable[[], T], *, fresh_s: float = FRESH_S) -> T:
        """What was found a moment ago, or anew. Under the mutex."""
        now = self._clock.monotonic_s()
        known = self._fresh.get(key)
        if known is None or now - known[0] > fresh_s:
            known = (self._clock.monotonic_s(), find())
            self._fresh[key] = known
        return known[1]  # type: ignore[return-value]

    def jobs(self) -> Sequence[JobView]:
        configuration = self._works.configuration
        wanted = self._objectives()
        found = []
        for name in configuration.job_names:
            job, metadata = configuration.jobs.get(name), configuration.metadata_jobs.get(name)
            found.append(
                JobView(
                    name=name,
                    mode=job.mode if job else "metadata",
                    pools=(job.pool,) if job else metadata.pools if metadata else (),
                    remotes=job.remotes if job else metadata.remotes if metadata else (),
                    targets=job.replicate_to if job else (),
                    schedules=tuple(
                        schedule for schedule, section in configuration.schedules.items() if name in section.jobs
                    ),
                    retention=job.retention if job else metadata.retention if metadata else 0,
                    rpo_s=wanted[name].rpo_s,
                    rpo_why=wanted[name].why,
                )
            )
        found += [
            JobView(
                name=name,
                mode="mirror",
                pools=(),
                remotes=(mirror.source, *mirror.remotes),
                targets=(),
                schedules=tuple(one for one, section in configuration.schedules.items() if name in section.jobs),
                retention=mirror.retention or 0,
                rpo_s=wanted[name].rpo_s,
                rpo_why=wanted[name].why,
            )
            for name, mirror in configuration.mirror_jobs.items()
        ]
        return found

    def schedules(self) -> Sequence[ScheduleView]:
        configuration = self._works.configuration
        paused, elsewhere = self._service.store.paused(), self._service.elsewhere
        running = {order.schedule for order in self._service.runner.running()}
        waiting = {order.schedule for order in self._service.runner.waiting()}
        starts = self._service.next_starts()
        found = []
        for name, section in configuration.schedules.items():
            state = (
                "running"
                if name in running or name in elsewhere
                else "waiting"
                if name in waiting
                else "disabled"
                if not section.enabled
                else "paused"
                if name in paused
                else ""
            )
            fire = starts.get(name)
            calendar = None if section.after else section.schedule(name).calendar
            now = utc(self.now_s())
            found.append(
                ScheduleView(
                    name=name,
                    when=f"after {section.after}" if section.after else str(calendar),
                    jobs=section.jobs,
                    next_at=fire.at if fire and state not in ("paused", "disabled") else None,
                    state=state,
                    paused_for=paused.get(name, ""),
                    remarks=(
                        *([f"runs on {elsewhere[name]}"] if name in elsewhere else []),
                        *(calendar.remarks(now, now + REMARKS_AHEAD)[:2] if calendar else ()),
                    ),
                )
            )
        return found

    def calendar(self, days: int) -> Sequence[StartView]:
        now = utc(self.now_s())
        found = [
            StartView(schedule=name, at=fire.at, jobs=section.jobs, why=fire.why)
            for name, section in self._works.configuration.schedules.items()
            if section.enabled and not section.after
            for fire in section.schedule(name).calendar.between(now, now + timedelta(days=days))
        ]
        return sorted(found, key=lambda start: (start.at, start.schedule))

    def remotes(self) -> Sequence[RemoteView]:
        from remotes.url import parse_url

        with self._mutex:
            kept = self._once("samples", lambda: ask.newest_samples(self._store()))
        found = []
        for name, section in self._works.configuration.remotes.items():
            row = self._eyes.sampler.newest.get(name) or kept.get(name) or {}
            found.append(
                RemoteView(
                    name=name,
                    url=parse_url(section.url).redacted,
                    seen_at=row.get("at"),
                    used_bytes=row.get("used_bytes"),
                    free_bytes=row.get("free_bytes"),
                    total_bytes=row.get("total_bytes"),
                    problem=row.get("problem", ""),
                    depth=self._eyes.surveyor.depths.get(name),
                )
            )
        return found

    def replicas(self) -> Sequence[TargetView]:
        known = self._eyes.surveyor.targets
        return [
            known.get(name) or TargetView(name=name, looked=Looked(pending=True))
            for name in self._works.configuration.targets
        ]

    def dr_plans(self) -> Sequence[DrView]:
        from xobackup.cli.serving.plans import dr_views

        return dr_views(self._works.configuration)

    def live(self) -> Sequence[LiveView]:
        return [
            LiveView(
                schedule=one.schedule,
                job=one.job,
                began_at=one.began_at,
                stopping=one.cancel.reason if one.cancel.cancelled else "",
                meters=tuple(one.progress.snapshots()),
            )
            for one in self._works.doing()
        ]

    def workers(self) -> WorkersView:
        return self._eyes.workers.view()

    def problems(self) -> Sequence[str]:
        works = self._works
        told = (works.not_followed, works.unwritten, works.own_backup, self._service.problem, self.workers().problem)
        return list(dict.fromkeys(one for one in (*told, *self.healthy().values()) if one))

    def oddities(self) -> Sequence[Oddity]:
        with self._mutex:
            store, found = self.store(), self.overview()

            def look() -> Sequence[Oddity]:
                return unusual(self._works.configuration, store, found, self.now_s()).all

            return self._once("oddities", look, fresh_s=DAYS_FRESH_S)

    def healthy(self) -> Mapping[str, str]:
        parts = {"history": "", "state": ""}
        try:
            self.store()
        except HistoryError as error:
            parts["history"] = f"the history cannot be used: {error}"
        try:
            self._service.store.paused()
        except (EngineError, OSError) as error:
            parts["state"] = str(error)
        return parts

    def run_now(self, schedule: str) -> str:
        self._known(schedule)
        try:
            return str(self._service.run_now(schedule).value)
        except StoreAway as error:
            raise Refused(503, str(error), hint=error.hint) from error
        except EngineError as error:
            raise Refused(404, str(error)) from error

    def cancel(self, schedule: str, reason: str) -> bool:
        self._known(schedule)
        return self._service.runner.cancel(schedule, reason)

    def pause(self, schedule: str, reason: str) -> None:
        self._known(schedule)
        self._change_paused(schedule, reason)

    def resume(self, schedule: str) -> None:
        self._known(schedule)
        self._change_paused(schedule, None)

    def _change_paused(self, schedule: str, reason: str | None) -> None:
        try:
            self._service.store.change_paused({schedule: reason})
        except StoreAway as error:
            raise Refused(503, str(error), hint=error.hint) from error

    def close(self) -> None:
        with self._mutex:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None

    def _known(self, schedule: str) -> None:
        if schedule not in self._works.configuration.schedules:
            raise Refused(404, "there is no schedule of this name")
