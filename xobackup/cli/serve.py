"""``xobackup serve``: follow the schedules, day and night."""

from __future__ import annotations

import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.history_store import note_history
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration

if TYPE_CHECKING:
    from types import FrameType

    from xobackup.config.model import Configuration
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.events import Event
    from xobackup.engine.limits.process import ProcessLimits
    from xobackup.service.runner import Order
    from xobackup.service.service import Service


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Run the jobs of all schedules when they are due, until stopped. SIGHUP reads the configuration again."""
    from xobackup.cli.scheduled import plan_of
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.service.notify import notify, watchdog_s
    from xobackup.service.service import Service

    configuration = read_configuration(config)
    if not configuration.schedules:
        raise ConfigError(["the configuration has no schedule"], hint="add a [schedules.NAME] table: docs/serve.md")
    log = Lines(as_json=as_json)
    house = House(config, configuration, log)
    service = Service(configuration.state_directory, plan_of(configuration), house.work, clock=SystemClock(), log=log)
    signals = Signals()
    with signals.held():
        service.start()
        log("info", f"serving {', '.join(sorted(configuration.schedules))}")
        _tell_starts(service, log)
        notify("READY=1\nSTATUS=" + _status(service))
        pause = watchdog_s()

        def after_round() -> None:
            if signals.reload.is_set():
                signals.reload.clear()
                notify("RELOADING=1")
                house.read_again(service)
                notify("READY=1")
            if pause is not None:
                notify("WATCHDOG=1")
            notify("STATUS=" + _status(service))

        service.loop(signals.stop, after_round)
        notify("STOPPING=1")
        log("info", f"{signals.why}: stopping, {len(service.runner.running())} running")
        left = service.stop(signals.why)
    if left:
        names = ", ".join(order.schedule for order in left)
        raise Outcome(
            Exit.TERMINATED, f"{names} did not end in time", hint="the next start cleans up and begins again"
        )


class Signals:
    """SIGTERM and SIGINT stop, SIGHUP reloads."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.reload = threading.Event()
        self.why = ""

    def held(self) -> _Held:
        return _Held({signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload})

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.why = signal.Signals(number).name
        self.stop.set()

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self.reload.set()


class _Held:
    """Signal handlers for as long as a block lasts."""

    def __init__(self, handlers: dict[signal.Signals, object]) -> None:
        self._handlers = handlers
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        for number, handler in self._handlers.items():
            self._before[number] = signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


class Lines:
    """What the service says: lines on standard error, or JSON lines on standard output. Thread-safe."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._mutex = threading.Lock()

    def __call__(self, level: str, text: str, **fields: object) -> None:
        moment = datetime.now(UTC)  # noqa: TID251 - a log's time is the machine's
        with self._mutex:
            if self._as_json:
                record = {"kind": "log", "at": moment.isoformat(timespec="seconds"), "level": level, "text": text}
                print(json.dumps(record | fields, ensure_ascii=False), flush=True)  # noqa: T201
                return
            about = fields.get("schedule")
            mark = "" if level == "info" else f"{level}: "
            line = f"{moment:%Y-%m-%dT%H:%M:%SZ} {f'{about}: ' if about else ''}{mark}{text}"
            print(line, file=sys.stderr, flush=True)  # noqa: T201


class House:
    """The configuration that holds now, and one run of a schedule by it."""

    def __init__(self, path: Path | None, configuration: Configuration, log: Lines) -> None:
        from xobackup.cli.limits import process_limits

        self._path = path
        self._configuration = configuration
        self._log = log
        self._limits: ProcessLimits = process_limits(configuration)

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
                note_history(configuration, lambda told: self._log("warning", told))
                if cancel.cancelled:
                    break
        except Exception as error:  # noqa: BLE001 - one run's trouble must not end the service
            from xobackup.cli.failures import explain

            failure = explain(error)
            self._log("error", failure.message, schedule=order.schedule, hint=failure.hint)
            outcome = "failed"
        level = "info" if outcome == "ok" else "error"
        self._log(level, f"ended: {outcome}", schedule=order.schedule, outcome=outcome)
        return outcome

    def _run(self, job: object, order: Order, cancel: CancelToken, configuration: Configuration) -> str:
        from xobackup.clock import SystemClock
        from xobackup.engine.job import Job
        from xobackup.engine.run import run_job
        from xobackup.engine.world import real_world

        assert isinstance(job, Job)
        sink = EventLines(self._log, order.schedule)
        world = real_world(
            configuration.state_directory, clock=SystemClock(), journal=sink, cancel=cancel, limits=self._limits
        )
        return str(run_job(job, world).outcome)

    def read_again(self, service: Service) -> None:
        """SIGHUP: follow the file as it is now; a broken one changes nothing."""
        from xobackup.cli.failures import explain
        from xobackup.cli.limits import process_limits
        from xobackup.cli.scheduled import differences, plan_of
        from xobackup.config.errors import ConfigError

        try:
            new = read_configuration(self._path)
        except (ConfigError, OSError) as error:
            failure = explain(error)
            self._log("error", f"the configuration is not followed, the old one goes on: {failure.message}")
            return
        if new.state_directory != self._configuration.state_directory:
            told = (
                f"the state directory stays {self._configuration.state_directory} until the service is started again"
            )
            self._log("warning", told)
            new = new.model_copy(update={"state_directory": self._configuration.state_directory})
        changes = differences(self._configuration, new)
        self._configuration, self._limits = new, process_limits(new)
        service.adopt(plan_of(new))
        self._log("info", f"configuration read again: {'; '.join(changes) or 'nothing changed'}")
        _tell_starts(service, self._log)


GOOD = {"ok", "skipped"}


class EventLines:
    """A journal sink: what a run's events say, as lines of the service."""

    def __init__(self, log: Lines, schedule: str) -> None:
        from xobackup.cli.telling import Teller

        self._teller = Teller()
        self._log = log
        self._schedule = schedule
        self._mutex = threading.Lock()

    def write(self, event: Event) -> None:
        with self._mutex:
            told = self._teller.tell(event)
        if told is not None:
            level = {"red": "error", "yellow": "warning"}.get(told[1] or "", "info")
            self._log(level, told[0], schedule=self._schedule)

    def close(self) -> None:
        """Nothing is held open."""


def _tell_starts(service: Service, log: Lines) -> None:
    for name, fire in sorted(service.next_starts().items()):
        shown = f"next start {fire.at:%Y-%m-%d %H:%M %Z}" if fire else "does not start"
        log("info", shown, schedule=name)


def _status(service: Service) -> str:
    running = [order.schedule for order in service.runner.running()]
    starts = [(fire.at, name) for name, fire in service.next_starts().items() if fire]
    following = f"next {min(starts)[1]} at {min(starts)[0]:%Y-%m-%d %H:%M %Z}" if starts else "nothing is due"
    return f"running {', '.join(running)}; {following}" if running else following
