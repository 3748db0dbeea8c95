"""``xobackup restore vm``: a restore point as a new VM."""

from __future__ import annotations

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
    mapping,
)
from xobackup.texts import size_text

if TYPE_CHECKING:
    from xobackup.cli.verbs.restoring import Planned
    from xobackup.engine.restore.differential import Differential
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
    from xobackup.cli import repositories
    from xobackup.cli.shared_limits import limited_world
    from xobackup.cli.verbs.restoring import Wanted, planned
    from xobackup.engine.restore.plan import VmRequest
    from xobackup.engine.restore.vm import restore_vm

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
    (target,) = repositories.remote_targets(config, remote, as_of=as_of)
    wanted = Wanted(remote=target, vm=vm, point=point, pool=pool, request=request, how=how)
    with (
        limited_world(output, configuration, target.name, f"pool:{pool}") as world,
        planned(world, configuration, wanted) as made,
    ):
        _show_plan(output, made, pool)
        if dry_run:
            output.say("nothing was created: this was a dry run")
            return
        restored = restore_vm(world, made.session, made.repository, made.plan, check=check)
    _show_restored(output, restored, check=check)


def differential_of(text: str) -> Differential:
    """What ``--differential`` says."""
    from xobackup.engine.errors import UsageError
    from xobackup.engine.restore.differential import Differential

    try:
        return Differential(text)
    except ValueError:
        raise UsageError(f"--differential: expected auto, never or require, found {text!r}") from None


def _show_plan(output: Output, made: Planned, pool: str) -> None:
    from xobackup.cli.verbs.restoring import plan_data

    plan = made.plan
    output.record("restore-plan", plan_data(made, pool))
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
    for one in made.room:
        free = "" if one.free_bytes is None else f", {size_text(one.free_bytes)} free"
        output.say(f"SR {one.sr}: at most {size_text(one.needed_bytes)} written{free}")
    for nic in plan.nics:
        output.say(f"NIC {nic.vif.get('device')}: {nic.network_name}")
    for warning in plan.warnings:
        output.note(f"warning: {warning}", style="yellow")


def _show_restored(output: Output, restored: Restored, *, check: bool) -> None:
    from xobackup.cli.verbs.restoring import restored_data

    output.record("restored", restored_data(restored))
    state = "started" if restored.started else "suspended" if restored.suspended else "halted"
    output.say(f"restored {restored.name} ({restored.vm_uuid}), {state}", style="green")
    told = archive_text if restored.archive else checked_text
    output.say(told(restored.compared, restored.unchecked, check=check))
