"""Giving back the space of a snapshot on the pool: its data go, its change log stays as the base of the next delta.

Only when the delta that has just been published really came by CBT and NBD, for every disk and on every remote of the
job: then the next one most likely can as well. From a snapshot without data no other way leads to a delta, so after a
run that had to take another way the data stay.

Order: the restore points are published and the snapshot marked; the VM's snapshot goes, its disks stay; their data
go. Whatever stops this in between leaves disks of which some still have their data: all of them serve as bases, and
the next run that can purge removes them together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.limits.turnstile import Turnstile, srs_of
from xobackup.engine.reading.ladder import Via
from xobackup.engine.removal import detach_from_control_domains, remove_memory
from xobackup.xapi.cbt import destroy_data
from xobackup.xapi.errors import Busy, NotFound, XapiError
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.taking.taken import Taken
    from xobackup.engine.transferred import DiskDone
    from xobackup.engine.view import VmView
    from xobackup.xapi.session import Session


def purge(
    context: RunContext,
    vm: VmView,
    taken: Taken,
    *,
    done: Iterable[DiskDone],
    published: Collection[str],
    warn: Callable[[str], None],
) -> None:
    """The snapshot's data, where only its change log will be needed. Failing here costs space, not backups."""
    journal, moment = context.world.journal, taken.datetime_key
    remotes = context.job.destinations
    reason = keep_reason(disks=taken.vdis, done=done, remotes=remotes, published=published)
    if reason:
        journal.write(events.SnapshotDataKept(vm=vm.uuid, snapshot=moment, reason=reason))
        return
    try:
        turnstile, srs = Turnstile(context, vm=vm.uuid, name=vm.name), srs_of(disk.sr for disk in vm.disks)
        with turnstile.deletion(srs, context.world.cancel):
            disks = purge_data(context.session, taken)
    except XapiError as error:
        warn(f"the snapshot's data stay on the pool for now: {error}")
        return
    journal.write(events.SnapshotDataPurged(vm=vm.uuid, snapshot=moment, disks=disks))


def keep_reason(
    *, disks: Collection[str], done: Iterable[DiskDone], remotes: Collection[str], published: Collection[str]
) -> str:
    """Why the data of the snapshot stay; ``""``: they can go. Pure.

    ``disks``: live uuids in the snapshot; ``remotes``: of the job; ``published``: those that have its restore point.
    """
    missing = sorted(set(remotes) - set(published))
    if missing:
        return f"{', '.join(missing)} did not get this restore point"
    came = {(one.live_uuid, one.remote): one for one in done}
    for disk in disks:
        for remote in remotes:
            one = came.get((disk, remote))
            if one is None:
                return f"disk {disk} did not come to {remote} in this run"
            if one.via is not Via.CBT:
                return f"disk {one.disk_name} came to {remote} by {one.via.value}, not by {Via.CBT.value}"
    return ""


def purge_data(session: Session, taken: Taken) -> int:
    """Remove the VM's snapshot and the data of its disks; returns how many disks. Calling it again continues."""
    with contextlib.suppress(NotFound):
        if session.call("VM.get_is_a_snapshot", taken.ref):
            remove_memory(session, taken.ref)
            session.call_async("VM.destroy", taken.ref)
    for vdi_ref, vdi in taken.vdis.values():
        assert vdi.get("is_a_snapshot") and not is_null(vdi.get("snapshot_of"))
        try:
            destroy_data(session, vdi_ref)
        except Busy:
            detach_from_control_domains(session, vdi_ref)
            destroy_data(session, vdi_ref)
    return len(taken.vdis)
