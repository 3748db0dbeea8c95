"""What earlier runs of a job left of a VM, cleaned while its locks are held.

We hold the lock of that VM's directory in every remote of the job, which the run that made it held too: so it is
over, and the remotes tell what it published. What can be told without the locks was cleaned when the pool was opened
(:mod:`xobackup.engine.leftovers`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from xobackup.engine import events, keys
from xobackup.engine.removal import detach_from_control_domains, remove_snapshot
from xobackup.engine.taking.marks import write_marks
from xobackup.engine.taking.migration import unblock_migration
from xobackup.engine.taking.owed import mark_of, settle
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.errors import NotFound

if TYPE_CHECKING:
    from xobackup.engine.journal import Sink
    from xobackup.xapi.session import Session


def clean_locked(
    session: Session,
    vm_ref: str,
    vm_uuid: str,
    *,
    job_id: str,
    run_id: str,
    published: Mapping[str, Collection[str]],
    journal: Sink,
    kept: str = "",
) -> bool:
    """Remove what any earlier run of this job left of a VM; returns whether there was anything. ``run_id``: ours.

    ``kept``: the snapshot (ref) that this very run took in an attempt before and goes on from.
    Only while holding all the VM's locks. ``published``: snapshot disks (uuid) that are the newest of a chain on
    remotes (names). A snapshot among them whose mark is missing (the run was interrupted between publishing and
    marking) gets it now: it is a good base.
    """
    found = _unblock(session, vm_ref, vm_uuid, job_id, journal)
    found |= _settle(session, vm_ref, vm_uuid, journal, job_id=job_id, ours=run_id)
    for ref, record in _snapshots(session, vm_ref):
        config = record.get("other_config", {})
        if ref == kept:
            continue
        if keys.is_temporary(str(record["name_label"]), job_id=job_id):
            found = True
            _remove(session, ref)
            _tell(journal, vm_uuid, f"snapshot {record['uuid']}", "a run was interrupted while taking it")
            continue
        ours = config.get(keys.JOB) == job_id and config.get(keys.VM) == vm_uuid and keys.RUN in config
        if not ours or "true" in (config.get(keys.EXPORTED), config.get(keys.KEPT)):
            continue
        found = True
        vdis = vdis_of(session, ref)
        known = {vdi_ref: vdi for vdi_ref, vdi in vdis.items() if vdi["uuid"] in published}
        if known:
            _mark_late(session, ref, known, {name for vdi in known.values() for name in published[str(vdi["uuid"])]})
            _tell(journal, vm_uuid, f"mark of snapshot {record['uuid']}", "it was published, but not marked so")
        else:
            _remove(session, ref)
            _tell(journal, vm_uuid, f"snapshot {record['uuid']}", "its export was never completed")
    return found


def _settle(session: Session, vm_ref: str, vm_uuid: str, journal: Sink, *, job_id: str, ours: str) -> bool:
    """Start a VM that another run of the job had shut down; returns whether it was owed anything."""
    mark = mark_of(session.call("VM.get_other_config", vm_ref), vm_uuid)
    if mark is None or mark.run_id == ours or mark.job_id != job_id:
        return False
    done = settle(session, vm_ref, mark)
    _tell(journal, vm_uuid, "mark of a shutdown for a backup", done)
    return True


def _mark_late(session: Session, ref: str, vdis: Collection[str], remotes: Collection[str]) -> None:
    """Mark as exported. The chain's length is not known any more; one delta is the least that keeps counting."""
    marks = {keys.CHAIN_LENGTH: "1", keys.EXPORTED: "true", keys.REMOTES: ",".join(sorted(remotes))}
    for vdi_ref in vdis:
        write_marks(session, "VDI", vdi_ref, marks)
    write_marks(session, "VM", ref, marks)


def _unblock(session: Session, vm_ref: str, vm_uuid: str, job_id: str, journal: Sink) -> bool:
    operations = unblock_migration(session, vm_ref, job_id)
    for operation in operations:
        _tell(journal, vm_uuid, f"block of {operation}", "an interrupted run of this job had put it there")
    return bool(operations)


def _snapshots(session: Session, vm_ref: str) -> list[tuple[str, dict[str, Any]]]:
    """The VM's snapshots with their records."""
    found: list[tuple[str, dict[str, Any]]] = []
    for ref in session.call("VM.get_snapshots", vm_ref):
        with contextlib.suppress(NotFound):
            found.append((ref, session.record("VM", ref)))
    return found


def _remove(session: Session, ref: str) -> None:
    vdis = vdis_of(session, ref)
    for vdi_ref in vdis:
        detach_from_control_domains(session, vdi_ref)
    remove_snapshot(session, ref, vdis)


def _tell(journal: Sink, vm_uuid: str, what: str, reason: str) -> None:
    journal.write(events.LeftoverCleaned(vm=vm_uuid, what=what, reason=reason))
