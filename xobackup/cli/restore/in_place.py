"""``xobackup restore in-place``: a restore point into the VM that it is of."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.options import AsOfOption, ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.cli.restore.options import CheckOption, FromOption, PointArgument, VmArgument, checked_text, found
from xobackup.cli.restore.vm import DifferentialOption, differential_of
from xobackup.texts import duration_text, size_text

if TYPE_CHECKING:
    from xobackup.engine.restore.in_place import InPlace, InPlacePlan

PoolOption = Annotated[str, typer.Option("--pool", "-p", help="The pool that has the VM.")]
DiskOption = Annotated[
    list[str] | None, typer.Option("--disk", help="Only this disk (device, name or uuid); may be repeated.")
]
ShutdownOption = Annotated[bool, typer.Option("--shutdown", help="Shut the VM down if it runs, and start it again.")]
WaitOption = Annotated[float, typer.Option("--shutdown-wait", min=1, help="Seconds that its guest gets for that.")]
StartOption = Annotated[
    bool | None, typer.Option("--start/--no-start", help="Start it afterwards.", show_default="as it was")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it. Without it, it is only said what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("in-place")(restore)


def restore(
    vm: VmArgument,
    remote: FromOption,
    pool: PoolOption,
    point: PointArgument = "latest",
    disk: DiskOption = None,
    shutdown: ShutdownOption = False,
    shutdown_wait: WaitOption = 600,
    start: StartOption = None,
    differential: DifferentialOption = "auto",
    yes: YesOption = False,
    check: CheckOption = True,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a VM the disks of a restore point; its own are kept beside it. Does nothing without --yes."""
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.shared_limits import limited_world
    from xobackup.engine.restore.differential import with_bases
    from xobackup.engine.restore.in_place import Wish, plan_in_place, refuse_now, restore_in_place

    output = Output(as_json=as_json)
    how = differential_of(differential)
    configuration = read_configuration(config)
    wish = Wish(disks=tuple(disk or ()), shutdown=shutdown, shutdown_wait_s=shutdown_wait, start=start)
    with (
        limited_world(output, configuration, f"pool:{pool}") as outside,
        found(config, remote, vm, point, as_of=as_of) as (repository, restore_point, remote_name),
        contextlib.closing(outside.connect(pool_address(configuration, pool))) as session,
    ):
        world = replace(outside, throttle=outside.limits.across(outside.throttle, [remote_name], outside.clock))
        plan = plan_in_place(world, session, restore_point, wish, remote=remote_name)
        points = repository.points(restore_point.vm_uuid).points
        plan = replace(plan, restore=with_bases(session, repository, plan.restore, points, how))
        _show_plan(output, plan)
        if not yes:
            output.say("nothing was done; --yes does it")
            return
        refuse_now(session, plan)
        done = restore_in_place(world, session, repository, plan, check=check)
    _show_done(output, plan, done, check=check)


def _show_plan(output: Output, plan: InPlacePlan) -> None:
    filled = {one.disk.live_vdi_uuid: one for one in plan.restore.disks}
    rows = []
    for one in plan.disks:
        disk = filled[one.disk.live_vdi_uuid]
        how = f"what differs from {disk.base.point_id}" if disk.base else "whole"
        most = disk.base.write_bytes if disk.base else disk.disk.virtual_size
        old = f"{one.old_name} ({one.old_uuid[:8]})" if one.old_uuid else "none"
        rows.append([one.device, one.disk.name_label, old, disk.sr_name, f"{how}, at most {size_text(most)}"])
        output.record(
            "in-place-disk",
            {
                "device": one.device,
                "name": one.disk.name_label,
                "replaces": one.old_uuid or None,
                "sr": disk.sr_name,
                "base": disk.base.vdi_uuid if disk.base else None,
                "write_bytes_max": most,
                "full_reason": disk.full_reason,
            },
        )
    title = f"{plan.vm_name}: its disks as of {plan.restore.point.id}"
    output.table(title, ["device!", "disk", "replaces", "SR", "written"], rows)
    power = "it runs: it is shut down when the disks are ready" if plan.runs else "it is halted"
    after = "and started again" if plan.starts else "and stays halted"
    output.say(f"{power}, {after}; its settings, NICs and tags stay as they are")
    output.say(f'its present disks go to a VM "{plan.kept_name}", which can be started, and is never deleted by us')
    for warning in plan.warnings:
        output.note(f"warning: {warning}", style="yellow")


def _show_done(output: Output, plan: InPlacePlan, done: InPlace, *, check: bool) -> None:
    output.record(
        "restored-in-place",
        {
            "vm": done.vm_uuid,
            "kept_vm": done.keeper_uuid,
            "disks": [{"device": one.device, "old": one.old or None, "new": one.new} for one in done.disks],
            "started": done.started,
            "downtime_s": done.downtime_s,
            "blocks_compared": done.restored.compared,
            "blocks_without_digest": done.restored.unchecked,
            "warnings": done.warnings,
        },
    )
    state = "started" if done.started else "halted"
    off = f", off for {duration_text(done.downtime_s)}" if done.downtime_s else ""
    output.say(f"{plan.vm_name} has its disks of {plan.restore.point.id}, {state}{off}", style="green")
    output.say(f"what they replaced is on VM {done.keeper_name} ({done.keeper_uuid}): delete it when all is well")
    output.say(checked_text(done.restored.compared, done.restored.unchecked, check=check))
    for warning in done.warnings:
        output.note(f"warning: {warning}", style="yellow")
