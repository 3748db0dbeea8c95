"""The snapshot of a VM that a backup is read from, and the marks around it.

Order: block migration, take the snapshot under a temporary name that says whose it is, mark it, name it. Whatever
stops this in between leaves something that the next run recognises as a leftover (:mod:`xobackup.engine.recover`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import VmRefused
from xobackup.engine.job import Job
from xobackup.engine.removal import remove_disks, remove_snapshot
from xobackup.engine.uncertain import snapshot_taken
from xobackup.engine.view import VmView
from xobackup.xapi.errors import NotFound, NotSupported, OperatorProblem, XapiError, XapiFailure
from xobackup.xapi.other_config import block_operations, set_keys, unblock_operations
from xobackup.xapi.values import format_time, is_null

if TYPE_CHECKING:
    from datetime import datetime

    from xobackup.xapi.session import Session

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A snapshot ready to be exported. Records are XAPI's own, as the metadata wants them."""

    ref: str
    moment: datetime
    record: Record
    vdis: Mapping[str, tuple[str, Record]]
    """Live VDI uuid -> (snapshot VDI ref, its record)."""
    vbds: Mapping[str, Record]
    vifs: Mapping[str, Record]
    vtpms: tuple[str | None, ...] = ()
    """Contents of its virtual TPMs; ``None`` for one the host does not give."""

    @property
    def datetime_key(self) -> str:
        return format_time(self.moment)


@contextmanager
def migration_blocked(session: Session, vm_ref: str, job_id: str) -> Iterator[None]:
    """Keep the VM where it is while inside. What others had blocked stays as it was."""
    try:
        block_operations(session, vm_ref, reason=keys.blocked_text(job_id))
        yield
    finally:
        with contextlib.suppress(NotFound):  # the VM was deleted meanwhile
            unblock_migration(session, vm_ref, job_id)


def unblock_migration(session: Session, vm_ref: str, job_id: str) -> list[str]:
    """Remove the blocks that this job put there; returns which."""
    return unblock_operations(session, vm_ref, reason=keys.blocked_text(job_id))


def reset_marks(session: Session, vm: VmView) -> None:
    """Take stale backup marks off the live VM and its disks: a snapshot would copy them."""
    if any(key in vm.other_config for key in keys.RESET):
        set_keys(session, "VM", vm.ref, dict.fromkeys(keys.RESET))
    for disk in vm.disks:
        config = session.call("VDI.get_other_config", disk.vdi_ref)
        stale = {key: None for key in keys.RESET if key in config}
        if stale:
            set_keys(session, "VDI", disk.vdi_ref, stale)


def take_snapshot(
    session: Session,
    vm: VmView,
    job: Job,
    *,
    run_id: str,
    moment: datetime,
    ignore_vdi_refs: Sequence[str],
    cancel: CancelToken,
) -> Taken:
    """Snapshot ``vm`` without the disks to ignore. On any failure what was made of it is removed again."""
    name = keys.temporary_name(job.id, run_id)
    ref = ""
    try:
        ref = _snapshot(session, vm.ref, name, ignore_vdi_refs, cancel)
        cancel.check()
        _drop_ignored(session, ref, ignore_vdi_refs)
        with contextlib.suppress(OperatorProblem):  # old licences refuse it, and it is only for looks
            session.call("VM.set_is_a_template", ref, False)
        marks = {
            keys.DATETIME: format_time(moment),
            keys.JOB: job.id,
            keys.SCHEDULE: job.schedule_id,
            keys.VM: vm.uuid,
            keys.QCOW2_FIX: "true",
            keys.RUN: run_id,
        }
        for vdi_ref, vdi in vdis_of(session, ref).items():
            write_marks(session, "VDI", vdi_ref, {**marks, keys.CONTENT_KEY: str(vdi["uuid"])})
        write_marks(session, "VM", ref, marks)
        label = job.settings.snapshot_name.format(job=job.name, vm=vm.name)
        session.call("VM.set_name_label", ref, label)
        return _taken(session, ref, moment)
    except BaseException:
        with contextlib.suppress(XapiError):  # the first error is the one to tell; the next run cleans what stays
            for left in [ref] if ref else _named(session, vm.ref, name):
                remove_snapshot(session, left, vdis_of(session, left))
        raise


