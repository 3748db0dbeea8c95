"""``xobackup run``: back up the VMs of one or several jobs."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xobackup.cli.engine_store import handing_out
from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.groups import report_lines
from xobackup.cli.history_store import note_history
from xobackup.cli.hooks import failed_lines
from xobackup.cli.logs import Lines
from xobackup.cli.notifying import notify_all
from xobackup.cli.options import (
    ConfigOption,
    FullOption,
    JobArguments,
    JobOptions,
    JsonOption,
    LogFormatOption,
    OnlyVmsOption,
    checked_format,
    read_configuration,
)
from xobackup.cli.output import Output
from xobackup.texts import count_text, duration_text, size_text

if TYPE_CHECKING:
    from xobackup.cli.live import Watch
    from xobackup.config.model import Configuration
    from xobackup.engine.job import Job
    from xobackup.engine.report import PoolReport, RunReport, VmReport


def register(app: typer.Typer) -> None:
    """Add the command."""

    def command(
        jobs: JobArguments = None,
        vm: OnlyVmsOption = None,
        full: FullOption = False,
        log_format: LogFormatOption = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        run(JobOptions(jobs=jobs, vm=vm, full=full, config=config, as_json=as_json), checked_format(log_format))

    app.command("run", help=run.__doc__)(command)


def run(options: JobOptions, log_format: str | None = None) -> None:
    """Run the named jobs, one after the other: back up VMs, save pools' databases, mirror remotes."""
    from xobackup.cli.jobs import selecting_jobs
    from xobackup.cli.live import watched_world, watching
    from xobackup.cli.shared_limits import shared_limits
    from xobackup.engine.mirror.job import MirrorJob, run_mirror
    from xobackup.engine.run import run_job

    output = Output(as_json=options.as_json)
    configuration = read_configuration(options.config)
    ends: list[End] = []
    selecting = selecting_jobs(configuration)
    log = _log(configuration, log_format)

    def complain(told: str) -> None:
        if log is None:
            output.note(told, style="yellow")
        else:
            log("warning", told)

    jobs: list[Job | MirrorJob] = [*options.chosen(configuration), *options.mirrors(configuration)]
    with shared_limits(configuration, complain) as limits:
        for job in jobs:
            with watching(output, log) as watch, handing_out(configuration) as hand_out:
                world = watched_world(
                    watch, configuration.state_directory, limits=limits, all_jobs=selecting, hand_out=hand_out
                )
                report = run_mirror(job, world) if isinstance(job, MirrorJob) else run_job(job, world)
                ends.append(_end_of(job.name, report, watch))
            show_report(output, report, remotes=len(job.destinations))
            if watch.cancel.cancelled:
                break
    note_history(configuration, complain)
    notify_all(configuration, complain)
    if options.vm and not any(end.vms for end in ends) and all(end.code is Exit.OK for end in ends):
        raise NotThere(f"no VM of these jobs is called {' or '.join(options.vm)}", hint="see `xobackup plan`")
    code = exit_code([end.code for end in ends])
    if code is not Exit.OK:
        bad = [end for end in ends if end.code is not Exit.OK]
        hints = dict.fromkeys(end.hint for end in bad if end.hint)
        raise Outcome(code, "\n".join(end.complaint for end in bad), hint="\n".join(hints) or None)


