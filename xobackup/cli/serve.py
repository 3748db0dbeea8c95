"""``xobackup serve``: follow the schedules, day and night."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration

if TYPE_CHECKING:
    from xobackup.service.service import Service


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Run the jobs of all schedules when they are due, until stopped. SIGHUP reads the configuration again."""
    from xobackup.cli.scheduled import plan_of
    from xobackup.cli.serving.log import Lines
    from xobackup.cli.serving.notices import Notices
    from xobackup.cli.serving.samples import Sampler
    from xobackup.cli.serving.signals import Signals
    from xobackup.cli.serving.site import Site
    from xobackup.cli.serving.works import Works, tell_starts
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.service.notify import notify, watchdog_s
    from xobackup.service.service import Service

    configuration = read_configuration(config)
    if not configuration.schedules:
        raise ConfigError(["the configuration has no schedule"], hint="add a [schedules.NAME] table: docs/serve.md")
    log = Lines(as_json=as_json)
    works = Works(config, configuration, log)
    service = Service(configuration.state_directory, plan_of(configuration), works.work, clock=SystemClock(), log=log)
    signals = Signals()
    with (
        signals.held(),
        Notices(works, log),
        Sampler(works) as sampler,
        Site(works, service, sampler, log) as site,
    ):
        service.start()
        log("info", f"serving {', '.join(sorted(configuration.schedules))}")
        tell_starts(service, log)
        site.follow()
        notify("READY=1\nSTATUS=" + _status(service))
        pause = watchdog_s()

        def after_round() -> None:
            if signals.reload.is_set():
                signals.reload.clear()
                notify("RELOADING=1")
                works.read_again(service)
                notify("READY=1")
            site.follow()
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


def _status(service: Service) -> str:
    running = [order.schedule for order in service.runner.running()]
    starts = [(fire.at, name) for name, fire in service.next_starts().items() if fire]
    following = f"next {min(starts)[1]} at {min(starts)[0]:%Y-%m-%d %H:%M %Z}" if starts else "nothing is due"
    return f"running {', '.join(running)}; {following}" if running else following
