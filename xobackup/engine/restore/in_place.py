"""A restore point into the VM that it is of: its disks are exchanged for restored ones, its settings stay.

First the disks are restored beside the VM, as those of a halted VM of their own (the *keeper*), checked like every
restore, while the VM may run. Only then the VM is shut down, if it ran, and the disks change places
(:mod:`xobackup.engine.restore.swap`): the keeper ends with the disks as they were, whole and able to start. A
failure puts everything back and removes what was restored; a process that dies leaves a note by which the next
start puts it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.active import RESTORE_IN_PLACE, Active
from xobackup.engine.errors import UsageError, VmRefused
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.removal import destroy_vdi
from xobackup.engine.restore.plan import RestorePlan, VmRequest
from xobackup.engine.restore.swap import VBD_FIELDS, Exchange, Swap, begin, carry_out, complete, end, put_back
from xobackup.engine.restore.vm import Restored, plan_restore, restore_vm
from xobackup.engine.taking.owed import ShutdownMark, StartFailed, start, start_time, wait_until_settled
from xobackup.repository.metadata import MODE_FULL, PointDisk, RestorePoint
from xobackup.xapi.errors import NotFound, XapiError
from xobackup.xapi.other_config import set_key

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

Record = Mapping[str, Any]
JOB = "restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the operator wants. ``disks``: by device, name or uuid; none means all. ``start``: afterwards; ``None``:
    as it was before."""

    disks: tuple[str, ...] = ()
    shutdown: bool = False
    """Shut the VM down, if it runs."""
    shutdown_wait_s: float = 600
    start: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One disk that comes back. ``old_uuid``: the VDI that it takes the place of; empty where there is none."""

    disk: PointDisk
    device: str
    old_uuid: str
    old_name: str
    vbd: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlacePlan:
    """All of it, decided before anything is done."""

    vm_uuid: str
    vm_ref: str
    vm_name: str
    runs: bool
    disks: tuple[Replacement, ...]
    restore: RestorePlan
    """Of the keeper."""
    kept_name: str
    """What that one is called at the end."""
    warnings: tuple[str, ...]
    wish: Wish

    @property
    def starts(self) -> bool:
        return self.runs if self.wish.start is None else self.wish.start


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """What was done. ``keeper_uuid``: the VM that has the replaced disks; ``downtime_s``: from the request to shut
    down to the running VM."""

    vm_uuid: str
    keeper_uuid: str
    keeper_name: str
    disks: tuple[Exchange, ...]
    restored: Restored
    started: bool
    downtime_s: float
    warnings: tuple[str, ...]


def plan_in_place(world: World, session: Session, point: RestorePoint, wish: Wish, *, remote: str) -> InPlacePlan:
    """What :func:`restore_in_place` would do; touches nothing. Raises :class:`UsageError` when it cannot be."""
    if point.mode == MODE_FULL:
        raise UsageError(
            f"restore point {point.id} is a full backup, an archive: its disks cannot be put into a VM",
            hint="restore it as a new VM: xobackup restore vm",
        )
    vms = session.records("VM")
    ref, vm = _the_vm(vms, point)
    vbds = {one: session.record("VBD", one) for one in vm["VBDs"]}
    vdis = {str(vbd["VDI"]): session.record("VDI", vbd["VDI"]) for vbd in vbds.values() if vbd.get("type") == "Disk"}
    disks, warnings = choose(point, wish.disks, list(vbds.values()), vdis)
    chosen = {one.disk.live_vdi_uuid for one in disks}
    srs: dict[str, str | None] = {
        disk.live_vdi_uuid: None for disk in point.disks if disk.live_vdi_uuid not in chosen
    }
    for one in disks:
        if one.old_uuid:
            record = next(vdi for vdi in vdis.values() if vdi["uuid"] == one.old_uuid)
            srs[one.disk.live_vdi_uuid] = str(session.call("SR.get_uuid", record["SR"]))
    name = f"{vm['name_label']} (restored {point.id}, not in place)"
    request = VmRequest(name=name, disk_srs=srs, memory=False, tags=("restore in place",))
    plan = plan_restore(world, session, point, request, remote=remote)
    plan = replace(plan, nics=(), vtpms=(), cd_drives=0, warnings=())
    as_it_was = {one.disk.live_vdi_uuid: _vbd_of(one.vbd) for one in plan.disks}
    disks = tuple(one if one.old_uuid else replace(one, vbd=as_it_was[one.disk.live_vdi_uuid]) for one in disks)
    return InPlacePlan(
        vm_uuid=str(vm["uuid"]),
        vm_ref=ref,
        vm_name=str(vm["name_label"]),
        runs=vm["power_state"] == "Running",
        disks=disks,
        restore=plan,
        kept_name=f"{vm['name_label']} (disks replaced by {point.id})",
        warnings=tuple(warnings),
        wish=wish,
    )


def choose(
    point: RestorePoint, wanted: Collection[str], vbds: Sequence[Record], vdis: Mapping[str, Record]
) -> tuple[tuple[Replacement, ...], list[str]]:
    """Which disks of the point take the place of which of the VM, and what is to be told. Pure.

    A disk goes where the VM has the very disk that was backed up, else to the device that it had then.
    """
    there = [vbd for vbd in vbds if vbd.get("type") == "Disk" and not vbd.get("empty")]
    by_uuid = {str(vdis[str(vbd["VDI"])]["uuid"]): vbd for vbd in there if str(vbd["VDI"]) in vdis}
    by_device = {str(vbd["userdevice"]): vbd for vbd in there}
    taken = {str(vbd["userdevice"]) for vbd in vbds}
    found: list[Replacement] = []
    warnings: list[str] = []
    disks = [disk for disk in point.disks if not disk.memory and disk.userdevice]
    for name in wanted:
        if not any(_is(disk, name) for disk in disks):
            known = ", ".join(f"{disk.userdevice} ({disk.name_label})" for disk in disks)
            raise UsageError(f"restore point {point.id} has no disk {name!r} (it has: {known})")
    for disk in disks:
        if wanted and not any(_is(disk, name) for name in wanted):
            continue
        device = str(disk.userdevice)
        vbd = by_uuid.get(disk.live_vdi_uuid) or by_device.get(device)
        label = disk.name_label or disk.live_vdi_uuid
        if vbd is None:
            if device in taken:
                raise UsageError(f"disk {label}: device {disk.userdevice} of the VM is taken by something else")
            warnings.append(f"disk {label}: the VM has no disk at device {disk.userdevice}: it gets one again")
            found.append(Replacement(disk=disk, device=device, old_uuid="", old_name="", vbd={}))
            continue
        old = vdis[str(vbd["VDI"])]
        if str(old["uuid"]) != disk.live_vdi_uuid:
            warnings.append(
                f"disk {label}: the VM has another disk at device {vbd['userdevice']} by now "
                f"({old.get('name_label')}, {old['uuid']}); that one is replaced"
            )
        found.append(
            Replacement(
                disk=disk,
                device=str(vbd["userdevice"]),
                old_uuid=str(old["uuid"]),
                old_name=str(old.get("name_label", "")),
                vbd=_vbd_of(vbd),
            )
        )
    if not found:
        raise UsageError(f"restore point {point.id} has no disk to put into the VM")
    twice = [one.device for one in found if sum(other.device == one.device for other in found) > 1]
    if twice:
        raise UsageError(f"two disks of the restore point belong to device {twice[0]} of the VM", hint="--disk")
    if not wanted:
        kept = set(by_device) - {one.device for one in found}
        stays = "is not in the restore point: it stays"
        warnings += [f"the VM's disk at device {device} {stays}" for device in sorted(kept)]
    return tuple(found), warnings


def restore_in_place(
    world: World,
    session: Session,
    repository: Repository,
    plan: InPlacePlan,
    *,
    disks_max: int = 4,
    check: bool = True,
) -> InPlace:
    """Carry out ``plan``."""
    refuse_now(session, plan)
    restored = restore_vm(world, session, repository, plan.restore, disks_max=disks_max, check=check)
    try:
        with repository.lock(plan.vm_uuid, timeout_s=60, purpose="restore in place", check=world.cancel.check):
            return _Exchanging(world, session, plan, restored).run()
    except BaseException:
        with contextlib.suppress(XapiError):
            _discard(session, plan, restored)
        raise


def refuse_now(session: Session, plan: InPlacePlan) -> None:
    """Raise :class:`UsageError` unless the VM can be halted for this."""
    state = str(session.call("VM.get_power_state", plan.vm_ref))
    if state == "Running" and not plan.wish.shutdown:
        raise UsageError(f"VM {plan.vm_name} runs", hint="shut it down, or let us: --shutdown")
    if state not in ("Running", "Halted"):
        raise UsageError(f"VM {plan.vm_name} is {state.lower()}: expected a halted or a running one")


class _Exchanging:
    """From the restored disks on: the short part, in which the VM is off."""

    def __init__(self, world: World, session: Session, plan: InPlacePlan, restored: Restored) -> None:
        self._world, self._session, self._plan, self._restored = world, session, plan, restored
        self._run_id = world.new_id()
        self._off_s: float | None = None
        self._warnings = [*plan.warnings, *restored.warnings]

    def run(self) -> InPlace:
        session, plan = self._session, self._plan
        pool_uuid = next((str(one["uuid"]) for one in session.records("pool").values()), "")
        active = Active(
            run_id=self._run_id, job_id=JOB, job=JOB, pool_uuid=pool_uuid, vm_uuid=plan.vm_uuid,
            since_s=self._world.clock.now_s(), kind=RESTORE_IN_PLACE,
        )  # fmt: skip
        with touching(self._world.active_directory, session, active, plan.vm_ref):
            self._shut_down()
            try:
                disks = self._exchange()
            except BaseException:
                self._start(always=False)
                raise
            started = self._start(always=plan.starts) if plan.starts else self._forget_start()
        downtime_s = 0.0 if self._off_s is None else self._world.clock.monotonic_s() - self._off_s
        return InPlace(
            vm_uuid=plan.vm_uuid,
            keeper_uuid=self._restored.vm_uuid,
            keeper_name=plan.kept_name,
            disks=disks,
            restored=self._restored,
            started=started,
            downtime_s=downtime_s if started else 0.0,
            warnings=tuple(self._warnings),
        )

    def _shut_down(self) -> None:
        session, plan = self._session, self._plan
        refuse_now(session, plan)
        if session.call("VM.get_power_state", plan.vm_ref) != "Running":
            return
        mark = ShutdownMark(
            run_id=self._run_id, job_id=JOB, vm_uuid=plan.vm_uuid, started=start_time(session, plan.vm_ref)
        )
        set_key(session, "VM", plan.vm_ref, keys.SHUTDOWN, str(mark))
        self._off_s = self._world.clock.monotonic_s()
        cancel = self._world.cancel
        try:
            session.call_async(
                "VM.clean_shutdown",
                plan.vm_ref,
                timeout_s=plan.wish.shutdown_wait_s,
                should_stop=lambda: cancel.cancelled,
            )
        except XapiError as error:
            if wait_until_settled(session, plan.vm_ref) != "Halted":
                set_key(session, "VM", plan.vm_ref, keys.SHUTDOWN, None)
                told = f"VM {plan.vm_name} did not shut down within {plan.wish.shutdown_wait_s:g} s: {error}"
                hint = "shut it down by hand, then restore again; its disks are as they were"
                raise VmRefused(told, hint=hint) from error

    def _exchange(self) -> tuple[Exchange, ...]:
        session, plan = self._session, self._plan
        self._world.cancel.check()
        self._refuse_changed()
        disks = tuple(
            Exchange(
                device=one.device,
                old=one.old_uuid,
                new=self._restored.disks[one.disk.live_vdi_uuid],
                vbd=dict(one.vbd),
            )
            for one in plan.disks
        )
        keeper = self._restored.vm_uuid
        swap = Swap(run_id=self._run_id, vm=plan.vm_uuid, keeper=keeper, disks=disks, kept_name=plan.kept_name)
        try:
            swap = begin(session, plan.vm_ref, swap)
            carry_out(session, plan.vm_ref, swap)
            complete(session, plan.vm_ref, swap)
        except BaseException:
            with contextlib.suppress(NotFound):
                put_back(session, plan.vm_ref, swap)
            raise
        try:
            end(session, plan.vm_ref, swap)
        except XapiError as error:  # nothing is put back from here on
            self._warnings.append(
                f"its start may be blocked still, the next start of any command mends that: {error}"
            )
        return disks

    def _refuse_changed(self) -> None:
        """The VM's disks are those of the plan still."""
        session = self._session
        now: dict[str, str] = {}
        for ref in session.call("VM.get_VBDs", self._plan.vm_ref):
            vbd = session.record("VBD", ref)
            if vbd.get("type") == "Disk" and not vbd.get("empty"):
                now[str(vbd["userdevice"])] = str(session.call("VDI.get_uuid", vbd["VDI"]))
        for one in self._plan.disks:
            if now.get(one.device, "") != one.old_uuid:
                told = f"VM {self._plan.vm_name}: the disk at device {one.device} is not the one it was"
                raise UsageError(told, hint="somebody changed it meanwhile: look at the VM, and restore again")

    def _start(self, *, always: bool) -> bool:
        """Start it if it is owed a start (we shut it down), or is to be started anyway."""
        session, plan = self._session, self._plan
        owed = self._off_s is not None
        started = False
        if (owed or always) and session.call("VM.get_power_state", plan.vm_ref) == "Halted":
            try:
                start(session, plan.vm_ref)
                started = True
            except (StartFailed, XapiError) as error:
                self._warnings.append(f"VM {plan.vm_name} could not be started: {error}")
                return False
        if owed:
            set_key(session, "VM", plan.vm_ref, keys.SHUTDOWN, None)
        return started

    def _forget_start(self) -> bool:
        """It stays halted."""
        if self._off_s is not None:
            set_key(self._session, "VM", self._plan.vm_ref, keys.SHUTDOWN, None)
        return False


