"""``xobackup restore disk``: one disk as a file, as a stream or into a VDI."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import AsOfOption, ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.cli.restore.options import CheckOption, FromOption, PointArgument, VmArgument, checked_text, found
from xobackup.texts import size_text

if TYPE_CHECKING:
    from xobackup.engine.restore.files import Format, Written
    from xobackup.engine.world import World
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository

DiskOption = Annotated[str, typer.Option("--disk", "-d", help="The disk: its device number, name or uuid.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file to write; - is standard output (raw).", allow_dash=True),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="raw, vhd or qcow2.", show_default="by the file's ending, else raw")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]
VdiOption = Annotated[
    str | None, typer.Option("--vdi", help="Instead of a file, overwrite this VDI (uuid) of --pool.")
]
PoolOption = Annotated[str | None, typer.Option("--pool", "-p", help="The pool that has the VDI.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("disk")(restore)


def restore(
    vm: VmArgument,
    remote: FromOption,
    disk: DiskOption,
    point: PointArgument = "latest",
    output_path: OutputOption = None,
    format: FormatOption = None,
    force: ForceOption = False,
    vdi: VdiOption = None,
    pool: PoolOption = None,
    check: CheckOption = True,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore one disk to a file, to standard output, or into an existing VDI that is attached nowhere."""
    from xobackup.cli.live import world_of
    from xobackup.engine.full.described import with_disks

    target = Target(path=output_path, vdi=vdi, pool=pool, format=format, force=force)
    target.refuse(as_json=as_json)
    output = Output(as_json=as_json)
    state = read_configuration(config).state_directory if vdi else Path()
    with (
        world_of(output, state) as world,
        found(config, remote, vm, point, as_of=as_of) as (repository, restore_point, _),
    ):
        whole = with_disks(repository, restore_point)
        chosen = _disk(whole, disk)
        written = _write(world, repository, whole, chosen, target, config=config, check=check)
    told = _told(chosen, written, target.name, check=check)
    if target.is_pipe:
        output.note(told)
        return
    record = {
        "target": target.name,
        "size_bytes": written.size_bytes,
        "blocks": written.blocks,
        "blocks_compared": written.compared,
        "blocks_without_digest": written.unchecked,
    }
    output.record("restored", record)
    output.say(told, style="green")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the disk goes: exactly one of a path (``-`` is a pipe) and a VDI of a pool."""

    path: Path | None
    vdi: str | None
    pool: str | None
    format: str | None
    force: bool

    @property
    def is_pipe(self) -> bool:
        """Whether the disk goes to standard output."""
        return self.path is not None and str(self.path) == "-"

    @property
    def name(self) -> str:
        """The target for a person."""
        if self.is_pipe:
            return "standard output"
        return str(self.path) if self.vdi is None else f"VDI {self.vdi}"

    def refuse(self, *, as_json: bool) -> None:
        """Raise when the options contradict each other, or the file exists already."""
        if (self.path is None) == (self.vdi is None):
            raise NotThere("expected exactly one of --output and --vdi")
        if (self.vdi is None) != (self.pool is None):
            raise NotThere("--vdi and --pool go together")
        if self.is_pipe:
            self._refuse_pipe(as_json=as_json)
        elif self.path is not None and self.path.exists() and not self.force:
            raise NotThere(f"{self.path}: it exists already", hint="give another name, or --force to replace it")

    def _refuse_pipe(self, *, as_json: bool) -> None:
        if as_json:
            raise NotThere("standard output cannot carry both the disk and JSON")
        if self.format not in (None, "raw"):
            raise NotThere(
                f"standard output takes a raw disk, not {self.format}", hint="write a file, then send that"
            )
        if sys.stdout.isatty():
            raise NotThere(
                "a disk does not belong on a terminal", hint="redirect standard output, or use --output FILE"
            )


def _write(
    world: World,
    repository: Repository,
    point: RestorePoint,
    disk: PointDisk,
    target: Target,
    *,
    config: Path | None,
    check: bool,
) -> Written:
    from xobackup.engine.restore.files import restore_to_file, restore_to_pipe

    if target.vdi is not None and target.pool is not None:
        return _write_vdi(world, repository, point, disk, target.vdi, target.pool, config=config, check=check)
    if target.is_pipe:
        try:
            return restore_to_pipe(world, repository, point, disk, sys.stdout.fileno(), check=check)
        except BrokenPipeError as error:
            raise Outcome(Exit.FAILED, "whoever read standard output went away before the disk was whole") from error
    assert target.path is not None
    kind = _format(target.path, target.format)
    return restore_to_file(
        world, repository, point, disk, target.path, format=kind, replace=target.force, check=check
    )


def _write_vdi(
    world: World,
    repository: Repository,
    point: RestorePoint,
    disk: PointDisk,
    vdi: str,
    pool: str,
    *,
    config: Path | None,
    check: bool,
) -> Written:
    from xobackup.cli.jobs import pool_address
    from xobackup.engine.restore.vdi import restore_to_vdi

    address = pool_address(read_configuration(config), pool)
    with contextlib.closing(world.connect(address)) as session:
        return restore_to_vdi(world, session, repository, point, disk, vdi_uuid=vdi, check=check)


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
    from xobackup.engine.restore.files import Format

    text = given or {".vhd": "vhd", ".qcow2": "qcow2"}.get(path.suffix.lower(), "raw")
    if text not in tuple(Format):
        raise NotThere(f"--format: expected {', '.join(Format)}, found {text!r}")
    return Format(text)


def _told(disk: PointDisk, written: Written, target: str, *, check: bool) -> str:
    name = disk.name_label or disk.live_vdi_uuid
    checked = checked_text(written.compared, written.unchecked, check=check)
    return f"restored {name}, {size_text(written.size_bytes)}, to {target}; {checked}"
