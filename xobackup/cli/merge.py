"""``xobackup merge``: finish interrupted merges, and merge what retention left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption, VmOption
from xobackup.cli.output import Output, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xobackup.repository.merging import MergeProgress
    from xobackup.repository.reclaim import ReclaimRefusal, ReclaimStep


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
    from xobackup.cli import repositories
    from xobackup.cli.live import watching

    output = Output(as_json=as_json)
    steps = 0
    with watching(output) as watch:
        for name, url in repositories.remote_names(config, remote):
            with repositories.opened(url) as repository:
                for uuid in [repositories.find_vm(repository, vm)] if vm else repository.vms():
                    if dry_run:
                        plan = repository.merge_plan(uuid)
                        steps += len(plan.steps)
                        _show(output, name, uuid, "would ", plan.steps, plan.refusals)
                        continue
                    meter = watch.progress.meter(uuid, stage="merge")
                    seen = {"done": 0}

                    def told(progress: MergeProgress, seen: dict[str, int] = seen) -> None:
                        meter.add(max(progress.bytes_done - seen["done"], 0))  # noqa: B023 - only in this round
                        seen["done"] = progress.bytes_done

                    with repository.lock(uuid, timeout_s=30, purpose="merge") as directory:
                        report = directory.merge(told, cancel=watch.cancel.check)
                    watch.progress.drop(meter)
                    steps += len(report.steps)
                    _show(output, name, uuid, "", report.steps, report.refusals)
                    if report.bytes_moved:
                        output.say(f"{name}: {uuid}: {size_text(report.bytes_moved)} moved")
    if not steps:
        output.say("nothing to merge", style="green")


def _show(
    output: Output,
    remote: str,
    vm: str,
    prefix: str,
    steps: Sequence[ReclaimStep],
    refusals: Sequence[ReclaimRefusal],
) -> None:
    for step in steps:
        record = {"remote": remote, "vm": vm, "lineage": step.lineage, "names": step.names, "reason": step.reason}
        output.record("step", {"action": step.kind, "done": not prefix, **record})
        output.say(f"{remote}: {vm}: {prefix}{step.kind} {' <- '.join(step.names)}: {step.reason}")
    for refusal in refusals:
        record = {"remote": remote, "vm": vm, "lineage": refusal.lineage, "reason": refusal.reason}
        output.record("refusal", {"code": refusal.code, **record})
        output.say(f"{remote}: {vm}: left alone {refusal.lineage}: {refusal.reason}", style="yellow")
