"""A VM's directory under the lock: everything that changes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remotes.contract import Remote
from remotes.errors import NotFound, RemoteError
from vhd.codec import Codec
from xobackup.clock import Clock
from xobackup.repository.adaptive import AdaptiveZstd
from xobackup.repository.base import BaseRefusal, Tip, find_base, tip_of
from xobackup.repository.begun import BegunDisk
from xobackup.repository.building import needed_points
from xobackup.repository.caching import drop_cache, rebuild_cache
from xobackup.repository.clean import plan_clean
from xobackup.repository.cleaning import CleanReport, apply_clean
from xobackup.repository.codecs import CODECS, ZstdCodec
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.errors import Locked, LockLost, PointNotFound, Refused
from xobackup.repository.findings import CleanFinding
from xobackup.repository.images.notes import delete_image, forget_image, note_image
from xobackup.repository.images.publish import publish_image
from xobackup.repository.images.writer import ImageResult, ImageWriter
from xobackup.repository.inflight import InFlight
from xobackup.repository.layout import (
    checked_uuid,
    data_name,
    disk_name,
    lineage_path,
    metadata_name,
    point_id,
    timestamp_name,
    vm_directory,
)
from xobackup.repository.lineage import Lineage, read_lineage
from xobackup.repository.listing import PointListing, list_points
from xobackup.repository.locking import VmLock
from xobackup.repository.memory import memory_lineages, note_memory
from xobackup.repository.merging import MergeProgress, MergeReport, plan_merges, run_merges
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.options import RepositoryOptions, as_directory
from xobackup.repository.pins import Pin, drop_pin, held_points, put_pin, read_pins
from xobackup.repository.protection import Held, not_locked, with_chain_end
from xobackup.repository.publishing import publish, refuse_taken
from xobackup.repository.reclaim import ReclaimPlan, named_disks
from xobackup.repository.repair.damage import DamagedBlock
from xobackup.repository.repair.images import DamagedImage, ImageRepairs, ImageSource, repair_images
from xobackup.repository.repair.rewrite import RepairReport, repair_blocks
from xobackup.repository.repair.sources import BlockSource
from xobackup.repository.workspace import RemoteWorkspace
from xobackup.repository.writer import Base, DiskSpec, DiskWriter


class VmDirectory:
    """One VM's directory, from :meth:`Repository.lock`; only valid while the lock is held."""

    def __init__(
        self,
        remote: Remote,
        vm: str,
        lock: VmLock,
        *,
        clock: Clock,
        options: RepositoryOptions,
        in_flight: InFlight | None = None,
    ) -> None:
        """``in_flight``: shared by all VMs of the repository, where several requests at a time are worth while."""
        self.vm = vm
        self.lock = lock
        self._remote = remote
        self._clock = clock
        self._options = options
        self._in_flight = in_flight
        self._ends: dict[tuple[str, str], str] = {}
        """Why a chain must not grow any more, by lineage and newest disk."""

    def points(self) -> PointListing:
        """The restore points, every JSON read: what decisions that delete are made from."""
        return list_points(self._remote, self.vm, use_cache=False)

    def lineage(self, job_id: str, live_vdi_uuid: str) -> Lineage:
        """All disks of one VDI by one job."""
        path = lineage_path(job_id, live_vdi_uuid)
        return read_lineage(self._workspace(path), path, CODECS)

    def tip(self, job_id: str, live_vdi_uuid: str) -> Tip:
        """The newest published disk of a lineage, and whether it can be continued."""
        lineage = self.lineage(job_id, live_vdi_uuid)
        published = named_disks(self._listing(), lineage.path)
        tip = tip_of(lineage, published, vhd_directory=self._options.vhd_directory)
        key = (lineage.path, tip.name)
        if key not in self._ends:  # each costs a request for every disk of the chain
            told = with_chain_end(self._remote, self.vm, lineage, tip, self._options.lock, now_s=self._clock.now_s())
            self._ends[key] = told.chain_end
        return replace(tip, chain_end=self._ends[key])

    def held_points(self, points: Iterable[RestorePoint]) -> dict[str, Held]:
        """Which of ``points`` a lock or a pin keeps from being deleted, by id."""
        return held_points(self._remote, self.vm, points, now_s=self._clock.now_s())

    def pin(self, ids: Iterable[str], pin: Pin | None) -> list[str]:
        """Pin restore points; ``None`` takes their pins off. :class:`PointNotFound` before anything changes."""
        listing, wanted = self._listing(), [point_id(identity) for identity in ids]
        for identity in wanted:
            if pin is not None and listing.point(identity) is None:
                raise PointNotFound(self.vm, identity)
        for identity in wanted:
            self.lock.check()
            if pin is None:
                drop_pin(self._remote, self.vm, identity)
            else:
                put_pin(self._remote, self.vm, identity, pin)
        return wanted

    def find_base(
        self,
        job_id: str,
        live_vdi_uuid: str,
        snapshot_uuids: Sequence[str],
        *,
        virtual_size_bytes: int | None = None,
    ) -> Base | BaseRefusal:
        """The disk a delta may continue: that of the first snapshot (newest first) that can be; or why none can."""
        lineage = self.lineage(job_id, live_vdi_uuid)
        return find_base(
            lineage,
            named_disks(self._listing(), lineage.path),
            snapshot_uuids,
            vhd_directory=self._options.vhd_directory,
            virtual_size_bytes=virtual_size_bytes,
        )

    def not_locked(self, point: RestorePoint) -> str:
        """What is wrong with the lock on a point that was just published; ``""``: nothing."""
        return not_locked(self._remote, point, self._options.lock, now_s=self._clock.now_s())

    def needed_points(self, old: Collection[str]) -> set[str]:
        """Which of the restore points ``old`` others build on, where that keeps them: on a remote that locks."""
        rule = self._options.lock
        if not old or rule is None:
            return set()
        return needed_points(self.points(), old, lambda path: read_lineage(self._workspace(path), path, CODECS))

    def begin_disk(
        self,
        job_id: str,
        live_vdi_uuid: str,
        *,
        timestamp_ms: int,
        snapshot_uuid: str,
        virtual_size_bytes: int,
        base: Base | None,
    ) -> DiskWriter:
        """Begin to write one disk of the restore point of ``timestamp_ms``."""
        self.lock.check()
        checked_uuid("job", job_id)
        checked_uuid("disk", live_vdi_uuid)
        point = timestamp_name(timestamp_ms)
        refuse_taken(self._remote, self.vm, point)
        path = lineage_path(job_id, live_vdi_uuid)
        directory = as_directory(virtual_size_bytes, vhd_directory=self._options.vhd_directory)
        name = disk_name(point, directory=directory)
        workspace = self._workspace(path)
        self._refuse_older(workspace, path, name)
        spec = DiskSpec(
            lineage=path,
            name=name,
            timestamp_ms=timestamp_ms,
            snapshot_uuid=snapshot_uuid,
            virtual_size_bytes=virtual_size_bytes,
            base=base,
            codec=self._options.codec,
            zstd=self._zstd(),
        )
        digests = DigestStore(self._remote, self.vm, path) if self._options.digests else None
        placed = spec.directory and not self._remote.capabilities.atomic_rename
        begun = BegunDisk(remote=self._remote, vm=self.vm, lineage=path, data=data_name(name)) if placed else None
        return DiskWriter(
            workspace, spec, digests=digests, check=self.lock.check, begun=begun, in_flight=self._in_flight
        )

    def note_memory(self, job_id: str, vdi_uuid: str) -> None:
        """Say that the disk about to begin is the memory of a VM: nothing will continue it."""
        self.lock.check()
        note_memory(self._remote, self.vm, lineage_path(checked_uuid("job", job_id), checked_uuid("disk", vdi_uuid)))

    def begin_image(self, timestamp_ms: int, *, bound_bytes: int | None = None) -> ImageWriter:
        """Begin to write the image of the full backup of ``timestamp_ms``. ``bound_bytes``: what its disks hold at
        most."""
        self.lock.check()
        point = timestamp_name(timestamp_ms)
        refuse_taken(self._remote, self.vm, point)
        return ImageWriter(self._remote, self.vm, point, check=self.lock.check, bound_bytes=bound_bytes)

    def publish_image(self, draft: Mapping[str, Any], image: ImageResult) -> RestorePoint:
        """Publish the full backup that ``draft`` describes; its image is finished. ``size`` and ``xva`` are taken
        from it. Raises :class:`Refused` or :class:`BadMetadata`, before anything changed."""
        return publish_image(self._remote, self.vm, draft, image, check=self.lock.check)

    def drop_empty(self) -> None:
        """Remove the directory that the lock made, if nothing was put there."""
        if self._remote.capabilities.hierarchical:
            with contextlib.suppress(RemoteError, LockLost):
                self.lock.check()
                self._remote.remove_directory(vm_directory(self.vm))

    def free_bytes(self) -> int | None:
        """Space left on the storage, where it knows."""
        usage = self._remote.usage()
        return None if usage is None else usage.free_bytes

    def publish(self, draft: Mapping[str, Any]) -> RestorePoint:
        """Publish the restore point that ``draft`` (Xen Orchestra's keys) describes; its disks are finished.

        ``size`` and ``isVhdDifferencing`` are taken from the disks. Raises :class:`Refused` or
        :class:`BadMetadata`, before anything changed, when it must not be published.
        """
        return publish(self._remote, self.vm, draft, check=self.lock.check)

    def delete_points(self, ids: Iterable[str]) -> list[str]:
        """Delete restore points: their JSON (and image), nothing else; disks are reclaimed by :meth:`merge`."""
        wanted = [point_id(identity) for identity in ids]
        listing = self._listing()
        found: list[RestorePoint] = []
        for identity in wanted:
            point = listing.point(identity)
            if point is None:
                raise PointNotFound(self.vm, identity)
            found.append(point)
        if not found:
            return []
        held = self.held_points(found)
        if held:
            raise Locked(self.vm, [str(each) for each in held.values()])
        over = read_pins(self._remote, self.vm)  # whose day has passed
        shared = {point.xva for point in listing.points if point.id not in wanted}
        self.lock.check()
        drop_cache(self._remote, self.vm)
        for point in found:
            self.lock.check()
            for lineage in memory_lineages(point):
                note_memory(self._remote, self.vm, lineage)
            image = point.xva if point.xva not in shared else None
            if image is not None:
                note_image(self._remote, self.vm, image)
            self._remote.delete(metadata_name(self.vm, point.id), missing_ok=True)
            if point.id in over:
                drop_pin(self._remote, self.vm, point.id)
            if image is not None:
                delete_image(self._remote, self.vm, image)
                forget_image(self._remote, self.vm, image)
        rebuild_cache(self._remote, self.vm)
        return wanted

    def merge_plan(self) -> ReclaimPlan:
        """What :meth:`merge` would do, and what it would leave alone and why."""
        return plan_merges(self._remote, self.vm, now_s=self._clock.now_s(), rule=self._options.lock)

    def merge(
        self,
        progress: Callable[[MergeProgress], None] | None = None,
        *,
        cancel: Callable[[], None] | None = None,
        begin: bool = True,
    ) -> MergeReport:
        """Finish interrupted merges, clear litter, merge and delete what no restore point needs.

        Call it at the start of a run, so that leftovers of an interrupted one are gone, and after retention.
        ``begin`` False: no merge begins that had not begun before.
        """

        def check() -> None:
            self.lock.check()
            if cancel is not None:
                cancel()

        return run_merges(
            self._remote,
            self.vm,
            clock=self._clock,
            check=check,
            progress=progress,
            digests=self._options.digests,
            begin=begin,
            rule=self._options.lock,
        )

    def clean_plan(self) -> list[CleanFinding]:
        """Everything that lies about, with reasons and proposals; changes nothing."""
        return plan_clean(self._remote, self.vm, now_s=self._clock.now_s(), rule=self._options.lock)

    def clean_apply(self, wanted: Collection[CleanFinding] | None = None) -> CleanReport:
        """Do what ``wanted`` (by default everything) proposes, as far as it is certain now."""
        return apply_clean(
            self._remote,
            self.vm,
            clock=self._clock,
            check=self.lock.check,
            wanted=wanted,
            rule=self._options.lock,
        )

    def _listing(self) -> PointListing:
        return list_points(self._remote, self.vm, use_cache=self._options.use_cache)

    def repair(self, blocks: Sequence[DamagedBlock], sources: Sequence[BlockSource]) -> RepairReport:
        """Write damaged blocks again that one of ``sources`` has a proven copy of."""
        stamp = timestamp_name(int(self._clock.now_s() * 1000))
        return repair_blocks(self._remote, self.vm, blocks, sources, stamp=stamp, check=self.lock.check)

    def repair_images(self, images: Sequence[DamagedImage], sources: Sequence[ImageSource]) -> ImageRepairs:
        """Write images of full backups again that one of ``sources`` has a proven copy of."""
        return repair_images(self._remote, images, sources, check=self.lock.check)

    def _zstd(self) -> Codec:
        level = self._options.zstd_level
        return AdaptiveZstd(self._clock.monotonic_s) if level is None else ZstdCodec(level)

    def _workspace(self, path: str) -> RemoteWorkspace:
        return RemoteWorkspace(self._remote, f"{vm_directory(self.vm)}/{path}")

    def _refuse_older(self, workspace: RemoteWorkspace, path: str, name: str) -> None:
        """Names must grow with time: Xen Orchestra finds the newest disk by its name."""
        try:
            later = [other for other in workspace.names("") if other.endswith(".vhd") and other >= name]
        except NotFound:
            return
        if later:
            problem = f"{later[-1]} is there: a new disk's name must sort after every other (is the clock right?)"
            raise Refused("not-newest", f"{path}/{name}", problem)