def _snapshot(session: Session, vm_ref: str, name: str, ignore: Sequence[str], cancel: CancelToken) -> str:
    def stop() -> bool:
        return cancel.cancelled

    args = [list(ignore)] if ignore else []
    ref: str | None
    try:
        try:
            ref = session.call_async("VM.snapshot", vm_ref, name, *args, should_stop=stop)
        except NotSupported as error:
            if not ignore or error.code != "MESSAGE_PARAMETER_COUNT_MISMATCH":
                raise
            ref = session.call_async("VM.snapshot", vm_ref, name, should_stop=stop)  # an old host: all disks
    except XapiError as error:
        ref = snapshot_taken(session, vm_ref, name, should_stop=stop) if error.outcome_unknown else None
        if ref is None:
            raise
    if is_null(ref):
        raise VmRefused(f"the snapshot has no reference, found {ref!r}")
    return str(ref)


def _drop_ignored(session: Session, ref: str, ignore: Sequence[str]) -> None:
    """An old host snapshots disks that should be left out too: remove those snapshots at once."""
    if not ignore:
        return
    unwanted = {vdi_ref: vdi for vdi_ref, vdi in vdis_of(session, ref).items() if vdi.get("snapshot_of") in ignore}
    remove_disks(session, unwanted, holder=ref)


def _named(session: Session, vm_ref: str, name: str) -> list[str]:
    """Snapshots of the VM with that name: one whose task's end we did not see."""
    refs: list[str] = session.call("VM.get_snapshots", vm_ref)
    return [ref for ref in refs if session.call("VM.get_name_label", ref) == name]


def vdis_of(session: Session, vm_ref: str) -> dict[str, Record]:
    """The disks of a VM or snapshot, with their records."""
    found: dict[str, Record] = {}
    for vbd_ref in session.call("VM.get_VBDs", vm_ref):
        vbd = session.record("VBD", vbd_ref)
        if vbd.get("type") == "Disk" and not is_null(vbd.get("VDI")):
            found[vbd["VDI"]] = session.record("VDI", vbd["VDI"])
    return found


def _taken(session: Session, ref: str, moment: datetime) -> Taken:
    record = session.record("VM", ref)
    vdis: dict[str, tuple[str, Record]] = {}
    vbds: dict[str, Record] = {}
    for vbd_ref in record["VBDs"]:
        vbd = session.record("VBD", vbd_ref)
        if vbd.get("type") != "Disk" or is_null(vbd.get("VDI")):
            continue
        vbds[vbd_ref] = vbd
        vdi = session.record("VDI", vbd["VDI"])
        vdis[str(session.call("VDI.get_uuid", vdi["snapshot_of"]))] = (vbd["VDI"], vdi)
    vifs = {vif_ref: session.record("VIF", vif_ref) for vif_ref in record["VIFs"]}
    vtpms = tuple(_vtpm_contents(session, vtpm) for vtpm in record.get("VTPMs") or ())
    return Taken(ref=ref, moment=moment, record=record, vdis=vdis, vbds=vbds, vifs=vifs, vtpms=vtpms)


def _vtpm_contents(session: Session, ref: str) -> str | None:
    """What a virtual TPM holds. Hosts may refuse it; the disks are worth saving all the same."""
    with contextlib.suppress(XapiFailure):
        return str(session.call("VTPM.get_contents", ref))
    return None


def mark_exported(session: Session, taken: Taken, chain_lengths: Mapping[str, int], remotes: Iterable[str]) -> None:
    """Say that the snapshot's content is safe on ``remotes``, so that it may be the base of the next delta.

    ``chain_lengths``: deltas since the last full, by live VDI uuid. Disks first: the VM's mark means all are marked.
    """
    common = {keys.EXPORTED: "true", keys.REMOTES: ",".join(sorted(remotes))}
    for live, (vdi_ref, _) in taken.vdis.items():
        if live in chain_lengths:
            write_marks(session, "VDI", vdi_ref, {keys.CHAIN_LENGTH: str(chain_lengths[live]), **common})
    longest = max(chain_lengths.values(), default=0)
    write_marks(session, "VM", taken.ref, {keys.CHAIN_LENGTH: str(longest), **common})


def write_marks(session: Session, cls: str, ref: str, marks: Mapping[str, str]) -> None:
    """Add keys to a snapshot of ours, all at once: nobody else writes there, and every call costs a round trip."""
    config = session.call(f"{cls}.get_other_config", ref)
    session.call(f"{cls}.set_other_config", ref, {**config, **marks})
