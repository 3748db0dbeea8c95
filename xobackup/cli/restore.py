"""``xobackup restore``: a restore point as a new VM, or one of its disks as a file, a stream or into a VDI."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output, size_text

if TYPE_CHECKING:
    from xobackup.engine.restore_disk import Format, Written
    from xobackup.engine.restore_plan import RestorePlan
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository

app = typer.Typer(no_args_is_help=True, help="Restore VMs and disks.")

VmArgument = Annotated[str, typer.Argument(metavar="VM", help="The VM as backed up: its uuid or its name.")]
PointArgument = Annotated[
    str,
    typer.Argument(metavar="[POINT]", help="A restore point (or how its id begins), as `backups show` lists them."),
]
FromOption = Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")]
CheckOption = Annotated[bool, typer.Option("--check/--no-check", help="Compare every block with its digest.")]


@app.command()
def vm(
    vm: VmArgument,
    remote: FromOption,
    pool: Annotated[str, typer.Option("--pool", "-p", help="The pool to restore to.")],
    point: PointArgument = "latest",
    name: Annotated[
        str | None, typer.Option("--name", help="The new VM's name.", show_default="NAME (POINT)")
    ] = None,
    sr: Annotated[
        str | None,
        typer.Option("--sr", help="SR for the disks: uuid or name.", show_default="where each was, else the default"),
    ] = None,
    disk_sr: Annotated[
        list[str] | None,
        typer.Option(
            "--disk-sr", metavar="DISK=SR", help="SR of one disk (device, name or uuid); DISK= leaves it out."
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network", metavar="NIC=NETWORK", help="Network of a NIC (device, MAC or its network's name)."
        ),
    ] = None,
    new_macs: Annotated[
        bool, typer.Option("--new-macs", help="New MAC addresses, for a copy beside the VM.")
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="Start the VM when it is complete.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be created.")] = False,
    check: CheckOption = True,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a restore point as a new VM."""
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.live import world_of
    from xobackup.engine.restore_plan import VmRequest
    from xobackup.engine.restore_vm import plan_restore, restore_vm

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    request = VmRequest(
        name=name,
        sr=sr,
        disk_srs=_mapping("--disk-sr", disk_sr),
        networks=_mapping("--network", network),
        new_macs=new_macs,
        start=start,
    )
    with (
        world_of(output, configuration.state_directory) as world,
        _found(config, remote, vm, point) as (repository, restore_point, remote_name),
        contextlib.closing(world.connect(pool_address(configuration, pool))) as session,
    ):
        plan = plan_restore(world, session, restore_point, request, remote=remote_name)
        _show_plan(output, plan, pool)
        if dry_run:
            output.say("nothing was created: this was a dry run")
            return
        restored = restore_vm(world, session, repository, plan, check=check)
    output.record(
        "restored",
        {
            "vm": restored.vm_uuid,
            "name": restored.name,
            "disks": restored.disks,
            "size_bytes": restored.size_bytes,
            "blocks_compared": restored.compared,
            "blocks_without_digest": restored.unchecked,
            "started": restored.started,
            "warnings": restored.warnings,
        },
    )
    state = "started" if restored.started else "halted"
    output.say(f"restored {restored.name} ({restored.vm_uuid}), {state}", style="green")
    output.say(_checked(restored.compared, restored.unchecked, check=check))


