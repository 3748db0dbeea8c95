"""A restore point as a new VM: create, fill, and only then let it be started. All or nothing.

Everything created carries the id of the restore until the end, so that what a crash leaves can be told apart from
everything else and removed by the next start; an error removes it at once.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import RESTORE, Active
from xobackup.engine.cancel import CancelToken
from xobackup.engine.checked import CheckedDisk
from xobackup.engine.errors import Cancelled, UsageError
from xobackup.engine.full.restore_vm import ArchiveRestore, one_repository
from xobackup.engine.leftovers.claim import Claim, touching
from xobackup.engine.leftovers.clean import end_tasks, recover
from xobackup.engine.removal import SUSPEND, destroy_vdi
from xobackup.engine.restore.devices import create_devices, forget_memory, run
from xobackup.engine.restore.differential import Base, Whole
from xobackup.engine.restore.plan import DiskRestore, RestorePlan, Site, VmRequest, plan_vm_restore
from xobackup.engine.restore.records import IMPORTING, START_OPERATIONS
from xobackup.engine.restore.vdi import send_disk
from xobackup.repository.metadata import MODE_FULL
from xobackup.xapi.errors import NotFound, XapiError, XapiFailure
from xobackup.xapi.other_config import set_keys
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session


_AT_REST = ("Halted", "Suspended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The new VM. ``unchecked``: blocks for which no digest was known."""

    vm_uuid: str
    vm_ref: str
    name: str
    disks: dict[str, str]
    """Live VDI uuid then -> uuid of the new VDI."""
    size_bytes: int
    compared: int
    unchecked: int
    started: bool
    suspended: bool
    """It has its memory, and waits to be resumed."""
    warnings: tuple[str, ...]
    archive: bool = False
    """It came out of a full backup: instead of blocks the whole image was compared, if it has a checksum."""


def look_at_site(session: Session) -> Site:
    """What the pool offers to a restore."""
    pool = next(iter(session.records("pool").values()), {})
    return Site(
        default_sr=str(pool.get("default_SR", "")),
        srs=session.records("SR"),
        networks=session.records("network"),
        pifs=session.records("PIF"),
        drivers=session.records("SM"),
        pbds=session.records("PBD"),
    )


def plan_restore(
    world: World, session: Session, point: RestorePoint, request: VmRequest, *, remote: str
) -> RestorePlan:
    """What :func:`restore_vm` would do; touches nothing."""
    plan = plan_vm_restore(
        point,
        request,
        look_at_site(session),
        remote=remote,
        restored_at=utc(world.clock.now_s()).strftime("%Y-%m-%d %H:%M:%S UTC"),
        run_id=world.new_id(),
    )
    return plan if point.mode != MODE_FULL else one_repository(plan, request)


def restore_vm(
    world: World,
    session: Session,
    repository: Repository,
    plan: RestorePlan,
    *,
    disks_max: int = 4,
    check: bool = True,
) -> Restored:
    """Carry out ``plan``."""
    return _Restore(world, session, repository, plan, check=check).run(disks_max)


