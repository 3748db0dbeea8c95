"""``xobackup restore vm``: a restore point as a new VM."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.options import AsOfOption, ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.cli.restore.options import (
    CheckOption,
    FromOption,
    PointArgument,
    VmArgument,
    archive_text,
    checked_text,
    found,
    mapping,
)
from xobackup.texts import size_text

if TYPE_CHECKING:
    from xobackup.engine.restore.differential import Differential
    from xobackup.engine.restore.plan import RestorePlan
    from xobackup.engine.restore.vm import Restored

PoolOption = Annotated[str, typer.Option("--pool", "-p", help="The pool to restore to.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The new VM's name.", show_default="NAME (POINT)")]
SrOption = Annotated[
    str | None,
    typer.Option("--sr", help="SR for the disks: uuid or name.", show_default="where each was, else the default"),
]
DiskSrOption = Annotated[
    list[str] | None,
    typer.Option("--disk-sr", metavar="DISK=SR", help="SR of one disk (device, name or uuid); DISK= leaves it out."),
]
NetworkOption = Annotated[
    list[str] | None,
    typer.Option("--network", metavar="NIC=NETWORK", help="Network of a NIC (device, MAC or its network's name)."),
]
NewMacsOption = Annotated[bool, typer.Option("--new-macs", help="New MAC addresses, for a copy beside the VM.")]
MemoryOption = Annotated[
    bool, typer.Option("--memory/--no-memory", help="Suspended with its memory, if it was taken with it; or halted.")
]
StartOption = Annotated[bool, typer.Option("--start", help="Start the VM when it is complete.")]
DifferentialOption = Annotated[
    str,
    typer.Option(
        "--differential",
        metavar="auto|never|require",
        help="Start disks as clones of snapshots left on their SR, and write what differs.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be created.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("vm")(restore)


def restore(
    vm: VmArgument,
    remote: FromOption,
    pool: PoolOption,
    point: PointArgument = "latest",
    name: NameOption = None,
    sr: SrOption = None,
    disk_sr: DiskSrOption = None,
    network: NetworkOption = None,
    new_macs: NewMacsOption = False,
    memory: MemoryOption = True,
    start: StartOption = False,
    differential: DifferentialOption = "auto",
    dry_run: DryRunOption = False,
    check: CheckOption = True,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a restore point as a new VM."""
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.limits import process_limits
    from xobackup.cli.live import world_of
    from xobackup.engine.full.described import with_disks
    from xobackup.engine.restore.differential import with_bases
    from xobackup.engine.restore.plan import VmRequest
    from xobackup.engine.restore.vm import plan_restore, restore_vm

    output = Output(as_json=as_json)
    how = differential_of(differential)
    configuration = read_configuration(config)
    request = VmRequest(
        name=name,
        sr=sr,
        disk_srs=mapping("--disk-sr", disk_sr),
        networks=mapping("--network", network),
        new_macs=new_macs,
        memory=memory,
        start=start,
    )
    with (
        world_of(output, configuration.state_directory, limits=process_limits(configuration)) as world,
        found(config, remote, vm, point, as_of=as_of) as (repository, restore_point, remote_name),
        contextlib.closing(world.connect(pool_address(configuration, pool))) as session,
    ):
        whole = with_disks(repository, restore_point)
        plan = plan_restore(world, session, whole, request, remote=remote_name)
        plan = with_bases(session, repository, plan, repository.points(restore_point.vm_uuid).points, how)
        _show_plan(output, plan, pool)
        if dry_run:
            output.say("nothing was created: this was a dry run")
            return
        restored = restore_vm(world, session, repository, plan, check=check)
    _show_restored(output, restored, check=check)


def differential_of(text: str) -> Differential:
    """What ``--differential`` says."""
    from xobackup.engine.errors import UsageError
    from xobackup.engine.restore.differential import Differential

    try:
        return Differential(text)
    except ValueError:
        raise UsageError(f"--differential: expected auto, never or require, found {text!r}") from None


def _show_plan(output: Output, plan: RestorePlan, pool: str) -> None:
    output.record(
        "restore-plan",
        {
            "point": plan.point.id,
            "name": plan.name,
            "pool": pool,
            "disks": [
                {
                    "device": disk.disk.userdevice,
                    "name": disk.disk.name_label,
                    "virtual_size_bytes": disk.disk.virtual_size,
                    "sr": disk.sr_name,
                    "base": disk.base.vdi_uuid if disk.base else None,
                    "write_bytes_max": disk.base.write_bytes if disk.base else disk.disk.virtual_size,
                    "full_reason": disk.full_reason,
                }
                for disk in plan.disks
            ],
            "memory": plan.memory is not None,
            "networks": [nic.network_name for nic in plan.nics],
            "start": plan.start,
            "warnings": plan.warnings,
        },
    )
    rows = [
        [disk.disk.userdevice or "", disk.disk.name_label, size_text(disk.disk.virtual_size), disk.sr_name]
        for disk in plan.filled
    ]
    output.table(f"{plan.name} on {pool}", ["device!", "disk", "size>!", "SR"], rows)
    for disk in plan.disks:
        if disk.base is not None:
            what = f"at most {size_text(disk.base.write_bytes)} written" if disk.base.indexes else "nothing to write"
            base = f"starts from snapshot {disk.base.vdi_uuid} ({disk.base.point_id})"
            output.say(f"disk {disk.disk.name_label}: {base}, {what}")
        elif disk.full_reason:
            output.say(f"disk {disk.disk.name_label}: written whole: {disk.full_reason}")
    for nic in plan.nics:
        output.say(f"NIC {nic.vif.get('device')}: {nic.network_name}")
    for warning in plan.warnings:
        output.note(f"warning: {warning}", style="yellow")


def _show_restored(output: Output, restored: Restored, *, check: bool) -> None:
    output.record(
        "restored",
        {
            "vm": restored.vm_uuid,
            "name": restored.name,
            "disks": restored.disks,
            "size_bytes": restored.size_bytes,
            "blocks_compared": restored.compared,
            "blocks_without_digest": restored.unchecked,
            "archive": restored.archive,
            "started": restored.started,
            "suspended": restored.suspended,
            "warnings": restored.warnings,
        },
    )
    state = "started" if restored.started else "suspended" if restored.suspended else "halted"
    output.say(f"restored {restored.name} ({restored.vm_uuid}), {state}", style="green")
    told = archive_text if restored.archive else checked_text
    output.say(told(restored.compared, restored.unchecked, check=check))
