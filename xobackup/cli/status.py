"""``xobackup status``: which VMs are within their recovery point objective; for people and for Nagios."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import age_text, count_text

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.history.standing import Overview, Standing
    from xobackup.notify.oddities import Oddities

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
NAMED_MAX = 5
"""VMs that a line for Nagios names."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    problems: Annotated[bool, typer.Option("--problems", help="Only VMs that are not as they should be.")] = False,
    nagios: Annotated[
        bool, typer.Option("--nagios", help="One line and the exit codes of a Nagios plugin: 0, 1, 2, 3.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many VMs have a backup as young as it should be, and what became of the others. Asks no pool."""
    if nagios:
        _nagios(config)
    from xobackup.notify.oddities import grouped, named

    output = Output(as_json=as_json)
    found, odd, now_s = _look(config)
    output.record("status", {"headline": found.headline, "good": found.good, "jobs_without_runs": found.silent_jobs})
    output.say(found.headline, style="green" if found.good else "red")
    rows = []
    for one in found.vms:
        data = one.as_data()
        output.record("vm", {"of": data.pop("kind"), **data})
        if not problems or not one.within or one.last_outcome not in GOOD:
            rows.append(_row(one, now_s))
    if rows:
        output.table(None, ["VM!", "job!", "state!", "last good!", "allowed!", "remarks"], rows)
    for job in found.silent_jobs:
        output.say(f"job {job}: no run of it is known", style="yellow")
    for first, names in grouped(odd.all):
        output.record("anomaly", {**first.as_data(), "names": names})
        where = f" (job {first.job})" if first.job else ""
        output.say(f"unusual: {named(names)}{where}: {first.text}", style="yellow")
        output.say(f"  what to do: {first.advice}")
    if not found.good:
        late = [one for one in found.counted if not one.within]
        told = [f"{count_text(len(late), 'VM')} without a backup as young as it should be"] if late else []
        told += [f"{count_text(len(found.silent_jobs), 'job')} without any run"] if found.silent_jobs else []
        hint = "`xobackup history vm NAME` tells why; for one that is gone for good: `xobackup history forget NAME`"
        raise Outcome(Exit.SOME_FAILED, " and ".join(told), hint=hint)


GOOD = ("ok", "skipped", "running")


def _look(config: Path | None) -> tuple[Overview, Oddities, float]:
    from xobackup.cli.history_store import opened_history
    from xobackup.cli.objectives import objectives
    from xobackup.cli.unusual import unusual
    from xobackup.clock import SystemClock, utc
    from xobackup.history import ask
    from xobackup.history.standing import overview

    configuration = read_configuration(config)
    now_s = SystemClock().now_s()
    with opened_history(configuration) as store:
        found = overview(ask.latest(store), objectives(configuration, utc(now_s)), now_s)
        return found, unusual(configuration, store, found, now_s), now_s


def _row(one: Standing, now_s: float) -> list[str]:
    good = "never" if one.good_at is None else f"{age_text(now_s - one.good_at)} ago"
    allowed = "" if one.rpo_s is None else age_text(one.rpo_s)
    remarks = []
    if one.last_outcome not in GOOD:
        times = f" ({count_text(one.failures, 'time')} since)" if one.failures > 1 else ""
        when = datetime.fromtimestamp(one.last_at).astimezone()
        remarks.append(f"{one.last_outcome} at {when:%Y-%m-%d %H:%M}{times}: {one.last_reason}".rstrip(": "))
    return [one.name, one.job, str(one.state), good, allowed, "\n".join(remarks)]


def _nagios(config: Path | None) -> None:
    """What a monitoring plugin says: a line, and its exit code."""
    try:
        found, odd, _ = _look(config)
    except Exception as error:  # noqa: BLE001 - whatever it is, monitoring has to be told in its own way
        code, text, figures = UNKNOWN, str(error).splitlines()[0], ""
    else:
        code, text = judge(found, len(odd.all))
        figures = _figures(found)
    print(f"XOBACKUP {_WORDS[code]} - {text.replace('|', '/')}{figures}")  # noqa: T201
    raise typer.Exit(code)


def judge(found: Overview, unusual: int = 0) -> tuple[int, str]:
    """Critical: a VM is late or has no backup. Warning: a last run that failed, a job that never ran, an anomaly."""
    late = [one for one in found.counted if not one.within]
    if late:
        return CRITICAL, f"{found.headline}; {_named(late)}"
    failed = [one for one in found.vms if one.last_outcome not in GOOD]
    if failed:
        return WARNING, f"{found.headline}; last run failed: {_named(failed)}"
    if found.silent_jobs:
        return WARNING, f"{found.headline}; no run is known of job {', '.join(found.silent_jobs)}"
    if unusual:
        return WARNING, f"{found.headline}; {count_text(unusual, 'thing')} unusual: `xobackup status` says which"
    return OK, found.headline


def _named(vms: list[Standing]) -> str:
    names = [" ".join(f"{one.name} ({one.state}, job {one.job})".split()) for one in vms[:NAMED_MAX]]
    more = len(vms) - NAMED_MAX
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _figures(found: Overview) -> str:
    within = sum(1 for one in found.counted if one.within)
    oldest = max((one.age_s or 0 for one in found.counted), default=0)
    failing = sum(1 for one in found.vms if one.last_outcome not in GOOD)
    return f" | vms={len(found.counted)} within={within} failing={failing} oldest={oldest:.0f}s"