class _Restore:
    """One restore on its way."""

    def __init__(
        self, world: World, session: Session, repository: Repository, plan: RestorePlan, *, check: bool
    ) -> None:
        self._world = world
        self._session = session
        self._repository = repository
        self._plan = plan
        self._check = check
        self._run_id = str(plan.vm["other_config"][keys.RUN])
        self._cancel = CancelToken()
        self._vm_ref = ""
        self._vdis: dict[str, str] = {}
        self._cloned: dict[str, Base] = {}
        """By live uuid, the disks that started as clones."""
        self._warnings: list[str] = list(plan.warnings)
        self._compared = 0
        self._unchecked = 0

    def run(self, disks_max: int) -> Restored:
        pool_uuid = next((str(one["uuid"]) for one in self._session.records("pool").values()), "")
        recover(self._world, self._session, pool_uuid)
        active = Active(
            run_id=self._run_id,
            job_id="",
            job="restore",
            pool_uuid=pool_uuid,
            vm_uuid=self._plan.point.vm_uuid,
            since_s=self._world.clock.now_s(),
            kind=RESTORE,
        )
        with (
            self._world.cancel.waking(lambda: self._cancel.cancel(self._world.cancel.reason)),
            touching(self._world.active_directory, self._session, active) as claim,
        ):
            try:
                if self._plan.point.mode == MODE_FULL:
                    self._import(claim)
                else:
                    self._create(claim)
                    self._fill(disks_max)
                return self._finish(claim)
            except BaseException:
                self._roll_back()
                raise

    def _import(self, claim: Claim) -> None:
        """A full backup: XAPI creates and fills."""
        archive = ArchiveRestore(
            self._world,
            self._session,
            self._repository,
            self._plan,
            run_id=self._run_id,
            claim=claim,
            cancel=self._cancel,
            check=self._check,
        )
        archive.receive()
        self._vdis = archive.configure()
        self._vm_ref = archive.vm_ref
        if self._plan.drop_memory and forget_memory(self._session, self._vm_ref, self._warnings.append):
            for disk in self._plan.disks:
                if not disk.disk.userdevice:  # it is attached nowhere: the memory
                    self._vdis.pop(disk.disk.live_vdi_uuid, None)
        self._compared, self._unchecked = int(archive.checked is True), int(archive.checked is None)

    def _create(self, claim: Claim) -> None:
        session, suspended = self._session, dict(self._plan.suspended)
        if self._plan.memory is not None:
            suspended["suspend_VDI"] = self._create_vdi(self._plan.memory)
        marks = {**self._plan.vm["other_config"], **claim.now()}
        self._vm_ref = str(session.call("VM.create", {**self._plan.vm, "other_config": marks, **suspended}))
        claim.hold(self._vm_ref, written=True)
        for vbd in session.call("VM.get_VBDs", self._vm_ref):
            session.call("VBD.destroy", vbd)  # what the template it claims to come from would add
        for disk in self._plan.disks:
            vdi = self._create_vdi(disk)
            session.call("VBD.create", {**disk.vbd, "VM": self._vm_ref, "VDI": vdi})
        for nic in self._plan.nics:
            session.call("VIF.create", {**nic.vif, "VM": self._vm_ref})
        create_devices(session, self._vm_ref, self._plan, self._warnings.append)
        if self._plan.memory is not None and session.call("VM.get_power_state", self._vm_ref) != "Suspended":
            destroy_vdi(session, self._vdis.pop(self._plan.memory.disk.live_vdi_uuid))
            self._warnings.append("this host does not take a VM with its memory: it is restored halted")

    def _create_vdi(self, disk: DiskRestore) -> str:
        self._cancel.check()
        if disk.base is not None and (cloned := self._clone(disk, disk.base)):
            return cloned
        vdi = self._session.call_async("VDI.create", disk.vdi)
        if is_null(vdi):
            raise UsageError(f"disk {disk.disk.name_label}: the pool gave no VDI, found {vdi!r}")
        self._vdis[disk.disk.live_vdi_uuid] = str(vdi)
        self._session.call("VDI.set_name_label", str(vdi), f"[Importing…] {disk.disk.name_label}")
        return str(vdi)

    def _clone(self, disk: DiskRestore, base: Base) -> str:
        """The disk as a clone of its base, described as a new one would be; empty if the pool refuses."""
        try:
            vdi = str(self._session.call_async("VDI.clone", base.vdi_ref, {}))
        except XapiFailure as error:
            if base.required:
                raise
            self._warnings.append(
                f"disk {disk.disk.name_label}: written whole, its base could not be cloned: {error}"
            )
            return ""
        self._vdis[disk.disk.live_vdi_uuid] = vdi
        self._cloned[disk.disk.live_vdi_uuid] = base
        try:
            self._session.call("VDI.set_other_config", vdi, disk.vdi["other_config"])
        except BaseException:
            with contextlib.suppress(XapiError):  # without our mark nobody would know later whose it is
                destroy_vdi(self._session, vdi)
            raise
        self._session.call("VDI.set_name_label", vdi, f"[Importing…] {disk.disk.name_label}")
        for field in ("name_description", "tags", "xenstore_data", "sharable", "read_only"):
            self._session.call(f"VDI.set_{field}", vdi, disk.vdi[field])
        return vdi

    def _fill(self, disks_max: int) -> None:
        """All disks; the first failure stops the others."""
        disks = [disk for disk in self._plan.filled if disk.disk.live_vdi_uuid in self._vdis]
        with ThreadPoolExecutor(max_workers=max(1, min(disks_max, len(disks))), thread_name_prefix="disk") as threads:
            futures = [threads.submit(self._fill_one, disk) for disk in disks]
            done, pending = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                self._cancel.cancel("another disk of this VM failed")
                for future in pending:
                    future.cancel()
        failed = [error for future in futures if not future.cancelled() and (error := future.exception())]
        if failed:
            raise next((error for error in failed if not isinstance(error, Cancelled)), failed[0])

    def _fill_one(self, disk: DiskRestore) -> None:
        base = self._cloned.get(disk.disk.live_vdi_uuid)
        if base is not None and not base.indexes:
            return
        meter = self._world.progress.meter(disk.disk.name_label or disk.disk.live_vdi_uuid, stage="restore")
        source = CheckedDisk(self._repository, self._plan.point, disk.disk, check=self._check)
        try:
            sent = source if base is None else Whole(source, base.indexes)
            send_disk(
                self._world,
                self._session,
                sent,
                self._vdis[disk.disk.live_vdi_uuid],
                indexes=sent.block_indexes(),
                run_id=self._run_id,
                meter=meter,
                cancel=self._cancel,
                base_uuid="" if base is None else base.vdi_uuid,
            )
            self._compared += source.compared
            self._unchecked += source.without_digest
        finally:
            source.close()
            self._world.progress.drop(meter)

    def _finish(self, claim: Claim) -> Restored:
        session, plan = self._session, self._plan
        self._cancel.check()
        uuids: dict[str, str] = {}
        for disk in plan.filled:
            if disk.disk.live_vdi_uuid not in self._vdis:
                continue
            ref = self._vdis[disk.disk.live_vdi_uuid]
            session.call("VDI.set_name_label", ref, disk.disk.name_label)
            uuids[disk.disk.live_vdi_uuid] = str(session.call("VDI.get_uuid", ref))
        session.call("VM.set_name_label", self._vm_ref, plan.name)
        for operation, text in plan.blocked_operations.items():
            set_keys(session, "VM", self._vm_ref, {operation: text}, field="blocked_operations")
        for operation in reversed(START_OPERATIONS):  # "start" last: while that is blocked, it is not finished
            session.call("VM.remove_from_blocked_operations", self._vm_ref, operation)
        session.call("VM.update_allowed_operations", self._vm_ref)
        for ref in self._vdis.values():
            set_keys(session, "VDI", ref, {keys.RUN: None})
        claim.release()  # before the mark goes: a claim without a mark is a VM that XAPI has just made
        set_keys(session, "VM", self._vm_ref, {keys.RUN: None})
        started = False
        if plan.start:
            try:
                run(session, self._vm_ref)
                started = True
            except XapiError as error:  # it is restored all the same
                self._warnings.append(f"the VM is restored but could not be started: {error}")
        return Restored(
            vm_uuid=str(session.call("VM.get_uuid", self._vm_ref)),
            vm_ref=self._vm_ref,
            name=plan.name,
            disks=uuids,
            size_bytes=plan.size_bytes,
            compared=self._compared,
            unchecked=self._unchecked,
            started=started,
            suspended=not started and session.call("VM.get_power_state", self._vm_ref) == "Suspended",
            warnings=tuple(self._warnings),
            archive=plan.point.mode == MODE_FULL,
        )

    def _roll_back(self) -> None:
        """Remove what was created. What cannot be removed now carries our id, and the next start removes it."""
        with contextlib.suppress(XapiError):
            remove_restored(self._session, self._run_id)
        end_tasks(self._session, self._run_id)


