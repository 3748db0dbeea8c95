"""``xobackup merge``: finish interrupted merges, and merge what retention left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli import repositories
from xobackup.cli.options import LOCK_WAIT_S, ConfigOption, JsonOption, RemoteOption, VmOption
from xobackup.cli.output import Output
from xobackup.texts import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from xobackup.cli.live import Watch
    from xobackup.repository.merging import MergeProgress, MergeReport
    from xobackup.repository.reclaim import ReclaimRefusal, ReclaimStep
    from xobackup.repository.repository import Repository


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(merge)


def merge(
    remote: RemoteOption = None,
    vm: VmOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge disks that no restore point names any more into the next one, and delete those nothing needs."""
    from xobackup.cli.live import watching

    output = Output(as_json=as_json)
    steps = 0
    with watching(output) as watch:
        for name, repository, vms in repositories.each(config, remote, vm):
            for uuid in vms:
                where = Where(remote=name, vm=uuid, vm_name=repositories.vm_name(repository, uuid) or uuid)
                if dry_run:
                    plan = repository.merge_plan(uuid)
                    steps += len(plan.steps)
                    _show(output, where, "would ", plan.steps, plan.refusals)
                    continue
                report = _merge(watch, repository, where)
                steps += len(report.steps)
                _note(config, where, report)
                _show(output, where, "", report.steps, report.refusals)
                if report.bytes_moved:
                    output.say(f"{where}: {size_text(report.bytes_moved)} moved")
    if not steps:
        output.say("nothing to merge", style="green")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A VM's directory on a remote."""

    remote: str
    vm: str
    vm_name: str

    def __str__(self) -> str:
        return f"{self.vm_name} on {self.remote}"


def _merge(watch: Watch, repository: Repository, where: Where) -> MergeReport:
    meter = watch.progress.meter(where.vm_name, stage="merge")
    seen = 0

    def told(progress: MergeProgress) -> None:
        nonlocal seen
        if progress.bytes_done < seen:
            seen = 0  # the next merge began
        meter.add(progress.bytes_done - seen)
        seen = progress.bytes_done

    try:
        with repository.lock(where.vm, timeout_s=LOCK_WAIT_S, purpose="merge", check=watch.cancel.check) as directory:
            return directory.merge(told, cancel=watch.cancel.check)
    finally:
        watch.progress.drop(meter)


def _note(config: Path | None, where: Where, report: MergeReport) -> None:
    """A chain that is broken, for the history."""
    from xobackup.cli.examined import examining
    from xobackup.repository.reclaim import BROKEN

    broken = [refusal.reason for refusal in report.refusals if refusal.code == BROKEN]
    if broken:
        with examining(config, "merge") as notes:
            notes.note(where.vm, where.vm_name, where.remote, damage=broken[0])


def _show(
    output: Output, where: Where, prefix: str, steps: Sequence[ReclaimStep], refusals: Sequence[ReclaimRefusal]
) -> None:
    common = {"remote": where.remote, "vm": where.vm, "name": where.vm_name}
    for step in steps:
        record = {**common, "lineage": step.lineage, "names": step.names, "reason": step.reason}
        output.record("step", {"action": step.kind, "done": not prefix, **record})
        output.say(f"{where}: {prefix}{step.kind} {' <- '.join(step.names)}: {step.reason}")
    for refusal in refusals:
        record = {**common, "lineage": refusal.lineage, "reason": refusal.reason}
        output.record("refusal", {"code": refusal.code, **record})
        output.say(f"{where}: left alone {refusal.lineage}: {refusal.reason}", style="yellow")
