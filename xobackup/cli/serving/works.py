"""The configuration that holds now, and one run of a schedule by it."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xobackup.cli.engine_store import handing_out
from xobackup.cli.history_store import note_history
from xobackup.cli.logs import TEXT, EventLines, Lines
from xobackup.cli.options import read_configuration
from xobackup.engine.events import RunStarted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from xobackup.config.model import Configuration
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.events import Event
    from xobackup.engine.job import Job
    from xobackup.engine.journal import Sink
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.progress import Progress
    from xobackup.service.runner import Order
    from xobackup.service.service import Service
    from xobackup.service.store import ScheduleStore

GOOD = {"ok", "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """A job of a schedule that runs now."""

    schedule: str
    job: str
    began_at: float
    progress: Progress
    cancel: CancelToken


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says instead of the configuration, also when that is read again."""

    log_format: str | None = None
    finish_wait_s: float | None = None
    stop_wait_s: float | None = None

    def on(self, configuration: Configuration) -> Configuration:
        """The configuration with it."""
        service = {
            name: value
            for name, value in (("finish_wait_s", self.finish_wait_s), ("stop_wait_s", self.stop_wait_s))
            if value is not None
        }
        log = {} if self.log_format is None else {"format": self.log_format}
        return configuration.model_copy(
            update={
                "service": configuration.service.model_copy(update=service),
                "log": configuration.log.model_copy(update=log),
            }
        )


AS_CONFIGURED = ServeOptions()