def remove_restored(session: Session, run_id: str) -> list[str]:
    """Remove VMs and VDIs of an unfinished restore; returns what, for the journal."""
    removed: list[str] = []
    for ref, record in session.records("VM").items():
        ours = record.get("other_config", {}).get(keys.RUN) == run_id
        unfinished = record.get("blocked_operations", {}).get("start") == IMPORTING
        if ours and unfinished and not record.get("is_a_snapshot") and record.get("power_state") in _AT_REST:
            with contextlib.suppress(NotFound):
                session.call_async("VM.destroy", ref)
            removed.append(f"VM {record.get('uuid')}")
    for ref, record in session.records("VDI").items():
        ours = record.get("other_config", {}).get(keys.RUN) == run_id
        if ours and not record.get("is_a_snapshot") and not _used(session, ref, record):
            destroy_vdi(session, ref)
            removed.append(f"VDI {record.get('uuid')}")
    return removed


def _used(session: Session, ref: str, vdi: dict[str, object]) -> bool:
    """Whether the VDI belongs to a VM other than a control domain by now, as a disk or as its memory."""
    if vdi.get("type") == SUSPEND and ref in {vm.get("suspend_VDI") for vm in session.records("VM").values()}:
        return True
    vbds = vdi.get("VBDs")
    for vbd in vbds if isinstance(vbds, list) else []:
        with contextlib.suppress(NotFound):
            if not session.call("VM.get_is_control_domain", session.call("VBD.get_VM", vbd)):
                return True
    return False
