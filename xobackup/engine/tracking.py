"""Changed block tracking of a VM's disks, looked at in every run and switched on again where it is off.

Right before the snapshot: the log belongs to the live disk and goes to the next snapshot, so what is switched on now
makes the delta *after* this one exact. A host crash, a storage migration or a failed resize switch tracking off
without a word to anybody but the pool's messages; there the reason is looked for. Failing here costs speed, never a
backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.reading.ladder import CbtUse, Terms
from xobackup.engine.view import DiskView, VmView
from xobackup.xapi.cbt import enable
from xobackup.xapi.errors import XapiError
from xobackup.xapi.records import SmRecord, VdiRecord
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.plan import VmPlan
    from xobackup.xapi.session import Session

EPOCH = "19700101T00:00:00Z"
MESSAGES = ("VDI_CBT_METADATA_INCONSISTENT", "VDI_CBT_SNAPSHOT_FAILED", "VDI_CBT_RESIZE_FAILED")


def wanted(terms: Terms, disks: Iterable[DiskView]) -> list[DiskView]:
    """Disks to switch tracking on for: pure. Without NBD it would be of no use."""
    if terms.cbt is not CbtUse.AUTO or terms.nbd_refusal:
        return []
    return [disk for disk in disks if disk.cbt is False]


def was_tracked(disk: DiskView, job_id: str) -> bool:
    """Whether the job's newest snapshot of the disk was taken while changes were tracked."""
    ours = [snapshot for snapshot in disk.snapshots if snapshot.job_id == job_id]
    return bool(ours) and ours[0].cbt


def track_changes(
    context: RunContext, vm: VmView, plan: VmPlan, warn: Callable[[str], None], remarks: list[str]
) -> None:
    """Switch tracking on for the disks of ``plan`` that want it; ``remarks`` gets what the report should tell."""
    session, sms = context.session, dict[str, SmRecord]()
    for disk in wanted(context.means.terms, [one.disk for one in plan.disks if one.routes]):
        name, lost = disk.name or disk.vdi_uuid, ""
        try:
            if was_tracked(disk, context.job.id):
                lost = _reason(session, disk.vdi_uuid)
            sms = sms or _managers(session)
            live = VdiRecord.parse(disk.vdi_ref, session.record("VDI", disk.vdi_ref))
            refusal = enable(session, live, _manager_of(session, live, sms))
        except XapiError as error:
            warn(f"disk {name}: changed block tracking could not be switched on: {error}")
            continue
        if refusal is None:
            event = events.CbtSwitchedOn(vm=vm.uuid, disk=disk.vdi_uuid, disk_name=disk.name, lost=lost)
            context.world.journal.write(event)
            if lost:
                remarks.append(f"changed block tracking of {name} was lost and is on again: {lost}")
        elif lost:
            warn(f"disk {name}: changed block tracking was lost ({lost}) and cannot be switched on again: {refusal}")


def _reason(session: Session, vdi_uuid: str) -> str:
    """What the pool's messages say about a lost log, as a sentence."""
    found = session.call("message.get", "VDI", vdi_uuid, EPOCH)
    messages = [one for one in found.values() if isinstance(one, dict)] if isinstance(found, dict) else []
    told = [f"{one['name']} of {one.get('timestamp')}" for one in messages if one.get("name") in MESSAGES]
    return f"the pool says {max(told, key=lambda text: text.split()[-1])}" if told else "the pool does not say why"


def _managers(session: Session) -> dict[str, SmRecord]:
    """The storage drivers by the type of SR they are for."""
    parsed = [SmRecord.parse(ref, raw) for ref, raw in session.records("SM").items()]
    return {record.type: record for record in parsed}


def _manager_of(session: Session, vdi: VdiRecord, sms: dict[str, SmRecord]) -> SmRecord | None:
    if is_null(vdi.sr):
        return None
    return sms.get(str(session.call("SR.get_type", vdi.sr)))