class RunNotes:
    """A journal sink: which run is done for a schedule, for the node that may have to begin it again."""

    def __init__(self, store: ScheduleStore, schedule: str) -> None:
        self._store, self._schedule = store, schedule

    def write(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._store.note_run(self._schedule, event.run_id)

    def close(self) -> None:
        """Nothing is held open."""


class Works:
    """The configuration that holds now, and one run of a schedule by it."""

    def __init__(
        self, path: Path | None, configuration: Configuration, log: Lines, options: ServeOptions = AS_CONFIGURED
    ) -> None:
        from xobackup.cli.shared_limits import ServiceLimits

        self.path = path
        self._options = options
        self._configuration = options.on(configuration)
        self._log = log
        self._limits = ServiceLimits(self._configuration, lambda told: log("warning", told))
        self._doing: dict[str, Doing] = {}
        self._mutex = threading.Lock()
        self.when_ended: list[Callable[[], None]] = []
        """Called when the run of a schedule has ended."""
        self.not_followed = ""
        """Why the file is not followed as it is now."""
        self.own_backup = ""
        """Why its own configuration and history were not backed up the last time."""
        self.unwritten = ""
        """Why the history was not written the last time."""
        self._service: Service | None = None

    def follows(self, service: Service) -> None:
        """Whose schedules these works are of."""
        self._service = service

    @property
    def configuration(self) -> Configuration:
        """The one that holds now."""
        return self._configuration

    @property
    def troubles(self) -> dict[str, str]:
        """What is wrong with the service itself, by what it is of; an empty text: it is well."""
        schedules = "" if self._service is None else self._service.problem
        return {"configuration": self.not_followed, "own backup": self.own_backup, "schedules": schedules}

    @property
    def limits(self) -> ProcessLimits:
        """Shared by everything that the service does; asked for when something begins."""
        return self._limits.join()

    def close(self) -> None:
        """The service ends: what it holds of shared limits is given back."""
        self._limits.close()

    def run_ended(self) -> None:
        """A run besides the schedules has: into the history, and told."""
        self._note(self._configuration)
        for call in self.when_ended:
            call()

    def doing(self) -> list[Doing]:
        """What runs now, the oldest first."""
        with self._mutex:
            return sorted(self._doing.values(), key=lambda one: one.began_at)

    def work(self, order: Order, cancel: CancelToken) -> str:
        """Run the jobs of a schedule, one after the other; the first outcome that is not good, or ``ok``."""
        from xobackup.cli.scheduled import jobs_of_schedule

        configuration = self._configuration
        self._log("info", f"begins{f' ({order.reason})' if order.reason else ''}", schedule=order.schedule)
        outcome = "ok"
        try:
            for job in jobs_of_schedule(configuration, order.schedule):
                told = self._run(job, order, cancel, configuration)
                outcome = told if outcome == "ok" and told not in GOOD else outcome
                self._note(configuration)
                if cancel.cancelled:
                    break
        except Exception as error:  # noqa: BLE001 - one run's trouble must not end the service
            from xobackup.cli.failures import explain

            failure = explain(error)
            self._log("error", failure.message, schedule=order.schedule, hint=failure.hint)
            outcome = "failed"
        for call in self.when_ended:
            call()
        level = "info" if outcome == "ok" else "error"
        self._log(level, f"ended: {outcome}", schedule=order.schedule, outcome=outcome)
        return outcome

    def _run(self, job: Job | MirrorJob, order: Order, cancel: CancelToken, configuration: Configuration) -> str:
        from xobackup.cli.jobs import selecting_jobs
        from xobackup.clock import SystemClock
        from xobackup.engine.journal import Tee
        from xobackup.engine.mirror.job import MirrorJob, run_mirror
        from xobackup.engine.run import run_job
        from xobackup.engine.world import real_world

        clock = SystemClock()
        sink: Sink = EventLines(self._log, schedule=order.schedule)
        if self._service is not None:
            sink = Tee(sink, RunNotes(self._service.store, order.schedule))
        held = ExitStack()
        world = real_world(
            configuration.state_directory,
            clock=clock,
            journal=sink,
            cancel=cancel,
            limits=self.limits,
            all_jobs=selecting_jobs(configuration),
            hand_out=held.enter_context(handing_out(configuration)),
            reason=order.reason,
        )
        world = replace(world, schedule=order.schedule)
        doing = Doing(
            schedule=order.schedule, job=job.name, began_at=clock.now_s(), progress=world.progress, cancel=cancel
        )
        with self._mutex:
            self._doing[order.schedule] = doing
        try:
            report = run_mirror(job, world) if isinstance(job, MirrorJob) else run_job(job, world)
            return str(report.outcome)
        finally:
            with self._mutex:
                self._doing.pop(order.schedule, None)
            held.close()

    def _note(self, configuration: Configuration) -> None:
        """What the run left, into the history."""
        told: list[str] = []
        note_history(configuration, told.append)
        self.unwritten = "; ".join(told)
        for line in told:
            self._log("warning", line)

    def read_again(self, service: Service) -> None:
        """SIGHUP: follow the file as it is now; a broken one changes nothing."""
        from xobackup.cli.failures import explain
        from xobackup.cli.scheduled import differences, plan_of
        from xobackup.config.errors import ConfigError

        try:
            new = self._options.on(read_configuration(self.path))
        except (ConfigError, OSError) as error:
            failure = explain(error)
            self.not_followed = f"the configuration is not followed, the old one goes on: {failure.message}"
            self._log("error", self.not_followed)
            return
        if new.state_directory != self._configuration.state_directory:
            told = (
                f"the state directory stays {self._configuration.state_directory} until the service is started again"
            )
            self._log("warning", told)
            new = new.model_copy(update={"state_directory": self._configuration.state_directory})
        if new.engine != self._configuration.engine and "shared" in (
            new.engine.schedules, self._configuration.engine.schedules
        ):  # fmt: skip
            self._log("warning", "[engine] stays as it was until the service is started again")
            new = new.model_copy(update={"engine": self._configuration.engine})
        changes = differences(self._configuration, new)
        self._configuration, self.not_followed = new, ""
        self._limits.adopt(new)
        service.adopt(plan_of(new))
        self._log.form = new.log.format or TEXT
        self._log("info", f"configuration read again: {'; '.join(changes) or 'nothing changed'}")
        tell_starts(service, self._log)


def tell_starts(service: Service, log: Lines) -> None:
    """When each schedule starts next."""
    for name, fire in sorted(service.next_starts().items()):
        shown = f"next start {fire.at:%Y-%m-%d %H:%M %Z}" if fire else "does not start"
        log("info", shown, schedule=name)
