"""``xobackup serve``: follow the schedules, day and night."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, LogFormatOption, checked_format, read_configuration
from xobackup.texts import count_text, duration_text

if TYPE_CHECKING:
    from xobackup.cli.logs import Lines
    from xobackup.cli.serving.signals import Signals
    from xobackup.cli.serving.site import Site
    from xobackup.cli.serving.works import Works
    from xobackup.config.model import Configuration
    from xobackup.service.operations import Operation, Operations
    from xobackup.service.service import Service

LEAVE_S = 30.0
"""What the manager is asked to wait for longer than the runs may take."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    finish_wait: Annotated[
        float | None,
        typer.Option("--finish-wait", min=0, metavar="SECONDS", help="When stopped: let runs end within that time."),
    ] = None,
    stop_wait: Annotated[
        float | None,
        typer.Option("--stop-wait", min=0, metavar="SECONDS", help="Then: how long they may take to clean up."),
    ] = None,
    log_format: LogFormatOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the jobs of all schedules when they are due, until stopped. SIGHUP reads the configuration again."""
    from xobackup.cli.engine_store import shared_schedules
    from xobackup.cli.logs import JSON, TEXT, FromLibraries, Lines
    from xobackup.cli.scheduled import plan_of
    from xobackup.cli.serving.eyes import Eyes
    from xobackup.cli.serving.notices import Notices
    from xobackup.cli.serving.ordered import make_operations
    from xobackup.cli.serving.own import OwnBackups
    from xobackup.cli.serving.signals import Signals
    from xobackup.cli.serving.site import Site
    from xobackup.cli.serving.works import ServeOptions, Works
    from xobackup.clock import SystemClock
    from xobackup.service.service import Service

    form = JSON if as_json else checked_format(log_format)
    options = ServeOptions(log_format=form, finish_wait_s=finish_wait, stop_wait_s=stop_wait)
    configuration = options.on(_with_schedules(read_configuration(config)))
    log = Lines(configuration.log.format or TEXT, to_stdout=as_json)
    works = Works(config, configuration, log, options)
    clock = SystemClock()
    service = Service(
        configuration.state_directory,
        plan_of(configuration),
        works.work,
        clock=clock,
        log=log,
        store=shared_schedules(configuration, clock),
    )
    works.follows(service)
    eyes = Eyes(works)
    operations = make_operations(works, eyes.backups.changed, log)
    signals = Signals()
    with ExitStack() as stack:
        stack.enter_context(signals.held())
        stack.enter_context(FromLibraries(log))
        notices, eyes = Notices(works, log), Eyes(works)
        own = OwnBackups(works, log, SystemClock())
        works.when_ended += [notices.duty.now, own.duty.now, eyes.surveyor.run_ended]
        operations = make_operations(works, eyes.backups.changed, log)
        for duty in (notices.duty, own.duty, *eyes.duties):
            stack.enter_context(duty)
        site = stack.enter_context(Site(works, service, eyes, operations, log))
        _reconcile(configuration, log)
        service.start()
        log("info", f"serving {', '.join(sorted(configuration.schedules))}")
        _follow(service, works, operations, site, signals, log)
        left = _leave(service, operations, signals, works.configuration, log)
        if not left:
            works.close()  # what did not end dies with its places: their time runs out
    if left:
        raise Outcome(
            Exit.TERMINATED,
            f"{', '.join(left)} did not end in time",
            hint="the next start cleans up and begins again",
        )


def _with_schedules(configuration: Configuration) -> Configuration:
    from xobackup.config.errors import ConfigError

    if not configuration.schedules:
        raise ConfigError(["the configuration has no schedule"], hint="add a [schedules.NAME] table: docs/serve.md")
    return configuration


def _reconcile(configuration: Configuration, log: Lines) -> None:
    """Say which runs an earlier process did not end, before anything begins again."""
    from xobackup.cli.engine_store import handing_out
    from xobackup.clock import SystemClock
    from xobackup.engine.journal import close_interrupted

    try:
        with handing_out(configuration) as hand_out:
            last_words = None if hand_out is None else hand_out.last_words
            closed = close_interrupted(configuration.state_directory / "journal", SystemClock(), last_words)
    except OSError as error:
        log("warning", f"journals of earlier runs could not be looked at: {error}")
        return
    for run in closed:
        log("warning", "this run did not end: its journal is closed; the next one of its job cleans up", run=run)
    if not closed:
        log("info", "no run of an earlier process was left open")


def _follow(service: Service, works: Works, operations: Operations, site: Site, signals: Signals, log: Lines) -> None:
    """The rounds, until a signal ends them; the manager hears of each."""
    from xobackup.cli.serving.works import tell_starts
    from xobackup.service.notify import notify, reloading, watchdog_s

    tell_starts(service, log)
    site.follow()
    notify("READY=1\nSTATUS=" + _status(service))
    pause = watchdog_s()

    def after_round() -> None:
        if signals.reload.is_set():
            signals.reload.clear()
            notify(reloading())
            works.read_again(service)
            operations.limit(works.configuration.service.operations_max)
            notify("READY=1")
        site.follow()
        if pause is not None:
            notify("WATCHDOG=1")
        notify("STATUS=" + _status(service))

    service.loop(signals.stop, signals.wake, after_round)


def _leave(
    service: Service, operations: Operations, signals: Signals, configuration: Configuration, log: Lines
) -> list[str]:
    """Stop within the limits of the configuration; the schedules whose runs did not end."""
    from xobackup.service.notify import notify

    section = configuration.service
    patience_s = section.finish_wait_s + section.stop_wait_s + LEAVE_S
    running = service.runner.running()
    notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(patience_s * 1e6)}\nSTATUS=stopping, {len(running)} running")
    limits = []
    if section.finish_wait_s:
        limits.append(f"{duration_text(section.finish_wait_s)} to end (a second signal ends that)")
    limits.append(f"{duration_text(section.stop_wait_s)} to clean up")
    allowed = f", which may take {', then '.join(limits)}" if running else ""
    log("info", f"{signals.why}: stopping, {count_text(len(running), 'run')} going on{allowed}")
    late: list[Operation] = []
    stopping = Thread(
        target=lambda: late.extend(
            operations.stop(
                signals.why, finish_s=section.finish_wait_s, hurry=signals.hurry, wait_s=section.stop_wait_s
            )
        ),
        name="stop operations",
    )
    stopping.start()
    left = [order.schedule for order in service.stop(signals.why, signals.hurry)]
    stopping.join()
    left += [f"{one.kind} of {one.about}" for one in late]
    waits = sorted(service.unsettled)
    told = f"; begun again at the next start: {', '.join(waits)}" if waits else ""
    log("warning" if left else "info", f"stopped, {'not everything ended' if left else 'all ended'}{told}")
    return left


def _status(service: Service) -> str:
    running = [order.schedule for order in service.runner.running()]
    starts = [(fire.at, name) for name, fire in service.next_starts().items() if fire]
    following = f"next {min(starts)[1]} at {min(starts)[0]:%Y-%m-%d %H:%M %Z}" if starts else "nothing is due"
    return f"running {', '.join(running)}; {following}" if running else following
