"""``xobackup backups``: what is there to restore, and deleting restore points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from xobackup.cli import groups, past, restore_tests
from xobackup.cli.options import (
    LOCK_WAIT_S,
    AsOfOption,
    ConfigOption,
    JsonOption,
    RemoteOption,
    VmOption,
    read_configuration,
)
from xobackup.cli.output import Output
from xobackup.cli.problems import tell_problems
from xobackup.texts import duration_text, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.repository.findings import Problem
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.pins import Pin

app = typer.Typer(no_args_is_help=True, help="List, show, delete and bring back restore points.")
past.register(app)

VmArgument = Annotated[str, typer.Argument(metavar="VM", help="A VM: its uuid or its name.")]


@app.command("list")
def list_(
    remote: RemoteOption = None,
    vm: VmOption = None,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The VMs that have backups, on one remote or on all configured ones."""
    from xobackup.cli import repositories

    output = Output(as_json=as_json)
    problems: list[Problem] = []
    state = restore_tests.state_directory(config)
    for name, repository, vms in repositories.each(config, remote, vm, as_of=as_of):
        listings = [(uuid, repository.points(uuid)) for uuid in vms]
        if as_of is not None:  # a directory of another time
            listings = [(uuid, listing) for uuid, listing in listings if listing.points]
        problems.extend(problem for _, listing in listings for problem in listing.problems)
        listings.sort(key=lambda one: (one[1].points[-1].vm_name if one[1].points else "", one[0]))
        last = {
            uuid: restore_tests.last_of(
                (point.id for point in listing.points), restore_tests.tests(state, uuid, name)
            )
            for uuid, listing in listings
        }
        for uuid, listing in listings:
            output.record("vm", {**_vm_data(name, uuid, listing.points), "last_test": last[uuid]})
        if listings:
            rows = [[*_vm_row(uuid, listing.points), restore_tests.mark(last[uuid])] for uuid, listing in listings]
            columns = ["VM", "points>!", "oldest!", "newest!", "size>!", "booted!"]
            shown = len(columns) if any(last.values()) else len(columns) - 1
            output.table(f"on {name}", columns[:shown], [row[:shown] for row in rows])
        else:
            output.say(f"no backups on {name}")
    tell_problems(output, problems)


