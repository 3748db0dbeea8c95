"""Onto what the next delta is written: by records first, then by asking the storage whether the replica is still what
its restore point is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xobackup.engine.replication.base import Onto, Way, way_by_records
from xobackup.engine.replication.probe import changed_blocks, tracked_changes
from xobackup.xapi.errors import NotFound
from xobackup.xapi.values import is_null, parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.replication.points import PointDisk, Records, ReplicaPoint
    from xobackup.engine.view import DiskView
    from xobackup.xapi.session import Session


def proven_way(
    session: Session,
    base: ReplicaPoint | None,
    points: Sequence[ReplicaPoint],
    records: Records,
    disks: Sequence[DiskView],
    *,
    run_id: str,
    cancel: CancelToken,
) -> Way:
    """``disks``: the VM's; ``base``: the restore point that their deltas continue. Raises what a pool raises."""
    known = {snapshot.vdi_uuid for disk in disks for snapshot in disk.snapshots}
    replica = records["VM"].get(base.replica_ref) if base is not None else None
    way = way_by_records(base, points, records, disks, started_s=_started_s(session, replica))
    if base is None or way.onto is not Onto.SAME:
        return way
    for disk in base.disks:
        if disk.content_key not in known:
            continue
        told = _differs(session, disk, run_id=run_id, cancel=cancel)
        if told:
            name = replica.get("name_label") if replica else ""
            return Way(onto=Onto.CLONE, reason=f"replica {name} stays as it is: {told}")
    return way


def _started_s(session: Session, replica: dict[str, Any] | None) -> float | None:
    if replica is None or is_null(replica.get("metrics")):
        return None
    try:
        started = parse_time(session.call("VM_metrics.get_start_time", replica["metrics"]))
    except NotFound:
        return None
    return started.timestamp() if started else None


def _differs(session: Session, disk: PointDisk, *, run_id: str, cancel: CancelToken) -> str:
    """Why a disk is not known to be as its restore point; ``""``: it is."""
    changed: int | None
    if disk.qcow2:
        found = tracked_changes(session, disk.active_ref, disk.ref)
        if isinstance(found, str):
            return f"nothing tells whether disk {disk.userdevice} was changed: {found}"
        changed = found
    else:
        changed = changed_blocks(session, disk.active_ref, disk.ref, run_id=run_id, cancel=cancel)
        if changed is None:
            return "the pool does not tell whether it was changed"
    return f"{changed} blocks of a disk were changed after its restore point" if changed else ""