@app.command()
def disk(
    vm: VmArgument,
    remote: FromOption,
    disk: Annotated[str, typer.Option("--disk", "-d", help="The disk: its device number, name or uuid.")],
    point: PointArgument = "latest",
    output_path: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; - is standard output (raw).", allow_dash=True),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="raw, vhd or qcow2.", show_default="by the file's ending, else raw")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    vdi: Annotated[
        str | None, typer.Option("--vdi", help="Instead of a file, overwrite this VDI (uuid) of --pool.")
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", "-p", help="The pool that has the VDI.")] = None,
    check: CheckOption = True,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore one disk to a file, to standard output, or into an existing VDI that is attached nowhere."""
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.live import world_of
    from xobackup.engine.restore_disk import restore_to_file, restore_to_pipe
    from xobackup.engine.restore_vdi import restore_to_vdi

    to_pipe = output_path is not None and str(output_path) == "-"
    _refuse_targets(output_path, vdi, pool, to_pipe=to_pipe, as_json=as_json, format=format)
    if output_path is not None and not to_pipe and output_path.exists() and not force:
        raise NotThere(f"{output_path}: it exists already", hint="give another name, or --force to replace it")
    output = Output(as_json=as_json)
    state = read_configuration(config).state_directory if vdi else Path()
    with world_of(output, state) as world, _found(config, remote, vm, point) as (repository, found, _):
        wanted = _disk(found, disk)
        if vdi is not None and pool is not None:
            address = pool_address(read_configuration(config), pool)
            with contextlib.closing(world.connect(address)) as session:
                written = restore_to_vdi(world, session, repository, found, wanted, vdi_uuid=vdi, check=check)
        elif to_pipe:
            try:
                written = restore_to_pipe(world, repository, found, wanted, sys.stdout.fileno(), check=check)
            except BrokenPipeError as error:
                raise Outcome(
                    Exit.FAILED, "whoever read standard output went away before the disk was whole"
                ) from error
        else:
            assert output_path is not None
            kind = _format(output_path, format)
            written = restore_to_file(
                world, repository, found, wanted, output_path, format=kind, replace=force, check=check
            )
    if to_pipe:
        output.note(_told(wanted, written, "standard output", check=check))
        return
    target = str(output_path) if vdi is None else f"VDI {vdi}"
    record = {
        "target": target,
        "size_bytes": written.size_bytes,
        "blocks": written.blocks,
        "blocks_compared": written.compared,
        "blocks_without_digest": written.unchecked,
    }
    output.record("restored", record)
    output.say(_told(wanted, written, target, check=check), style="green")


@contextlib.contextmanager
def _found(config: Path | None, remote: str, vm: str, point: str) -> Iterator[tuple[Repository, RestorePoint, str]]:
    from xobackup.cli import repositories

    ((name, url),) = repositories.remote_names(config, remote)
    with repositories.opened(url) as repository:
        uuid = repositories.find_vm(repository, vm)
        yield repository, repositories.find_point(repository, uuid, point), name


def _mapping(option: str, given: list[str] | None) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in given or []:
        key, separator, value = text.rpartition("=")
        if not separator or not key:
            raise NotThere(f"{option}: expected KEY=VALUE, found {text!r}")
        found[key] = value or None
    return found


def _disk(point: RestorePoint, wanted: str) -> PointDisk:
    found = [
        disk
        for disk in point.disks
        if wanted in (disk.userdevice, disk.live_vdi_uuid, disk.vdi_uuid, disk.vdi_ref, disk.name_label)
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{disk.userdevice} ({disk.name_label})" for disk in point.disks) or "none"
    problem = "several disks match" if found else "no such disk"
    raise NotThere(f"restore point {point.id}: disk {wanted!r}: {problem} (known: {known})")


def _format(path: Path, given: str | None) -> Format:
    from xobackup.engine.restore_disk import Format

    text = given or {".vhd": "vhd", ".qcow2": "qcow2"}.get(path.suffix.lower(), "raw")
    if text not in tuple(Format):
        raise NotThere(f"--format: expected {', '.join(Format)}, found {text!r}")
    return Format(text)


def _refuse_targets(
    path: Path | None, vdi: str | None, pool: str | None, *, to_pipe: bool, as_json: bool, format: str | None
) -> None:
    if (path is None) == (vdi is None):
        raise NotThere("expected exactly one of --output and --vdi")
    if (vdi is None) != (pool is None):
        raise NotThere("--vdi and --pool go together")
    if to_pipe and as_json:
        raise NotThere("standard output cannot carry both the disk and JSON")
    if to_pipe and format not in (None, "raw"):
        raise NotThere(f"standard output takes a raw disk, not {format}", hint="write a file, then send that")
    if to_pipe and sys.stdout.isatty():
        raise NotThere("a disk does not belong on a terminal", hint="redirect standard output, or use --output FILE")


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
                }
                for disk in plan.disks
            ],
            "networks": [nic.network_name for nic in plan.nics],
            "start": plan.start,
            "warnings": plan.warnings,
        },
    )
    rows = [
        [disk.disk.userdevice or "", disk.disk.name_label, size_text(disk.disk.virtual_size), disk.sr_name]
        for disk in plan.disks
    ]
    output.table(f"{plan.name} on {pool}", ["device!", "disk", "size>!", "SR"], rows)
    for nic in plan.nics:
        output.say(f"NIC {nic.vif.get('device')}: {nic.network_name}")
    for warning in plan.warnings:
        output.note(f"warning: {warning}", style="yellow")


def _told(disk: PointDisk, written: Written, target: str, *, check: bool) -> str:
    name = disk.name_label or disk.live_vdi_uuid
    checked = _checked(written.compared, written.unchecked, check=check)
    return f"restored {name}, {size_text(written.size_bytes)}, to {target}; {checked}"


def _checked(compared: int, unchecked: int, *, check: bool) -> str:
    if not check:
        return "blocks were not compared with their digests"
    told = f"{compared} blocks compared with their digests"
    return told + (f", {unchecked} have none" if unchecked else "")