@app.command()
def show(
    vm: VmArgument,
    remote: RemoteOption = None,
    as_of: AsOfOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The restore points of one VM and their disks."""
    from xobackup.cli import repositories
    from xobackup.engine.full.described import with_disks_if_readable
    from xobackup.repository.protection import until_text

    output = Output(as_json=as_json)
    problems: list[Problem] = []
    for name, repository, (uuid,) in repositories.each(config, remote, vm, as_of=as_of):
        listing = repository.points(uuid)
        problems.extend(listing.problems)
        title = f"{listing.points[-1].vm_name if listing.points else vm} ({uuid}) on {name}"
        points = [with_disks_if_readable(repository, point) for point in listing.points]
        rows = [row for point in points for row in _point_rows(point)]
        columns = ["restore point!", "mode!", "disk!", "name", "virtual size>!", "stored>!"]
        output.table(title, columns, rows)
        for line in groups.point_lines(repository, points):
            output.say(line)
        _tell_check(output, name, uuid, config)
        known = restore_tests.tests(restore_tests.state_directory(config), uuid, name)
        for pinned, one in sorted(repository.pins(uuid).items()):
            note = f": {one.note}" if one.note else ""
            output.record(
                "pin", {"remote": name, "vm": uuid, "point": pinned, "note": one.note, "until_s": one.until_s}
            )
            output.say(f"{pinned} is pinned{note}{'' if one.until_s is None else f', {until_text(one.until_s)}'}")
        for point in points:
            output.record("restore-point", {**_point_data(name, point), "last_test": known.get(point.id)})
            if point.id in known:
                output.say(restore_tests.line(point.id, known[point.id]))
    tell_problems(output, problems)


def _tell_check(output: Output, remote: str, uuid: str, config: Path | None) -> None:
    """The last restore test of the VM, if this machine knows of one."""
    from xobackup.config.errors import ConfigError
    from xobackup.engine.health.memory import last_checks

    try:
        found = last_checks(read_configuration(config).state_directory).get(uuid)
    except (ConfigError, OSError):
        return  # a remote given by its URL needs no configuration
    if found is None or found.get("remote") != remote:
        return
    output.record("health-check", found)
    when = f"{found.get('started_at', '')} of {found.get('point', '')}"
    if found.get("ok"):
        output.say(f"last health check {when}: up in {duration_text(float(found.get('rto_s', 0)))}", style="green")
    else:
        output.say(f"last health check {when}: FAILED: {found.get('reason', '')}", style="red")


@app.command()
def delete(
    vm: VmArgument,
    points: Annotated[list[str], typer.Argument(metavar="POINT...", help="Restore points, as `show` names them.")],
    remote: Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it only say what would be deleted.")] = False,
) -> None:
    """Delete restore points. Their blocks that later points need are merged at the next run or `merge`."""
    from xobackup.cli import repositories

    output = Output(as_json=as_json)
    (target,) = repositories.remote_targets(config, remote)
    with repositories.opened(target) as repository:
        uuid = repositories.find_vm(repository, vm)
        chosen = [repositories.find_point(repository, uuid, point).id for point in points]
        if not yes:
            for point in chosen:
                output.record("would-delete", {"vm": uuid, "point": point})
                output.say(f"would delete {point} of {vm}")
            output.say("nothing was deleted; add --yes to do it")
            return
        with repository.lock(uuid, timeout_s=LOCK_WAIT_S, purpose="backups delete") as directory:
            deleted = directory.delete_points(chosen)
    for point in deleted:
        output.record("deleted", {"vm": uuid, "point": point})
        output.say(f"deleted {point} of {vm}")


PointsArgument = Annotated[
    list[str], typer.Argument(metavar="POINT...", help="Restore points, as `show` names them.")
]
OneRemoteOption = Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")]


@app.command()
def pin(
    vm: VmArgument,
    points: PointsArgument,
    remote: OneRemoteOption,
    note: Annotated[str, typer.Option("--note", help="Why; shown wherever the pin matters.")] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="Until then: 2027-01-31 (UTC); for ever when absent.")
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep restore points whatever retention says, until they are unpinned or a day has come."""
    from xobackup.cli import repositories
    from xobackup.repository.pins import Pin

    until_s = repositories.moment_s(until, "--until") if until else None
    _pin(Output(as_json=as_json), config, remote, vm, points, Pin(note=note, until_s=until_s))


@app.command()
def unpin(
    vm: VmArgument,
    points: PointsArgument,
    remote: OneRemoteOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let retention decide again. What is due by then goes when the next run has published."""
    _pin(Output(as_json=as_json), config, remote, vm, points, None)


def _pin(output: Output, config: Path | None, remote: str, vm: str, points: list[str], pin: Pin | None) -> None:
    from xobackup.cli import repositories
    from xobackup.cli.verbs.pinning import pin_points

    (target,) = repositories.remote_targets(config, remote)
    uuid, changed = pin_points(target, vm, points, pin)
    for point in changed:
        output.record("pin", {"vm": uuid, "point": point, "pinned": pin is not None})
        output.say(f"{point} of {vm}: {'pinned' if pin else 'not pinned'}")


def _vm_row(uuid: str, points: tuple[RestorePoint, ...]) -> list[str]:
    if not points:
        return [uuid, "0", "", "", ""]
    return [
        points[-1].vm_name or uuid,
        str(len(points)),
        points[0].id,
        points[-1].id,
        size_text(sum(point.size for point in points)),
    ]


def _vm_data(remote: str, uuid: str, points: tuple[RestorePoint, ...]) -> dict[str, Any]:
    return {
        "remote": remote,
        "uuid": uuid,
        "name": points[-1].vm_name if points else None,
        "points": len(points),
        "oldest_ms": points[0].timestamp_ms if points else None,
        "newest_ms": points[-1].timestamp_ms if points else None,
        "size_bytes": sum(point.size for point in points),
    }


def _point_rows(point: RestorePoint) -> list[list[str]]:
    stored = size_text(point.size)
    if not point.disks:
        return [[point.id, point.mode if point.xva is None else "full (XVA)", "", "", "", stored]]
    rows = []
    for number, disk in enumerate(sorted(point.disks, key=by_device)):
        mode = "delta" if disk.differencing else "full" if point.xva is None else "full (XVA)"
        first = [point.id, mode] if number == 0 else ["", mode]
        rows.append(
            [
                *first,
                disk.userdevice or "",
                disk.name_label,
                size_text(disk.virtual_size),
                stored if not number else "",
            ]
        )
    return rows


def by_device(disk: PointDisk) -> tuple[int, str]:
    """Device numbers in order, ``10`` after ``9``."""
    text = disk.userdevice or ""
    return (int(text) if text.isdecimal() else 1 << 16, text)


def _point_data(remote: str, point: RestorePoint) -> dict[str, Any]:
    return {
        "remote": remote,
        "vm": point.vm_uuid,
        "id": point.id,
        "timestamp_ms": point.timestamp_ms,
        "mode": point.mode,
        "job_id": point.job_id,
        "size_bytes": point.size,
        "group": point.group or None,
        "group_vms": list(point.group_vms),
        "disks": [
            {
                "vdi_uuid": disk.vdi_uuid,
                "live_vdi_uuid": disk.live_vdi_uuid,
                "device": disk.userdevice,
                "name": disk.name_label,
                "virtual_size_bytes": disk.virtual_size,
                "delta": disk.differencing,
                "path": disk.path or point.xva,
            }
            for disk in point.disks
        ],
    }