def _discard(session: Session, plan: InPlacePlan, restored: Restored) -> None:
    """Nothing came of it: the keeper goes with the disks that were restored, if it has all of them and only them."""
    ref = session.by_uuid("VM", restored.vm_uuid)
    if session.call("VM.get_power_state", ref) != "Halted":
        return
    vbds = [session.record("VBD", one) for one in session.call("VM.get_VBDs", ref)]
    refs = [str(vbd["VDI"]) for vbd in vbds if vbd.get("type") == "Disk"]
    if {str(session.call("VDI.get_uuid", vdi)) for vdi in refs} != set(restored.disks.values()):
        return
    session.call_async("VM.destroy", ref)
    for vdi in refs:
        destroy_vdi(session, vdi)


def _the_vm(vms: Mapping[str, Record], point: RestorePoint) -> tuple[str, Record]:
    for ref, vm in vms.items():
        if vm.get("uuid") == point.vm_uuid and not vm.get("is_a_snapshot"):
            if vm.get("is_a_template") or vm.get("is_control_domain"):
                raise UsageError(f"VM {point.vm_uuid} is a template or a control domain there")
            return ref, vm
    raise UsageError(
        f"the pool has no VM {point.vm_uuid} ({point.vm_name}): there is no place to restore into",
        hint="restore it as a new VM: xobackup restore vm",
    )


def _vbd_of(record: Record) -> dict[str, Any]:
    return {name: record[name] for name in VBD_FIELDS if name in record}


def _is(disk: PointDisk, name: str) -> bool:
    return name in (disk.userdevice, disk.name_label, disk.live_vdi_uuid, disk.vdi_uuid)
