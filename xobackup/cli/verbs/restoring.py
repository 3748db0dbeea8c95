"""A restore point as a new VM: planned with what survives on the pool and with the room there is."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xobackup.config.model import Configuration
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.restore.differential import Differential
    from xobackup.engine.restore.plan import DiskRestore, RestorePlan, VmRequest
    from xobackup.engine.restore.vm import Restored
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to restore to where. ``vm`` and ``point`` as a person names them."""

    remote: RemoteTarget
    vm: str
    point: str
    pool: str
    request: VmRequest
    how: Differential


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is written to an SR at most, and what it has free. ``free_bytes``: ``None`` when it does not tell."""

    sr: str
    needed_bytes: int
    free_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what is open to carry it out."""

    session: Session
    repository: Repository
    plan: RestorePlan
    room: tuple[Room, ...]


@contextlib.contextmanager
def planned(world: World, configuration: Configuration, wanted: Wanted) -> Iterator[Planned]:
    """Plan it. While inside, :func:`xobackup.engine.restore.vm.restore_vm` can carry it out."""
    from xobackup.cli import repositories
    from xobackup.cli.examined import noting_damage
    from xobackup.cli.jobs import pool_address
    from xobackup.engine.full.described import with_disks
    from xobackup.engine.restore.differential import with_bases
    from xobackup.engine.restore.vm import plan_restore

    address = pool_address(configuration, wanted.pool)
    with (
        repositories.opened(wanted.remote) as repository,
        contextlib.closing(world.connect(address)) as session,
    ):
        vm = repositories.find_vm(repository, wanted.vm)
        point = repositories.find_point(repository, vm, wanted.point)
        whole = with_disks(repository, point)
        plan = plan_restore(world, session, whole, wanted.request, remote=wanted.remote.name)
        plan = with_bases(session, repository, plan, repository.points(point.vm_uuid).points, wanted.how)
        room = room_of(plan, session.records("SR"))
        told = tuple(
            f"SR {one.sr}: {one.needed_bytes >> 20} MiB are written at most, and {one.free_bytes >> 20} MiB are free"
            for one in room
            if one.free_bytes is not None and one.free_bytes < one.needed_bytes
        )
        plan = replace(plan, warnings=(*plan.warnings, *told))
        then = wanted.remote.storage.as_of_s is not None
        with noting_damage(None if then else configuration, point, wanted.remote.name):
            yield Planned(session=session, repository=repository, plan=plan, room=room)


def room_of(plan: RestorePlan, srs: Mapping[str, Mapping[str, Any]]) -> tuple[Room, ...]:
    """SR by SR. Pure."""
    needed: Counter[str] = Counter()
    names: dict[str, str] = {}
    for disk in plan.filled:
        needed[disk.sr_ref] += write_bytes_max(disk)
        names[disk.sr_ref] = disk.sr_name
    return tuple(
        Room(sr=names[ref], needed_bytes=size, free_bytes=free_bytes(srs.get(ref, {})))
        for ref, size in needed.items()
    )


def write_bytes_max(disk: DiskRestore) -> int:
    """Zeros are not written, so it is often much less."""
    return disk.base.write_bytes if disk.base else disk.disk.virtual_size


def free_bytes(sr: Mapping[str, Any]) -> int | None:
    """Of an SR; ``None`` when it does not tell."""
    try:
        size, used = int(sr["physical_size"]), int(sr["physical_utilisation"])
    except (KeyError, TypeError, ValueError):
        return None
    return max(0, size - used) if size > 0 else None


def plan_data(made: Planned, pool: str) -> dict[str, Any]:
    """What would be created, as JSON data."""
    plan = made.plan
    return {
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
                "write_bytes_max": write_bytes_max(disk),
                "full_reason": disk.full_reason,
            }
            for disk in plan.disks
        ],
        "memory": plan.memory is not None,
        "networks": [nic.network_name for nic in plan.nics],
        "start": plan.start,
        "space": [
            {"sr": one.sr, "needed_bytes": one.needed_bytes, "free_bytes": one.free_bytes} for one in made.room
        ],
        "warnings": list(plan.warnings),
    }


def differences(shown: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a plan says now that it did not say when somebody agreed to it; free space moves all the time."""
    found = [
        f"{key}: {shown.get(key)} was shown, {now[key]} is so now"
        for key in ("point", "name", "pool", "memory", "networks", "start")
        if shown.get(key) != now[key]
    ]
    before = {str(disk.get("device")): disk for disk in shown.get("disks", ())}
    for disk in now["disks"]:
        was = before.pop(str(disk["device"]), {})
        changed = [key for key in ("sr", "base", "virtual_size_bytes") if was.get(key) != disk[key]]
        found += [f"disk {disk['name']}: {key} {was.get(key)} was shown, {disk[key]} is so now" for key in changed]
    return found + [f"disk {disk.get('name')}: it is left out now" for disk in before.values()]


def restored_data(restored: Restored) -> dict[str, Any]:
    """What was created, as JSON data."""
    return {
        "vm": restored.vm_uuid,
        "name": restored.name,
        "disks": restored.disks,
        "size_bytes": restored.size_bytes,
        "blocks_compared": restored.compared,
        "blocks_without_digest": restored.unchecked,
        "archive": restored.archive,
        "started": restored.started,
        "suspended": restored.suspended,
        "warnings": list(restored.warnings),
    }
