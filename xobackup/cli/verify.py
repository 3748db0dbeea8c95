"""``xobackup verify``: are the backups whole, and do they hold what was written?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption, VmOption
from xobackup.cli.output import Output, size_text

if TYPE_CHECKING:
    from xobackup.repository.repository import Repository
    from xobackup.repository.verify import VerifyOptions, VerifyReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    remote: RemoteOption = None,
    vm: VmOption = None,
    point: Annotated[
        list[str] | None, typer.Option("--point", help="Only this restore point (with --vm); may be repeated.")
    ] = None,
    percent: Annotated[
        float, typer.Option("--percent", min=0, max=100, help="Share of the blocks to read; 0 = structure only.")
    ] = 100.0,
    seed: Annotated[int, typer.Option("--seed", help="Which blocks a share takes; another seed, other blocks.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the structure of restore points, and their blocks against the digests of what was written."""
    from xobackup.cli import repositories
    from xobackup.cli.errors import NotThere
    from xobackup.cli.live import watching
    from xobackup.repository.verify import VerifyOptions, VerifyProgress, VerifyReport

    if point and vm is None:
        raise NotThere("--point needs --vm: restore points are named by their time, every VM has its own")
    output = Output(as_json=as_json)
    total = VerifyReport()
    with watching(output) as watch:
        for name, url in repositories.remote_names(config, remote):
            meter = watch.progress.meter(name, stage="verify")
            done = {"before": 0}

            def told(progress: VerifyProgress, done: dict[str, int] = done) -> None:
                meter.add(max(progress.bytes_read - done["before"], 0))  # noqa: B023 - called only in this round
                done["before"] = progress.bytes_read

            options = VerifyOptions(fraction=percent / 100, seed=seed, progress=told, check=watch.cancel.check)
            with repositories.opened(url) as repository:
                total.add(_verify_repository(repository, vm, point, options, done))
            watch.progress.drop(meter)
    _show(output, total)


def _verify_repository(
    repository: Repository, vm: str | None, points: list[str] | None, options: VerifyOptions, done: dict[str, int]
) -> VerifyReport:
    from xobackup.cli import repositories
    from xobackup.repository.verify import VerifyReport

    report = VerifyReport()
    for uuid in [repositories.find_vm(repository, vm)] if vm else repository.vms():
        done["before"] = 0
        chosen = [repositories.find_point(repository, uuid, point).id for point in points] if points else None
        report.add(repository.verify(uuid, points=chosen, options=options))
    return report


def _show(output: Output, report: VerifyReport) -> None:
    for problem in report.problems:
        output.record("problem", asdict(problem))
        style = "red" if problem.severity == "damage" else "yellow"
        output.say(str(problem), style=style)
        if problem.points:
            output.say(f"  touches {', '.join(problem.points)}", style=style)
    coverage = report.coverage
    output.record("coverage", {"points": report.points, "damaged": report.damaged, **asdict(coverage)})
    output.say(
        f"{len(report.points)} restore points, {coverage.disks} disks, {coverage.blocks} blocks: "
        f"{coverage.read} read ({size_text(coverage.bytes_read)}), {coverage.compared} compared with their digests"
    )
    if coverage.blocks - coverage.with_digest:
        output.say(
            f"{coverage.blocks - coverage.with_digest} blocks have no digest: only their structure can be told"
        )
    if report.damaged:
        damaged = sum(problem.severity == "damage" for problem in report.problems)
        raise Outcome(Exit.DAMAGE, f"{damaged} findings of damage", hint="`xobackup clean` says what can be done")
    if coverage.unread or any(problem.severity == "unknown" for problem in report.problems):
        raise Outcome(Exit.FAILED, "not everything could be read: nothing is known about that part")
    output.say("no damage found", style="green")
