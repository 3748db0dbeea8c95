"""``xobackup retention``: what a job keeps and what it would delete, with reasons; now, and months ahead."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption, VmOption, read_configuration
from xobackup.cli.output import Output
from xobackup.cli.problems import tell_problems
from xobackup.texts import count_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schedules.retention import Verdict
    from xobackup.engine.job import Job
    from xobackup.repository.findings import Problem

app = typer.Typer(no_args_is_help=True, help="What retention keeps and deletes, and why; now, or simulated.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job of the configuration.")]


@app.command()
def show(
    job: JobArgument,
    remote: RemoteOption = None,
    vm: VmOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every restore point of a job: kept or due, and why. What is due goes when the next run has published."""
    output = Output(as_json=as_json)
    built = _job(config, job)
    output.say(f"{job} keeps {built.settings.rule}")
    problems: list[Problem] = []
    found = False
    for name, uuid, vm_name, verdicts in _verdicts(built, config, remote, vm, problems):
        found = True
        for verdict in verdicts:
            output.record(
                "verdict",
                {
                    "remote": name,
                    "vm": uuid,
                    "point": verdict.entry.id,
                    "keep": verdict.keep,
                    "reason": verdict.reason,
                },
            )
        rows = [[one.entry.id, "kept" if one.keep else "due", one.reason] for one in verdicts]
        output.table(f"{vm_name} ({uuid}) on {name}", ["restore point!", "", "because"], rows)
    if not found:
        output.say(f"{job} has no restore points there")
    tell_problems(output, problems)


@app.command()
def simulate(
    job: JobArgument,
    days: Annotated[int, typer.Option("--days", min=1, max=7305, help="How far ahead.")] = 400,
    every: Annotated[float, typer.Option("--every", min=0.01, help="Hours between two runs.")] = 24,
    begin: Annotated[
        str, typer.Option("--begin", metavar="DATE", help="The first run: 2026-11-27 or 2026-11-27T03:00; UTC.")
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What would be kept after so many days of regular runs that all succeed, beginning with nothing."""
    from schedules.simulation import simulate as simulated
    from xobackup.engine.errors import UsageError
    from xobackup.repository.layout import timestamp_name

    output = Output(as_json=as_json)
    rule = _job(config, job).settings.rule
    try:
        result = simulated(rule, begin_ms=_moment_ms(begin), days=days, every_ms=round(every * 3_600_000))
    except ValueError as error:
        raise UsageError(f"retention simulate: {error}") from error
    for day in result.days:
        gone = [timestamp_name(entry.timestamp_ms) for entry in day.expired]
        output.record("day", {"day": day.number, "kept": day.kept, "expired": gone})
    for verdict in result.verdicts:
        output.record("kept", {"point": timestamp_name(verdict.entry.timestamp_ms), "reason": verdict.reason})
    rows = [[timestamp_name(one.entry.timestamp_ms), one.reason] for one in result.verdicts]
    output.table(f"{job} keeps {rule}; after {days} days:", ["restore point!", "because"], rows)
    runs = sum(len(day.expired) for day in result.days) + len(result.verdicts)
    kept = count_text(len(result.verdicts), "restore point")
    output.say(f"{kept} of {runs} left, {result.most} at most at a time, before the oldest goes")


def _job(config: Path | None, name: str) -> Job:
    from xobackup.cli import jobs
    from xobackup.engine.errors import UsageError

    configuration = read_configuration(config)
    (known,) = jobs.job_names(configuration, [name])
    job = jobs.job_of(configuration, known, with_secrets=False)
    if not job.selects_vms:
        raise UsageError(f"job {name!r} saves the databases of pools: it keeps the newest {job.settings.retention}")
    return job


def _verdicts(
    job: Job, config: Path | None, remote: str | None, vm: str | None, problems: list[Problem]
) -> Iterator[tuple[str, str, str, list[Verdict]]]:
    """Remote, uuid and name of each VM that has restore points of the job, and what becomes of them."""
    from schedules.retention import judge
    from xobackup.cli import repositories
    from xobackup.clock import SystemClock
    from xobackup.engine.directory_target import entries_of

    now_ms = round(SystemClock().now_s() * 1000)
    names = {target.name for target in job.remotes}
    for name, repository, vms in repositories.each(config, remote, vm):
        if remote is None and name not in names:
            continue
        for uuid in vms:
            listing = repository.points(uuid)
            problems.extend(listing.problems)
            entries = entries_of(listing.points, job.id, job.schedule_id, mode=job.settings.mode)
            if entries:
                vm_name = listing.points[-1].vm_name or uuid
                held = repository.held_points(listing.points)
                pins = {point: str(one) for point, one in held.items()}
                yield name, uuid, vm_name, judge(entries, job.settings.rule, now_ms=now_ms, pins=pins)


def _moment_ms(text: str) -> int:
    from xobackup.clock import SystemClock

    if not text:
        return round(SystemClock().now_s() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--begin {text!r}: expected a date like 2026-11-27 or 2026-11-27T03:00") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