def _log(configuration: Configuration, given: str | None) -> Lines | None:
    """Lines of a log instead of what a person likes to see: when asked for, or configured and nobody watches."""
    form = given or (None if sys.stderr.isatty() else configuration.log.format)
    return None if form is None else Lines(form)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one job of the command line ended."""

    code: Exit
    vms: int
    complaint: str = ""
    hint: str = ""


GOOD = {"ok", "skipped"}
_CODES = {
    "failed": Exit.FAILED,
    "some-failed": Exit.SOME_FAILED,
    "damage": Exit.DAMAGE,
    "locked": Exit.LOCKED,
}
_TOLD = {"some-failed": "done in part"}
_OUT_OF_REACH = {
    "Unavailable", "Unreachable", "ConnectionLost", "AnswerTimeout", "TransportError", "TlsError", "LoginError",
}  # fmt: skip
"""Classes of errors for which a run that could do nothing ends as *unreachable*."""


def _end_of(job: str, report: RunReport, watch: Watch) -> End:
    from xobackup.cli.live import stopped_by

    outcome = str(report.outcome)
    if outcome in GOOD:
        return End(code=Exit.OK, vms=len(report.vms))
    if outcome == "cancelled":
        told = f"job {job}: {watch.cancel.reason}; restore points published before that are kept"
        return End(code=stopped_by(watch.cancel), vms=len(report.vms), complaint=told)
    code = _CODES.get(outcome, Exit.FAILED)
    failures = watch.face.failures
    if (
        not report.vms
        and not report.pools
        and failures
        and all(failure.error_class in _OUT_OF_REACH for failure in failures)
    ):
        code = Exit.UNREACHABLE
    said = [failure.hint for failure in failures]
    hints = dict.fromkeys([*said, *(vm.hint for vm in report.vms), *(pool.hint for pool in report.pools)])
    hint = next((text for text in hints if text), "")
    return End(code=code, vms=len(report.vms), complaint=_complaint(report), hint=hint)


def exit_code(codes: list[Exit]) -> Exit:
    """One exit code for several jobs: all good, all alike, or a part failed."""
    bad = [code for code in codes if code is not Exit.OK]
    if not bad:
        return Exit.OK
    for stopped in (Exit.INTERRUPTED, Exit.TERMINATED):
        if stopped in bad:
            return stopped
    return bad[0] if len(bad) == len(codes) and len(set(bad)) == 1 else Exit.SOME_FAILED


def show_report(output: Output, report: RunReport, *, remotes: int) -> None:
    """The run's verdicts as a table."""
    output.record("report", report.as_data())
    rows = [
        [
            vm.name or vm.uuid,
            str(vm.outcome),
            _disks(vm.fulls, vm.deltas, vm.vias),
            size_text(vm.read_bytes) if vm.read_bytes else "",
            duration_text(vm.duration_s),
            _points(vm.points, remotes),
            _remarks(vm),
        ]
        for vm in report.vms
    ]
    columns = ["VM", "outcome!", "disks!", "read>!", "time>!", "restore point!", "remarks"]
    outcome = _TOLD.get(str(report.outcome), str(report.outcome))
    title = f"job {report.job}: {outcome} in {duration_text(report.duration_s)}"
    if rows:
        output.table(title, columns, rows)
        for line in _reasons(report):
            output.say(line)
    for line in _traffic(report):
        output.say(line)
    for check in report.checks:
        if check.ok:
            output.say(f"health check of {check.vm_name}: up in {duration_text(check.rto_s)}", style="green")
        else:
            output.say(f"health check of {check.vm_name}: FAILED: {check.reason}", style="red")
    if not rows and not report.pools:
        told = "no VM was looked at" if report.problems else "no VM was selected"
        output.say(f"job {report.job}: {outcome}: {told}")
    if report.group is not None:
        for line in report_lines(report.group):
            output.say(line)
    names = {vm.uuid: vm.name or vm.uuid for vm in report.vms}
    for line in failed_lines([*report.hooks, *(one for vm in report.vms for one in vm.hooks)], names):
        output.say(line, style="yellow")
    if report.pools:
        _show_pools(output, "databases of pools" if rows else title, report, remotes=remotes)


def _traffic(report: RunReport) -> list[str]:
    """What was asked of remotes whose requests are counted."""
    return [
        f"{name}: {count_text(used.total, 'request')}"
        f"{f' ({used.repeated} repeated)' if used.repeated else ''}, "
        f"{size_text(used.sent_bytes)} sent, {size_text(used.received_bytes)} received"
        for name, used in report.storage.items()
    ]


def _remarks(vm: VmReport) -> str:
    """Why it failed; or what is worth a look, earlier attempts included."""
    off = [f"it was off for {duration_text(vm.downtime_s)}"] if vm.downtime_s else []
    lines = [f"attempt {one.number}: {one.error}" for one in vm.tried if len(vm.tried) > 1 or one.error != vm.reason]
    if vm.reason:
        lines = lines or [vm.reason]
    return "\n".join([*lines, *off, *(vm.warnings if not vm.reason else ())])


def _show_pools(output: Output, title: str, report: RunReport, *, remotes: int) -> None:
    rows = [
        [
            pool.name,
            str(pool.outcome),
            size_text(pool.size_bytes) if pool.size_bytes else "",
            duration_text(pool.duration_s),
            _points(pool.points, remotes),
            pool.reason or "; ".join(pool.warnings) or _held(pool),
        ]
        for pool in report.pools
    ]
    columns = ["pool", "outcome!", "database>!", "time>!", "backup!", "remarks"]
    output.table(title, columns, rows)


def _held(pool: PoolReport) -> str:
    return f"{count_text(pool.hosts, 'host')}, {count_text(pool.vms, 'VM')}"


def _disks(fulls: int, deltas: int, vias: tuple[str, ...]) -> str:
    """How many of which kind; and by which ways, when that was not the export stream alone."""
    told = ", ".join(f"{count} {mode}" for count, mode in ((fulls, "full"), (deltas, "delta")) if count)
    return f"{told} ({', '.join(vias)})" if any("nbd" in via for via in vias) else told


def _reasons(report: RunReport) -> list[str]:
    """Why disks were not read in a better way, each reason once; not that there is no NBD at all: `plan` says it."""
    from xobackup.engine.reading.ladder import Via

    reasons = Counter(reason for vm in report.vms for way in vm.ways for reason in way.not_via)
    return [
        f"{reason} ({count_text(count, 'transfer')})"
        for reason, count in reasons.most_common()
        if Via.NBD_FULL.value not in reason.partition(":")[0]
    ]


def _points(points: dict[str, str], remotes: int) -> str:
    """The restore point; with the remotes' names only when it is not the same on all of them."""
    if len(points) == remotes and len(set(points.values())) == 1:
        return next(iter(points.values()))
    return "\n".join(f"{remote}: {point}" for remote, point in points.items())


def _complaint(report: RunReport) -> str:
    """One line per VM that failed and per problem of a whole pool or remote."""
    failed = [f"{vm.name or vm.uuid}: {vm.reason}" for vm in report.vms if str(vm.outcome) == "failed"]
    failed += [f"pool {pool.name}: {pool.reason}" for pool in report.pools if str(pool.outcome) == "failed"]
    told = [*report.problems, *failed] or [str(report.outcome)]
    return "\n".join(f"job {report.job}: {line}" for line in told)
