"""From which restore point of a replica its next delta continues, and onto what it is written. Pure, with reasons."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from xobackup.engine.base import RemoteTip
from xobackup.engine.replication.points import PointDisk, Records, ReplicaPoint
from xobackup.engine.replication.seed import seed_of
from xobackup.engine.view import DiskView
from xobackup.xapi.image_format import VHD_MAX_BYTES

UNPROVEN = (
    "the replica's disk is qcow2 and its changes are not tracked: nothing proves that it is still its restore point"
)


class Onto(StrEnum):
    """What a run writes to."""

    NEW = "new"
    """A VM that is created."""
    SAME = "same"
    """The replica as it is: it holds what its newest restore point does."""
    CLONE = "clone"
    """A new VM whose disks are clones of the restore point's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The decision. ``reason``: why it is not the replica as it is."""

    onto: Onto
    reason: str = ""


def base_point(points: Sequence[ReplicaPoint], disks: Iterable[DiskView]) -> ReplicaPoint | None:
    """The newest restore point (``points``: newest first) from which a delta of any of ``disks`` can continue; the
    newest at all when there is none."""
    known = {snapshot.vdi_uuid for disk in disks for snapshot in disk.snapshots}
    usable = [point for point in points if point.usable]
    for point in usable:
        if any(disk.content_key in known for disk in point.disks):
            return point
    return next(iter(usable), None)


def tips(
    points: Sequence[ReplicaPoint],
    disks: Iterable[DiskView],
    records: Records,
    *,
    srs: Collection[str],
    disk_srs: Mapping[str, str] | None = None,
) -> dict[str, RemoteTip]:
    """What the replica has of each disk, by live uuid: the content key stands for the snapshot it continues from.

    ``records``: of the replica's pool, which may have what a copy that comes home was made of (:mod:`.seed`), on the
    SR where that disk is to be (``disk_srs``) or else any of ``srs``.
    """
    known = list(disks)
    base = base_point(points, known)
    found: dict[str, RemoteTip] = {}
    for disk in known:
        of = disk_of(base, disk)
        own = (disk_srs or {}).get(disk.vdi_uuid)
        seed = seed_of(disk.kin, records, srs=[own] if own else srs)
        continues = of is not None and any(one.vdi_uuid == of.content_key for one in disk.snapshots)
        if seed is not None and not continues:
            found[disk.vdi_uuid] = RemoteTip(
                snapshot_uuid=seed.kin.vdi_uuid,
                virtual_size_bytes=seed.virtual_size_bytes,
                size_max_bytes=VHD_MAX_BYTES,
                problem=seed.problem,
                known=True,
            )
        elif of is None:
            earlier = any(disk_of(point, disk) is not None for point in points)
            found[disk.vdi_uuid] = RemoteTip(known=earlier)
        elif of.sr_uuid not in srs:
            found[disk.vdi_uuid] = RemoteTip(known=True, problem=f"the replica's disk is on SR {of.sr_uuid} now")
        elif of.qcow2 and of.active_ref and not of.tracked:
            found[disk.vdi_uuid] = RemoteTip(known=True, problem=UNPROVEN)
        else:
            most = None if of.qcow2 else VHD_MAX_BYTES
            found[disk.vdi_uuid] = RemoteTip(snapshot_uuid=of.content_key, known=True, size_max_bytes=most)
    return found


def disk_of(point: ReplicaPoint | None, disk: DiskView) -> PointDisk | None:
    """The restore point's disk that a delta of ``disk`` continues, or at least one of it."""
    if point is None:
        return None
    uuids = {snapshot.vdi_uuid for snapshot in disk.snapshots}
    for one in point.disks:
        if one.content_key and one.content_key in uuids:
            return one
    return next((one for one in point.disks if one.content_key and one.live_uuid == disk.vdi_uuid), None)


def doubt(points: Sequence[ReplicaPoint], records: Records, disks: Sequence[DiskView]) -> str:
    """Why the next delta would go into a new replica, as far as a look tells; ``""``: nothing speaks against it."""
    base = base_point(points, disks)
    return way_by_records(base, points, records, disks, started_s=None).reason


def way_by_records(
    base: ReplicaPoint | None,
    points: Sequence[ReplicaPoint],
    records: Records,
    disks: Iterable[DiskView],
    *,
    started_s: float | None,
) -> Way:
    """:func:`way_to`, from a pool's records."""
    replica = base.replica_ref if base is not None else ""
    return way_to(
        base,
        points,
        records["VM"].get(replica),
        needed={snapshot.vdi_uuid for disk in disks for snapshot in disk.snapshots},
        attached={str(vbd["VDI"]) for vbd in records["VBD"].values() if replica and vbd.get("VM") == replica},
        started_s=started_s,
    )


def way_to(
    base: ReplicaPoint | None,
    points: Sequence[ReplicaPoint],
    replica: Mapping[str, Any] | None,
    *,
    needed: Collection[str],
    attached: Collection[str],
    started_s: float | None,
) -> Way:
    """Onto what to write, as far as records tell. ``needed``: content keys of the bases; ``attached``: the replica's
    disks (references); ``started_s``: when it was last started."""
    if base is None:
        return Way(onto=Onto.NEW)
    if replica is None:
        return Way(onto=Onto.CLONE, reason="the replica itself is gone; its restore points are not")

    def clone(reason: str) -> Way:
        return Way(onto=Onto.CLONE, reason=f"replica {replica.get('name_label')} stays as it is: {reason}")

    state = replica.get("power_state")
    if state != "Halted":
        return clone(f"it is {str(state).lower()}")
    if "start" not in (replica.get("blocked_operations") or {}):
        return clone("somebody allowed its start")
    if started_s is not None and started_s > base.taken_s:
        return clone("it was started after its newest restore point")
    newest = next((point for point in points if point.replica_ref == base.replica_ref), base)
    if newest.ref != base.ref:
        return clone(f"it holds restore point {newest.id}, the delta continues {base.id}")
    for disk in base.disks:
        if disk.content_key in needed and disk.active_ref not in attached:
            return clone("one of its disks was replaced")
    return Way(onto=Onto.SAME)
