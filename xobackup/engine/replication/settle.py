"""Bringing a replica to rest: after a run that published into it, and after one that did not.

What a run had begun is taken back to the replica's newest restore point; a replica that has none is removed, and so
is one with disks in qcow2 that were written to: reverted, nothing would prove any more what they hold. Works from
what is on the pool alone, so that a failed run, and the next start after a killed one, do the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.removal import destroy_vdi, remove_snapshot
from xobackup.engine.replication.marks import BLOCKED, REPLICA_TEXT, UNFINISHED_TEXT, at_rest
from xobackup.engine.replication.points import CLASSES, EXPIRED, Records, ReplicaPoint, find_points
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.errors import NotFound, OperatorProblem, OutOfSpace
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.xapi.session import Session


def unfinished_run(vm: dict[str, Any]) -> str:
    """The run that has not finished this replica; ``""`` for any other VM."""
    if vm.get("is_a_snapshot"):
        return ""
    run_id = (vm.get("other_config") or {}).get(keys.RUN, "")
    if run_id and (vm.get("blocked_operations") or {}).get("start") == UNFINISHED_TEXT:
        return str(run_id)
    return keys.whose_temporary(str(vm.get("name_label", "")))[1]


def take_back_all(session: Session, run_id: str) -> list[str]:
    """Bring every replica of a run that is over to rest; returns what was done, in words."""
    records = session.records("VM")
    refs = [ref for ref, vm in records.items() if unfinished_run(vm) == run_id]
    loose = [
        ref
        for ref, vdi in session.records("VDI").items()
        if (vdi.get("other_config") or {}).get(keys.RUN) == run_id and not vdi.get("is_a_snapshot")
    ]
    return take_back(session, run_id, refs=refs, disks=loose)


def take_back(session: Session, run_id: str, *, refs: Collection[str], disks: Collection[str]) -> list[str]:
    """Bring these replicas of a run to rest, and remove those of ``disks`` that belong to no VM afterwards."""
    records: Records = {cls: session.records(cls) for cls in CLASSES}
    done: list[str] = []
    for ref in refs:
        vm = records["VM"].get(ref, {})
        if unfinished_run(vm) == run_id and vm.get("power_state") == "Halted":
            with contextlib.suppress(NotFound):
                done.append(_take_back(session, ref, vm, run_id, records))
    for ref in disks:
        with contextlib.suppress(NotFound):
            vdi = session.record("VDI", ref)
            if (vdi.get("other_config") or {}).get(keys.RUN) == run_id and not _held(vdi, records):
                destroy_vdi(session, ref)
                done.append(f"disk {vdi.get('uuid')}, which belongs to no VM")
    return done


def _take_back(session: Session, ref: str, vm: dict[str, Any], run_id: str, records: Records) -> str:
    points = [point for point in find_points(records) if point.replica_ref == ref]
    for snapshot, record in records["VM"].items():
        of_run = record.get("snapshot_of") == ref and (record.get("other_config") or {}).get(keys.RUN) == run_id
        if record.get("is_a_snapshot") and of_run and snapshot not in {point.ref for point in points}:
            remove_snapshot(session, snapshot, vdis_of(session, snapshot))
    name = f"replica {vm.get('name_label')} ({vm.get('uuid')})"
    if not points:
        destroy_replica(session, ref)
        return f"{name}, which has no restore point yet"
    newest = points[0]
    if newest.run_id != run_id and _was_written(ref, run_id, newest, records):
        if any(disk.qcow2 for disk in newest.disks):
            destroy_replica(session, ref)
            return f"{name}, which the next run makes again from restore point {newest.id}"
        _revert(session, ref, newest, run_id)
        session.call("VM.set_name_label", ref, vm.get("name_label", ""))
    rest(session, ref, newest)
    return f"{name}, which is at restore point {newest.id} again"


def _revert(session: Session, ref: str, newest: ReplicaPoint, run_id: str) -> None:
    """Onto its newest restore point. On a full SR what the run wrote goes first: it is what fills it, and the restore
    points have disks of their own."""
    try:
        session.call_async("VM.revert", newest.ref)
    except OutOfSpace:
        for vdi_ref, vdi in vdis_of(session, ref).items():
            if vdi["other_config"].get(keys.RUN) == run_id:
                destroy_vdi(session, vdi_ref)
        with contextlib.suppress(OutOfSpace):  # then the next run makes a new replica from the restore point
            session.call_async("VM.revert", newest.ref)


def rest(session: Session, ref: str, point: ReplicaPoint) -> None:
    """Take a run's marks off a replica and its disks; its start stays blocked throughout."""
    for vdi_ref, vdi in vdis_of(session, ref).items():
        of = next((disk for disk in point.disks if disk.active_ref == vdi_ref), None)
        live = of.live_uuid if of else vdi["other_config"].get(keys.LIVE, "")
        session.call(
            "VDI.set_other_config", vdi_ref, at_rest(vdi["other_config"], sr_uuid=point.sr_uuid, live_uuid=live)
        )
    config = session.call("VM.get_other_config", ref)
    replica = config.get(keys.REPLICA, "")
    session.call("VM.set_other_config", ref, at_rest(config, sr_uuid=point.sr_uuid, replica=replica))
    block(session, ref, REPLICA_TEXT)


def block(session: Session, ref: str, text: str) -> None:
    """Block the start of a replica, for the reason ``text``. In one call: at no moment can it be started."""
    blocked = session.call("VM.get_blocked_operations", ref)
    session.call("VM.set_blocked_operations", ref, {**blocked, **dict.fromkeys(BLOCKED, text)})
    session.call("VM.update_allowed_operations", ref)


def expire(session: Session, ref: str, replica: str) -> None:
    """From now on this is no restore point any more, but the rest of one (``replica``: :data:`keys.REPLICA`). In one
    call: there is no moment at which it is neither."""
    config = session.call("VM.get_other_config", ref)
    session.call("VM.set_other_config", ref, {**config, keys.REPLICA: replica, keys.POINT: EXPIRED})


def ordinary(session: Session, ref: str) -> None:
    """Make a snapshot, or what was made of one, look like an ordinary VM; old licences refuse it."""
    with contextlib.suppress(OperatorProblem):
        session.call("VM.set_is_a_template", ref, False)


def destroy_replica(session: Session, ref: str) -> None:
    """A VM of ours with the disks that are its alone."""
    for vdi_ref, vdi in vdis_of(session, ref).items():
        if len(vdi.get("VBDs") or ()) <= 1 and not vdi.get("is_a_snapshot"):
            destroy_vdi(session, vdi_ref)
    session.call("VM.remove_from_blocked_operations", ref, "destroy")
    session.call_async("VM.destroy", ref)


def _was_written(ref: str, run_id: str, newest: ReplicaPoint, records: Records) -> bool:
    """Whether the run had begun to change any of its disks, or which they are."""
    refs = {str(vbd["VDI"]) for vbd in records["VBD"].values() if vbd.get("VM") == ref and vbd.get("type") == "Disk"}
    if refs != {disk.active_ref for disk in newest.disks}:
        return True
    return any((records["VDI"][vdi].get("other_config") or {}).get(keys.RUN) == run_id for vdi in refs)


def _held(vdi: dict[str, Any], records: Records) -> bool:
    """Whether it is attached to a VM that is no control domain."""
    for ref in vdi.get("VBDs") or ():
        vm = str(records["VBD"].get(ref, {}).get("VM"))
        if not is_null(vm) and not records["VM"].get(vm, {}).get("is_control_domain"):
            return True
    return False
