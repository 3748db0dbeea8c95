"""A VM's replica as a target of its backup."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from schedules.retention import Entry
from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import REPLICATE, Active
from xobackup.engine.errors import TargetFailed, UsageError
from xobackup.engine.job import FULL
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.removal import remove_snapshot
from xobackup.engine.replication.base import Way, base_point, tips
from xobackup.engine.replication.in_pool import InPool
from xobackup.engine.replication.machine import Machine
from xobackup.engine.replication.marks import disk_marks, point_name, replica_of, vm_marks
from xobackup.engine.replication.points import ReplicaPoint, expired, find_points
from xobackup.engine.replication.proof import proven_way
from xobackup.engine.replication.seed import seed_of
from xobackup.engine.replication.settle import expire, ordinary, take_back
from xobackup.engine.replication.site import ReplicaSite, Storage, able_srs, choose_sr
from xobackup.engine.replication.whole import WholeTarget
from xobackup.engine.replication.writer import PublishedPoint, ReplicaWriter, reaching
from xobackup.engine.restore.records import clean_config
from xobackup.engine.space.replicas import Room
from xobackup.engine.taking.taken import vdis_of
from xobackup.repository.merging import MergeReport
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.base import RemoteTip
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.replication.points import Records
    from xobackup.engine.view import VmView
    from xobackup.repository.merging import MergeProgress


@contextmanager
def replica_target(
    context: RunContext,
    site: ReplicaSite,
    source: Callable[[], VmView],
    cancel: CancelToken,
    warn: Callable[[str, str], None],
) -> Iterator[ReplicaTarget | WholeTarget]:
    """The replica of a VM while inside; ``source``: the VM as last seen. What is not published is taken back."""
    kind = WholeTarget if context.job.settings.mode == FULL else ReplicaTarget
    target = kind(context, site, source, cancel, warn)
    try:
        yield target
    finally:
        target.close()


class ReplicaTarget(InPool):
    """Satisfies :class:`xobackup.engine.target.Target`. Nothing is touched before the first disk begins."""

    def __init__(
        self,
        context: RunContext,
        site: ReplicaSite,
        source: Callable[[], VmView],
        cancel: CancelToken,
        warn: Callable[[str, str], None],
    ) -> None:
        self.name = site.name
        self.keep = context.job.settings.replica_retention
        self._context = context
        self._site = site
        self._session = site.session
        self._source = source
        self._cancel = cancel
        self._warn = warn
        self._held = ExitStack()
        self._lock = threading.Lock()
        self._machine: Machine | None = None
        check = context.job.settings.space_check
        self._room = Room(site.session, site.name, check, lambda message: warn(message, site.name))

    # -- what is there

    def tips(self, job_id: str, vm: VmView) -> dict[str, RemoteTip]:
        points, records = self._look()
        return tips(points, vm.disks, records, srs=self._site.sr_uuids, disk_srs=self._site.target.disk_srs)

    def newest_ms(self) -> int:
        points, _ = self._look()
        return max((point.timestamp_ms for point in points), default=0)

    def entries(self, job_id: str, schedule_id: str, *, mode: str = "delta") -> list[Entry]:
        points, _ = self._look()
        return [Entry(id=one.id, timestamp_ms=one.timestamp_ms) for one in points if one.schedule_id == schedule_id]

    def _look(self) -> tuple[list[ReplicaPoint], Records]:
        """Restore points of the VM by this job, newest first."""
        with reaching(self.name):
            records = self._site.look()
        found = find_points(
            records, job_id=self._context.job.id, vm_uuid=self._source().uuid, srs=self._site.sr_uuids
        )
        return found, records

    # -- writing

    def begin_disk(
        self,
        job_id: str,
        live_uuid: str,
        *,
        timestamp_ms: int,
        snapshot_uuid: str,
        virtual_size_bytes: int,
        base_uuid: str,
    ) -> ReplicaWriter:
        """A delta to ``base_uuid`` goes onto what was proven to hold that."""
        disk = next(one for one in self._source().disks if one.vdi_uuid == live_uuid)
        with reaching(self.name), self._lock:
            machine = self._begun()
            kin = next((one for one in disk.kin if base_uuid and one.vdi_uuid == base_uuid), None)
            sr = self._site.sr_of(live_uuid) or machine.sr
            if kin is None:
                vdi_ref = machine.disk(disk.name, sr, size_bytes=virtual_size_bytes, base_uuid=base_uuid)
            else:
                seed = seed_of([kin], self._site.look(), srs=self._site.sr_uuids)
                vdi_ref = machine.seeded(disk.name, seed, size_bytes=virtual_size_bytes)
        return ReplicaWriter(
            self._context.world,
            self._session,
            target=self.name,
            vdi_ref=vdi_ref,
            name=disk.name or live_uuid,
            snapshot_uuid=snapshot_uuid,
            virtual_size_bytes=virtual_size_bytes,
            base_uuid=base_uuid,
            run_id=self._context.run_id,
            cancel=self._cancel,
            room=self._room,
        )

    def _begun(self) -> Machine:
        """The replica, begun once: the decision onto what is written."""
        if self._machine is not None:
            if not self._machine.begun:
                raise TargetFailed(self.name, UsageError("its replica could not be begun, see its first error"))
            return self._machine
        points, records = self._look()
        vm = self._source()
        base = base_point(points, vm.disks)
        run_id, cancel = self._context.run_id, self._cancel
        way = proven_way(self._session, base, points, records, vm.disks, run_id=run_id, cancel=cancel)
        if way.reason:
            self._warn(f"a new replica is made from restore point {base.id if base else ''}: {way.reason}", self.name)
        largest = max((disk.virtual_size_bytes for disk in vm.disks), default=0)
        srs = able_srs(self._site.srs, largest) or self._site.srs
        sr = self._site.srs[0] if self._site.target.disk_srs else choose_sr(srs, records, points)
        return self._make(base, way, sr, vm)

    def _make(self, base: ReplicaPoint | None, way: Way, sr: Storage, vm: VmView) -> Machine:
        context = self._context
        active = Active(
            run_id=context.run_id,
            job_id=context.job.id,
            job=context.job.name,
            pool_uuid=self._site.pool_uuid,
            vm_uuid=str(uuid5(NAMESPACE_URL, f"{vm.uuid} {self.name}")),
            since_s=context.world.clock.now_s(),
            kind=REPLICATE,
        )
        claim = self._held.enter_context(touching(context.world.active_directory, self._session, active))
        self._held.callback(self._settle)
        self._machine = machine = Machine(
            session=self._session,
            site=self._site,
            sr=sr,
            job=context.job,
            run_id=context.run_id,
            source=context.session.record("VM", vm.ref),
            way=way,
            base=base,
            claim=claim,
            warn=lambda message: self._warn(message, self.name),
        )
        machine.begin()
        return machine

    # -- publishing

    def publish(self, draft: dict[str, Any]) -> PublishedPoint:
        """The restore point counts once it names itself; afterwards the replica is brought to rest."""
        with reaching(self.name):
            with self._lock:
                machine = self._begun()
            machine.describe(draft, draft["vhds"])
            moment = utc(draft["timestamp"] / 1000)
            marks = vm_marks(
                self._context.job,
                self._source().uuid,
                sr_uuid=machine.sr.uuid,
                snapshot_uuid=str(draft["vmSnapshot"].get("uuid", "")),
                moment=moment,
            )
            self._mark(machine, draft, marks)
            machine.track()
            vm = str(draft["vm"].get("name_label", ""))
            point = str(
                self._session.call_async("VM.snapshot", machine.ref, point_name(self._context.job, vm, moment))
            )
            published = self._count(machine, point)
        self.close()
        return published

    def _mark(self, machine: Machine, draft: dict[str, Any], marks: dict[str, str]) -> None:
        session, run = self._session, {keys.RUN: self._context.run_id}
        for snapshot_ref, vdi_ref in draft["vhds"].items():
            vdi = draft["vdis"][snapshot_ref]
            own = disk_marks(marks, content_key=str(vdi["uuid"]), live_uuid=vdi.get("$snapshot_of$uuid", ""))
            config = {**clean_config(vdi.get("other_config")), **own, **run}
            session.call("VDI.set_other_config", vdi_ref, config)
            session.call("VDI.set_name_label", vdi_ref, vdi.get("name_label", ""))
        vm = draft["vm"]
        config = clean_config(vm.get("other_config"))
        if self._site.target.new_macs:
            config.pop("mac_seed", None)
        config = {**config, **marks, **run, **machine.claim.now()}
        session.call("VM.set_other_config", machine.ref, config)
        told = f"{vm.get('name_description', '')} -- last replication: {marks[keys.DATETIME]}"
        session.call("VM.set_name_description", machine.ref, told)

    def _count(self, machine: Machine, point: str) -> PublishedPoint:
        session = self._session
        ordinary(session, point)
        record = session.record("VM", point)
        uuid, config = str(record["uuid"]), keys.without_claims(record["other_config"])
        session.call("VM.set_other_config", point, {**config, keys.POINT: uuid})
        found = next(one for one in find_points(self._site.look()) if one.ref == point)
        return PublishedPoint(id=found.id, size=sum(disk.used_bytes for disk in found.disks))

    def close(self) -> None:
        """Bring the replica to rest: as published, or as it was before."""
        self._held.close()
        self._machine = None

    def _settle(self) -> None:
        machine = self._machine
        if machine is None or not machine.ref:
            return
        try:
            take_back(self._session, self._context.run_id, refs=[machine.ref], disks=machine.made)
        except XapiError as error:
            self._warn(f"the replica is brought to rest by the next start: {error}", self.name)

    # -- retention

    def delete_points(self, ids: Iterable[str]) -> list[str]:
        """Remove restore points; the replica stays. Each is marked first, so that one whose removal is interrupted
        counts no more and goes later."""
        wanted, (points, _) = set(ids), self._look()
        gone: list[str] = []
        with reaching(self.name):
            for point in points:
                if point.id in wanted:
                    replica = replica_of(self._context.job.id, self._source().uuid)
                    expire(self._session, point.ref, replica)
                    self._remove(point.ref)
                    gone.append(point.id)
        return gone

    def _remove(self, ref: str) -> None:
        self._session.call("VM.remove_from_blocked_operations", ref, "destroy")
        remove_snapshot(self._session, ref, vdis_of(self._session, ref))

    def merge(
        self,
        progress: Callable[[MergeProgress], None] | None = None,
        *,
        cancel: Callable[[], None] | None = None,
        begin: bool = True,
    ) -> MergeReport:
        """The pool coalesces by itself; what is left of restore points whose removal was interrupted goes."""
        with reaching(self.name):
            wanted = replica_of(self._context.job.id, self._source().uuid)
            for ref in expired(self._session.records("VM"), wanted):
                self._remove(ref)
        return MergeReport()
