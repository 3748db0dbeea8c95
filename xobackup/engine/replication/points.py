"""Which restore points of replicas a pool has, read from its records. Pure.

A restore point of ours names itself (:data:`keys.POINT`), so that neither a clone of it nor a snapshot of that clone
is taken for one. One that Xen Orchestra made does not; it counts when it is a snapshot of a VM whose start is
blocked, which no copy inherits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xobackup.engine import keys
from xobackup.engine.replication.marks import UNFINISHED_TEXT, point_id, timestamp_ms
from xobackup.xapi.image_format import ImageFormat, image_format_of
from xobackup.xapi.values import is_null, parse_time

Records = Mapping[str, Mapping[str, dict[str, Any]]]
"""By class and reference: ``VM``, ``VBD``, ``VDI`` and ``SR`` of a pool."""
EXPIRED = "expired"
"""What :data:`keys.POINT` says of a restore point that is being removed."""
CLASSES = ("VM", "VBD", "VDI", "SR")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDisk:
    """A disk of a restore point. ``active_ref``: the replica's own disk that it is a snapshot of."""

    ref: str
    uuid: str
    content_key: str
    """uuid of the snapshot whose content it has."""
    live_uuid: str
    """Of the disk it is of; ``""``: not noted."""
    userdevice: str
    virtual_size_bytes: int
    used_bytes: int
    sr_uuid: str
    active_ref: str
    usable: bool
    qcow2: bool = False
    tracked: bool = False
    """Changed block tracking tells what was written to the replica's own disk since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPoint:
    """A restore point: a snapshot of a replica."""

    ref: str
    uuid: str
    name: str
    id: str
    timestamp_ms: int
    job_id: str
    schedule_id: str
    vm_uuid: str
    """Of the VM it is of."""
    sr_uuid: str
    replica_ref: str
    """The replica; ``""`` when it is gone."""
    taken_s: float
    """When the snapshot was taken, by the pool's clock."""
    run_id: str
    by_xo: bool
    disks: tuple[PointDisk, ...]

    @property
    def usable(self) -> bool:
        return all(disk.usable for disk in self.disks)


def find_points(
    records: Records, *, job_id: str = "", vm_uuid: str = "", srs: Collection[str] = (), whole: bool = False
) -> list[ReplicaPoint]:
    """Restore points, newest first; of that job, VM and those SRs (uuids) where they are given. ``whole``: those of
    full replication, which are VMs of their own, as long as nobody may start them."""
    disks_of: dict[str, list[dict[str, Any]]] = {}
    for vbd in records["VBD"].values():
        if vbd.get("type") == "Disk" and not is_null(vbd.get("VDI")):
            disks_of.setdefault(str(vbd.get("VM")), []).append(vbd)
    found: list[ReplicaPoint] = []
    for ref, vm in records["VM"].items():
        config = vm.get("other_config") or {}
        if bool(vm.get("is_a_snapshot")) is whole or not config.get(keys.VM):
            continue
        if keys.COPY_OF not in config and not whole:
            continue
        if job_id not in ("", config.get(keys.JOB)) or vm_uuid not in ("", config[keys.VM]):
            continue
        if (srs and config.get(keys.SR) not in srs) or not timestamp_ms(config.get(keys.DATETIME, "")):
            continue
        if _counts(vm, config, records["VM"], whole=whole):
            found.append(_point(ref, vm, config, records, disks_of.get(ref, [])))
    return sorted(found, key=lambda point: (point.timestamp_ms, point.uuid), reverse=True)


def expired(vms: Mapping[str, Mapping[str, Any]], replica: str, *, whole: bool = False) -> list[str]:
    """Restore points (references) of a replica (:data:`keys.REPLICA`) whose removal was begun."""
    found: list[str] = []
    for ref, vm in vms.items():
        config = vm.get("other_config") or {}
        if bool(vm.get("is_a_snapshot")) is whole:
            continue
        if config.get(keys.POINT) == EXPIRED and config.get(keys.REPLICA) == replica:
            found.append(ref)
    return found


def published_unfinished(vms: Mapping[str, Mapping[str, Any]], replica: str) -> list[str]:
    """Restore points (references) of full replication that count, and whose start is still blocked as if they were
    not finished: the last word of their run is missing."""
    found: list[str] = []
    for ref, vm in vms.items():
        config, blocked = vm.get("other_config") or {}, vm.get("blocked_operations") or {}
        own = config.get(keys.POINT) == vm.get("uuid") and config.get(keys.REPLICA) == replica
        if own and not vm.get("is_a_snapshot") and blocked.get("start") == UNFINISHED_TEXT:
            found.append(ref)
    return found


def _counts(vm: Mapping[str, Any], config: Mapping[str, str], vms: Mapping[str, Any], *, whole: bool) -> bool:
    if whole and "start" not in (vm.get("blocked_operations") or {}):
        return False  # somebody's by now
    if keys.REPLICA in config or keys.POINT in config:
        return config.get(keys.POINT) == vm.get("uuid")
    replica = vm if whole else vms.get(str(vm.get("snapshot_of")), {})
    blocked = (replica.get("blocked_operations") or {}).get("start")
    if whole and (blocked == UNFINISHED_TEXT or keys.SR not in config):
        return False  # an archive brings the marks of the snapshot that it was made of
    return blocked is not None


def _point(
    ref: str, vm: Mapping[str, Any], config: Mapping[str, str], records: Records, vbds: list[dict[str, Any]]
) -> ReplicaPoint:
    taken = parse_time(vm.get("snapshot_time"))
    of = str(vm.get("snapshot_of"))
    return ReplicaPoint(
        ref=ref,
        uuid=str(vm.get("uuid")),
        name=str(vm.get("name_label", "")),
        id=point_id(config[keys.DATETIME]),
        timestamp_ms=timestamp_ms(config[keys.DATETIME]),
        job_id=config.get(keys.JOB, ""),
        schedule_id=config.get(keys.SCHEDULE, ""),
        vm_uuid=config[keys.VM],
        sr_uuid=config.get(keys.SR, ""),
        replica_ref=of if of in records["VM"] else "",
        taken_s=taken.timestamp() if taken else 0.0,
        run_id=config.get(keys.RUN, ""),
        by_xo=keys.POINT not in config,
        disks=tuple(_disks(vbds, records)),
    )


def _disks(vbds: list[dict[str, Any]], records: Records) -> Iterator[PointDisk]:
    for vbd in sorted(vbds, key=lambda one: (len(str(one.get("userdevice"))), str(one.get("userdevice")))):
        ref = str(vbd["VDI"])
        vdi = records["VDI"].get(ref, {})
        config = vdi.get("other_config") or {}
        of = str(vdi.get("snapshot_of"))
        active = records["VDI"].get(of, {})
        yield PointDisk(
            ref=ref,
            uuid=str(vdi.get("uuid", "")),
            content_key=config.get(keys.CONTENT_KEY, ""),
            live_uuid=config.get(keys.LIVE, ""),
            userdevice=str(vbd.get("userdevice", "")),
            virtual_size_bytes=int(vdi.get("virtual_size") or 0),
            used_bytes=int(vdi.get("physical_utilisation") or 0),
            sr_uuid=str(records["SR"].get(str(vdi.get("SR")), {}).get("uuid", "")),
            active_ref=of if of in records["VDI"] else "",
            usable=bool(vdi) and bool(vdi.get("managed", True)) and not vdi.get("missing"),
            qcow2=image_format_of(vdi, active) is ImageFormat.QCOW2,
            tracked=bool(vdi.get("cbt_enabled")) and bool(active.get("cbt_enabled")),
        )
