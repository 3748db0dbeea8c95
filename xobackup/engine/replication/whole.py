"""Full replication: each restore point is a VM of its own, made of the archive that the source pool streams.

XAPI makes the VM while the archive arrives. It is marked and its start blocked before the last piece is sent, so that
it is never a VM that nobody knows; XAPI itself takes it back when the stream breaks off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from schedules.retention import Entry
from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import REPLICATE, Active
from xobackup.engine.base import RemoteTip
from xobackup.engine.full.restore_vm import MADE_S, MARK_EVERY_S
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.publish import Surroundings, described_vif
from xobackup.engine.replication.in_pool import InPool
from xobackup.engine.replication.marks import (
    REPLICA_TEXT,
    UNFINISHED_TEXT,
    WHOLE_TAG,
    replica_of,
    vm_marks,
    whole_name,
)
from xobackup.engine.replication.points import ReplicaPoint, expired, find_points, published_unfinished
from xobackup.engine.replication.records import nics, tags_of
from xobackup.engine.replication.settle import block, destroy_replica, expire, ordinary, take_back
from xobackup.engine.replication.site import able_srs, choose_sr
from xobackup.engine.replication.writer import PublishedPoint, reaching
from xobackup.engine.restore.records import clean_config
from xobackup.engine.taking.taken import vdis_of
from xobackup.repository.images.writer import ImageResult
from xobackup.repository.merging import MergeReport
from xobackup.xapi.archives import open_vm_import
from xobackup.xapi.errors import NotFound, TransferCancelled, XapiError
from xobackup.xapi.other_config import set_keys

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.context import RunContext
    from xobackup.engine.replication.site import ReplicaSite, Storage
    from xobackup.engine.view import VmView
    from xobackup.repository.merging import MergeProgress
    from xobackup.xapi.archives import VmImport


class WholeTarget(InPool):
    """Satisfies :class:`xobackup.engine.target.Target` for jobs of full backups."""

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
        self._writer: WholeWriter | None = None

    def tips(self, job_id: str, vm: VmView) -> dict[str, RemoteTip]:
        """Nothing continues from anything."""
        return {disk.vdi_uuid: RemoteTip() for disk in vm.disks}

    def newest_ms(self) -> int:
        return max((point.timestamp_ms for point in self._points()), default=0)

    def entries(self, job_id: str, schedule_id: str, *, mode: str = "full") -> list[Entry]:
        found = [one for one in self._points() if one.schedule_id == schedule_id]
        return [Entry(id=one.id, timestamp_ms=one.timestamp_ms) for one in found]

    def _points(self) -> list[ReplicaPoint]:
        job, srs = self._context.job, self._site.sr_uuids
        with reaching(self.name):
            records = self._site.look()
        return find_points(records, job_id=job.id, vm_uuid=self._source().uuid, srs=srs, whole=True)

    def begin_image(self, *, timestamp_ms: int, bound_bytes: int | None = None) -> WholeWriter:
        context, vm = self._context, self._source()
        with reaching(self.name):
            largest = max((disk.virtual_size_bytes for disk in vm.disks), default=0)
            srs = able_srs(self._site.srs, largest) or self._site.srs
            sr = choose_sr(srs, self._site.look(), self._points())
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
        self._writer = WholeWriter(context, self._site, sr, name=vm.name, hold=claim.hold, cancel=self._cancel)
        return self._writer

    def publish_image(self, draft: dict[str, Any], image: ImageResult) -> PublishedPoint:
        """The restore point counts once it names itself."""
        assert self._writer is not None
        with reaching(self.name):
            ref, moment = self._writer.vm_ref, utc(draft["timestamp"] / 1000)
            self._describe(ref, draft, whole_name(self._context.job, str(draft["vm"]["name_label"]), moment))
            marks = vm_marks(
                self._context.job,
                self._source().uuid,
                sr_uuid=self._writer.sr.uuid,
                snapshot_uuid=str(draft["vmSnapshot"].get("uuid", "")),
                moment=moment,
            )
            uuid = str(self._session.call("VM.get_uuid", ref))
            config = clean_config(self._session.call("VM.get_other_config", ref))
            self._session.call("VM.set_other_config", ref, {**config, **marks, keys.POINT: uuid})
            block(self._session, ref, REPLICA_TEXT)
        self.close()
        point = next(one for one in self._points() if one.uuid == uuid)
        return PublishedPoint(id=point.id, size=image.size_bytes)

    def _describe(self, ref: str, draft: dict[str, Any], name: str) -> None:
        session, vm = self._session, draft["vm"]
        session.call("VM.set_tags", ref, tags_of(vm, WHOLE_TAG))
        session.call("VM.set_ha_restart_priority", ref, "")
        source = self._context.session
        around = Surroundings(srs={}, networks=source.records("network"), pifs=source.records("PIF"))
        vifs = {
            one: described_vif(source.record("VIF", one), around) for one in draft["vmSnapshot"].get("VIFs") or ()
        }
        wanted, left_out = nics(vifs, self._site.target, self._site.offer)
        for told in left_out:
            self._warn(told, self.name)
        for vif in session.call("VM.get_VIFs", ref):
            session.call("VIF.destroy", vif)
        for nic in wanted:
            session.call("VIF.create", {**nic, "VM": ref})
        assert self._writer is not None
        for vdi_ref, vdi in vdis_of(session, ref).items():
            config = {**clean_config(vdi["other_config"]), keys.SR: self._writer.sr.uuid}
            session.call("VDI.set_other_config", vdi_ref, config)
        session.call("VM.set_name_label", ref, name)

    def close(self) -> None:
        """What is not published is removed."""
        self._held.close()
        self._writer = None

    def _settle(self) -> None:
        ref = self._writer.vm_ref if self._writer is not None else ""
        try:
            if ref:
                take_back(self._session, self._context.run_id, refs=[ref], disks=())
        except XapiError as error:
            self._warn(f"what was begun is removed by the next start: {error}", self.name)

    def delete_points(self, ids: Iterable[str]) -> list[str]:
        """Remove restore points, each marked first; one that somebody may start by now is no restore point."""
        wanted, gone = set(ids), []
        replica = replica_of(self._context.job.id, self._source().uuid)
        for point in self._points():
            if point.id in wanted:
                with reaching(self.name):
                    expire(self._session, point.ref, replica)
                    destroy_replica(self._session, point.ref)
                gone.append(point.id)
        return gone

    def merge(
        self,
        progress: Callable[[MergeProgress], None] | None = None,
        *,
        cancel: Callable[[], None] | None = None,
        begin: bool = True,
    ) -> MergeReport:
        """What is left of restore points whose removal was interrupted goes; one whose run died right after it was
        published is told to be whole."""
        with reaching(self.name):
            replica, vms = replica_of(self._context.job.id, self._source().uuid), self._session.records("VM")
            for ref in expired(vms, replica, whole=True):
                destroy_replica(self._session, ref)
            for ref in published_unfinished(vms, replica):
                block(self._session, ref, REPLICA_TEXT)
        return MergeReport()


class WholeWriter:
    """The archive on its way into the pool. One piece is held back until the VM is marked."""

    def __init__(
        self,
        context: RunContext,
        site: ReplicaSite,
        sr: Storage,
        *,
        name: str,
        hold: Callable[[str], None],
        cancel: CancelToken,
    ) -> None:
        """``hold`` claims the VM once it is there."""
        self.sr = sr
        self.vm_ref = ""
        self._context = context
        self._site = site
        self._session = site.session
        self._name = name
        self._hold = hold
        self._cancel = cancel
        self._clock = context.world.clock
        self._looked_s = self._clock.monotonic_s()
        self._last = b""
        self._sent = 0
        self._opened = ExitStack()
        self._import: VmImport | None = None

    def write(self, piece: memoryview) -> None:
        """Send the piece before this one."""
        with reaching(self._site.name):
            self._send()
            now = self._clock.monotonic_s()
            if not self.vm_ref and self._sent and now - self._looked_s >= MARK_EVERY_S:
                self._looked_s = now
                self._mark(self._stream().made())
        self._last = bytes(piece)

    def finish(self, md5: str) -> ImageResult:
        """Returns when the pool says that all of it is there."""
        stream = self._stream()
        with reaching(self._site.name):
            deadline = self._clock.monotonic_s() + MADE_S
            while self._sent and not self.vm_ref and self._clock.monotonic_s() < deadline:
                self._mark(stream.made())
                if not self.vm_ref:
                    self._cancel.sleep(self._clock, MARK_EVERY_S / 10)
            self._send()
            try:
                self._mark(stream.finish())
            except TransferCancelled:
                self._cancel.check()
                raise
            finally:
                self._opened.close()
        return ImageResult(path=self.vm_ref, size_bytes=self._sent, md5=md5)

    def abort(self) -> None:
        """XAPI takes back what it has made of the archive; what is whole already the target removes."""
        self._opened.close()

    def _send(self) -> None:
        if self._last:
            self._stream().write(self._last)
            self._sent += len(self._last)
            self._last = b""

    def _stream(self) -> VmImport:
        if self._import is None:
            self._cancel.check()
            self._import = self._opened.enter_context(
                open_vm_import(
                    self._session,
                    length_bytes=None,
                    sr_ref=self.sr.ref,
                    task_label=keys.task_label(self._context.run_id, f"replication of VM {self._name}"),
                    should_stop=lambda: self._cancel.cancelled,
                )
            )
            self._opened.enter_context(self._cancel.waking(self._import.cancel))
        return self._import

    def _mark(self, refs: list[str]) -> None:
        """Say whose it is, and that it is not finished."""
        for ref in refs[:1]:
            if ref == self.vm_ref:
                return
            with contextlib.suppress(NotFound):
                self._hold(ref)
                set_keys(self._session, "VM", ref, {keys.RUN: self._context.run_id})
                block(self._session, ref, UNFINISHED_TEXT)
                ordinary(self._session, ref)
                self._session.call("VM.set_name_label", ref, f"[Importing…] {self._name}")
                self.vm_ref = ref
