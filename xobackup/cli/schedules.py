"""``xobackup schedules``: when jobs run next, the calendar ahead, pausing and resuming."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text

if TYPE_CHECKING:
    from datetime import datetime

    from schedules.calendar import Fire
    from xobackup.config.model import Configuration

app = typer.Typer(no_args_is_help=True, help="When jobs run: the next starts, the calendar, pausing.")

Names = Annotated[list[str] | None, typer.Argument(metavar="SCHEDULE", help="All schedules when none is named.")]
FAR = timedelta(days=800)
"""Changes of summer time are told that far ahead: the next one of each kind."""


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every schedule: when, what it runs, its next start; and whether it is paused."""
    from schedules.agenda import next_start
    from xobackup.cli.schedule_state import look_at_schedules

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    look = look_at_schedules(configuration)
    now, paused, running = look.now, look.paused, look.state.running
    rows = []
    for name, section in configuration.schedules.items():
        fire = None if section.after else next_start(section.schedule(name), None, now)
        when = f"after {section.after}" if section.after else str(section.schedule(name).calendar)
        state = "disabled" if not section.enabled else f"paused: {paused[name]}" if name in paused else ""
        host = running[name].host if name in running and not running[name].gone else ""
        state = "; ".join(filter(None, [f"runs on {host}" if host else "", state]))
        output.record(
            "schedule",
            {
                "name": name,
                "jobs": list(section.jobs),
                "when": when,
                "enabled": section.enabled,
                "paused": paused.get(name),
                "runs_on": host or None,
                "next_start": fire.at.isoformat() if fire else None,
            },
        )
        start = f"{fire.at:%a %Y-%m-%d %H:%M %Z}" if fire else ""
        rows.append([name, when, ", ".join(section.jobs), start, state])
    if rows:
        output.table(None, ["schedule!", "when", "jobs", "next start", ""], rows)
    else:
        output.say("the configuration has no schedule: see [schedules.NAME] in docs/serve.md")


@app.command()
def show(
    names: Names = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How far ahead.")] = 7,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The calendar ahead: every start, and what changes of summer time do to it."""
    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    chosen = [name for name in _chosen(configuration, names) if not configuration.schedules[name].after]
    begin = _now()
    end = begin + timedelta(days=days)
    starts = sorted(
        ((fire, name) for name in chosen for fire in _calendar(configuration, name, begin, end)),
        key=lambda one: (one[0].at, one[1]),
    )
    for fire, name in starts:
        output.record(
            "start",
            {
                "schedule": name,
                "at": fire.at.isoformat(),
                "nominal": fire.nominal.isoformat(),
                "jobs": list(configuration.schedules[name].jobs),
                "reason": fire.why,
            },
        )
    rows = [
        [f"{fire.at:%a %Y-%m-%d %H:%M:%S %Z}", name, ", ".join(configuration.schedules[name].jobs), fire.why]
        for fire, name in starts
    ]
    if rows:
        output.table(f"{count_text(len(rows), 'start')} in {days} days", ["start", "schedule!", "jobs", ""], rows)
    else:
        output.say(f"nothing starts within {days} days")
    for name in chosen:
        for remark in configuration.schedules[name].schedule(name).calendar.remarks(begin, begin + FAR)[:2]:
            output.record("remark", {"schedule": name, "text": remark})
            output.say(f"{name}: {remark}")


@app.command()
def pause(
    names: Names = None,
    reason: Annotated[str, typer.Option("--reason", help="Shown wherever the schedule is.")] = "by hand",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start nothing of these schedules until they are resumed. What runs goes on."""
    _change(config, names, reason, as_json)


@app.command()
def resume(names: Names = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Follow paused schedules again. Times that passed meanwhile are not made up for."""
    _change(config, names, None, as_json)


def _change(config: Path | None, names: list[str] | None, reason: str | None, as_json: bool) -> None:
    from xobackup.cli.schedule_state import change_paused_schedules

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    chosen = _chosen(configuration, names)
    paused = change_paused_schedules(configuration, dict.fromkeys(chosen, reason))
    for name in chosen:
        output.record("schedule", {"name": name, "paused": paused.get(name)})
        output.say(f"{name}: {f'paused: {paused[name]}' if name in paused else 'followed'}")


def _chosen(configuration: Configuration, names: list[str] | None) -> list[str]:
    from xobackup.config.errors import ConfigError

    known = configuration.schedules
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        told = ", ".join(sorted(known)) or "none"
        raise ConfigError([f"there is no schedule {name!r} (known: {told})" for name in unknown])
    return list(dict.fromkeys(names)) if names else list(known)


def _calendar(configuration: Configuration, name: str, begin: datetime, end: datetime) -> list[Fire]:
    section = configuration.schedules[name]
    return section.schedule(name).calendar.between(begin, end) if section.enabled else []


def _now() -> datetime:
    from xobackup.clock import SystemClock, utc

    return utc(SystemClock().now_s())
