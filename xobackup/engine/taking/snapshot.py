"""The snapshot of a VM that a backup is read from.

Order: take it under a temporary name that says whose it is, mark it, name it. Whatever stops this in between leaves
something that the next run recognises as a leftover (:mod:`xobackup.engine.recover`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import VmRefused
from xobackup.engine.job import Job
from xobackup.engine.removal import remove_disks, remove_snapshot
from xobackup.engine.taking.marks import write_marks
from xobackup.engine.taking.taken import Taken, read_taken, vdis_of
from xobackup.engine.taking.uncertain import snapshot_taken
from xobackup.engine.view import VmView
from xobackup.xapi.errors import NotSupported, OperatorProblem, XapiError
from xobackup.xapi.values import format_time, is_null

if TYPE_CHECKING:
    from datetime import datetime

    from xobackup.xapi.session import Session


def take_snapshot(
    session: Session,
    vm: VmView,
    job: Job,
    *,
    run_id: str,
    moment: datetime,
    ignore_vdi_refs: Sequence[str],
    memory: bool,
    cancel: CancelToken,
    warn: Callable[[str], None],
) -> Taken:
    """Snapshot ``vm`` without the disks to ignore, with its ``memory`` if it has any by now. On any failure what was
    made of it is removed again."""
    name = keys.temporary_name(job.id, run_id)
    ref = ""
    try:
        ref = _checkpoint(session, vm.ref, name, cancel, warn) if memory else ""
        ref = ref or _snapshot(session, vm.ref, name, ignore_vdi_refs, cancel)
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
        vdis = vdis_of(session, ref)
        for vdi_ref, vdi in vdis.items():
            write_marks(session, "VDI", vdi_ref, {**marks, keys.CONTENT_KEY: str(vdi["uuid"])})
        write_marks(session, "VM", ref, marks if vdis else {**marks, keys.DISKLESS: "true"})
        label = job.settings.snapshot_name.format(job=job.name, vm=vm.name)
        session.call("VM.set_name_label", ref, label)
        return read_taken(session, ref, moment)
    except BaseException:
        with contextlib.suppress(XapiError):  # the first error is the one to tell; the next run cleans what stays
            for left in [ref] if ref else _named(session, vm.ref, name):
                remove_snapshot(session, left, vdis_of(session, left))
        raise


def _checkpoint(session: Session, vm_ref: str, name: str, cancel: CancelToken, warn: Callable[[str], None]) -> str:
    """A snapshot with memory; ``""`` when the VM has none, because somebody halted it meanwhile."""
    try:
        return _take(session, vm_ref, name, cancel, lambda stop: _call(session, "VM.checkpoint", stop, vm_ref, name))
    except OperatorProblem as error:
        if error.code != "VM_BAD_POWER_STATE":
            raise
        warn(f"its memory could not be saved, only its disks are: {error}")
        return ""


def _snapshot(session: Session, vm_ref: str, name: str, ignore: Sequence[str], cancel: CancelToken) -> str:
    args = [list(ignore)] if ignore else []

    def snapshot(stop: Callable[[], bool]) -> str | None:
        try:
            return _call(session, "VM.snapshot", stop, vm_ref, name, *args)
        except NotSupported as error:
            if not ignore or error.code != "MESSAGE_PARAMETER_COUNT_MISMATCH":
                raise
            return _call(session, "VM.snapshot", stop, vm_ref, name)  # an old host: all disks

    return _take(session, vm_ref, name, cancel, snapshot)


def _call(session: Session, method: str, stop: Callable[[], bool], *args: object) -> str | None:
    return session.call_async(method, *args, should_stop=stop)


def _take(
    session: Session,
    vm_ref: str,
    name: str,
    cancel: CancelToken,
    take: Callable[[Callable[[], bool]], str | None],
) -> str:
    """The reference of the snapshot that ``take`` takes, whatever becomes of its answer."""

    def stop() -> bool:
        return cancel.cancelled

    ref: str | None
    try:
        ref = take(stop)
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
