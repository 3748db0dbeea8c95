"""``xobackup run``: back up the VMs of one or several jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output, duration_text, size_text

if TYPE_CHECKING:
    from xobackup.engine.report import RunReport

JobArguments = Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="All jobs when none is named.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(jobs: JobArguments = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Back up the VMs of the named jobs, one job after the other."""
    from xobackup.cli.jobs import job_names, job_of
    from xobackup.cli.live import world_of
    from xobackup.engine.run import run_job

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    chosen = [job_of(configuration, name) for name in job_names(configuration, jobs)]
    reports: list[RunReport] = []
    for job in chosen:
        with world_of(output, configuration.state_directory) as world:
            reports.append(run_job(job, world))
        show_report(output, reports[-1])
        if world.cancel.cancelled:
            break
    code = exit_code([str(report.outcome) for report in reports])
    if code is not Exit.OK:
        raise Outcome(code, "; ".join(_complaint(report) for report in reports if str(report.outcome) not in GOOD))


GOOD = {"ok", "skipped"}
_CODES = {
    "failed": Exit.FAILED,
    "some-failed": Exit.SOME_FAILED,
    "damage": Exit.DAMAGE,
    "locked": Exit.LOCKED,
    "cancelled": Exit.TERMINATED,
}


def exit_code(outcomes: list[str]) -> Exit:
    """One exit code for several outcomes: all good, all alike, or some failed."""
    bad = [outcome for outcome in outcomes if outcome not in GOOD]
    if not bad:
        return Exit.OK
    if "cancelled" in bad:
        return Exit.TERMINATED
    if len(bad) == len(outcomes) and len(set(bad)) == 1:
        return _CODES.get(bad[0], Exit.FAILED)
    return Exit.SOME_FAILED


def show_report(output: Output, report: RunReport) -> None:
    """The run's verdicts as a table."""
    output.record("report", report.as_data())
    rows = [
        [
            vm.name or vm.uuid,
            str(vm.outcome),
            _disks(vm.fulls, vm.deltas),
            size_text(vm.read_bytes) if vm.read_bytes else "",
            duration_text(vm.duration_s),
            _points(vm.points),
            vm.reason or "; ".join(vm.warnings),
        ]
        for vm in report.vms
    ]
    columns = ["VM", "outcome!", "disks!", "read>!", "time>!", "restore point!", "remarks"]
    if rows:
        output.table(f"job {report.job}: {report.outcome} in {duration_text(report.duration_s)}", columns, rows)
    else:
        output.say(f"job {report.job}: {report.outcome}: no VM was selected")
    for problem in report.problems:
        output.note(f"problem: {problem}", style="red")


def _disks(fulls: int, deltas: int) -> str:
    return ", ".join(f"{count} {mode}" for count, mode in ((fulls, "full"), (deltas, "delta")) if count)


def _points(points: dict[str, str]) -> str:
    """The restore point; with the remote's name only when there are several."""
    if len(points) == 1:
        return next(iter(points.values()))
    return "\n".join(f"{remote}: {point}" for remote, point in points.items())


def _complaint(report: RunReport) -> str:
    failed = [vm.name or vm.uuid for vm in report.vms if str(vm.outcome) == "failed"]
    what = f"VMs that failed: {', '.join(failed)}" if failed else "; ".join(report.problems) or str(report.outcome)
    return f"job {report.job}: {what}"
