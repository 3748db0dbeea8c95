"""What an interrupted run left on a pool, found and cleaned at the next start.

Two ways to be certain that something is a leftover and nobody's work in progress: its run's mark on this machine is
no longer held (:mod:`xobackup.engine.active`), or we hold the lock of that VM's directory in every remote of the job,
which the run that made it held too. Recognised are only things that name their job or run: temporary snapshots,
snapshots of the job whose export was never completed, our blocks of migration, our tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from xobackup.engine import events, keys
from xobackup.engine.active import POOL_BACKUP, Active, interrupted
from xobackup.engine.removal import detach_from_control_domains, remove_snapshot
from xobackup.engine.restore_vm import remove_restored
from xobackup.engine.taking.marks import write_marks
from xobackup.engine.taking.migration import unblock_migration
from xobackup.engine.taking.taken import vdis_of
from xobackup.xapi.errors import NotFound, XapiError, XapiFailure
from xobackup.xapi.task import discard

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.engine.journal import Sink
    from xobackup.xapi.session import Session


def recover_interrupted(session: Session, directory: Path, pool_uuid: str, journal: Sink) -> int:
    """Clean up after every dead run of this machine that had touched a VM of this pool; returns how many VMs.

    What cannot be cleaned now (the pool says no) stays marked for the next start, with a warning.
    """
    cleaned = 0
    with interrupted(directory) as found:
        for path, active in found:
            if active.pool_uuid != pool_uuid:
                continue
            try:
                clean_run(session, active, journal)
            except XapiFailure as error:
                message = f"leftovers of the interrupted run {active.run_id} stay for now: {error}"
                journal.write(events.Warned(vm=active.vm_uuid, message=message))
                continue
            path.unlink(missing_ok=True)
            cleaned += 1
    return cleaned


def clean_run(session: Session, active: Active, journal: Sink) -> None:
    """Remove what one dead run left of one VM, as far as its mark alone proves it: not a snapshot that was named,
    because a remote may have its content already."""
    _cancel_tasks(session, active.run_id, active.vm_uuid, journal)
    if active.kind == "restore":
        for what in remove_restored(session, active.run_id):
            _tell(journal, active.vm_uuid, what, "a restore was interrupted")
        return
    if active.kind == POOL_BACKUP:
        return  # it changes nothing on a pool but its own tasks
    try:
        vm_ref = session.by_uuid("VM", active.vm_uuid)
    except NotFound:
        return
    _unblock(session, vm_ref, active.vm_uuid, active.job_id, journal)
    for ref, record in _snapshots(session, vm_ref):
        if keys.is_temporary(str(record["name_label"]), run_id=active.run_id):
            _remove(session, ref)
            _tell(journal, active.vm_uuid, f"snapshot {record['uuid']}", "a run was interrupted while taking it")


def clean_locked(
    session: Session,
    vm_ref: str,
    vm_uuid: str,
    *,
    job_id: str,
    published: Mapping[str, Collection[str]],
    journal: Sink,
) -> bool:
    """Remove what any earlier run of this job left of a VM; returns whether there was anything.

    Only while holding all the VM's locks. ``published``: snapshot disks (uuid) that are the newest of a chain on
    remotes (names). A snapshot among them whose mark is missing (the run was interrupted between publishing and
    marking) gets it now: it is a good base.
    """
    found = _unblock(session, vm_ref, vm_uuid, job_id, journal)
    for ref, record in _snapshots(session, vm_ref):
        config = record.get("other_config", {})
        if keys.is_temporary(str(record["name_label"]), job_id=job_id):
            found = True
            _remove(session, ref)
            _tell(journal, vm_uuid, f"snapshot {record['uuid']}", "a run was interrupted while taking it")
            continue
        ours = config.get(keys.JOB) == job_id and config.get(keys.VM) == vm_uuid and keys.RUN in config
        if not ours or config.get(keys.EXPORTED) == "true":
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


def _cancel_tasks(session: Session, run_id: str, vm_uuid: str, journal: Sink) -> None:
    for ref, record in session.records("task").items():
        if not keys.is_task_of(str(record.get("name_label", "")), run_id):
            continue
        with contextlib.suppress(XapiError):  # no transfer adopted it, or it has just ended
            session.call("task.cancel", ref)
        with contextlib.suppress(XapiError):
            discard(session, ref, adopted=False)
            _tell(journal, vm_uuid, f"task {record.get('name_label')}", "its run is over")


def _tell(journal: Sink, vm_uuid: str, what: str, reason: str) -> None:
    journal.write(events.LeftoverCleaned(vm=vm_uuid, what=what, reason=reason))
