"""The VM's directory on a remote as a target of its backup."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schedules.retention import Entry, stands_for
from xobackup.engine.base import RemoteTip
from xobackup.repository.base import BaseRefusal
from xobackup.repository.errors import Refused
from xobackup.repository.metadata import RestorePoint

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.target import Published
    from xobackup.engine.view import VmView
    from xobackup.repository.base import Tip
    from xobackup.repository.images.writer import ImageResult, ImageWriter
    from xobackup.repository.merging import MergeProgress, MergeReport
    from xobackup.repository.protection import Held
    from xobackup.repository.vm_directory import VmDirectory
    from xobackup.repository.writer import DiskWriter


def entries_of(points: Iterable[RestorePoint], job_id: str, schedule_id: str, *, mode: str) -> list[Entry]:
    """What retention judges of ``points``: those of one schedule of the job, fulls and deltas apart."""
    return [
        Entry(id=point.id, timestamp_ms=point.timestamp_ms)
        for point in points
        if point.schedule_id == schedule_id and point.job_id == job_id and point.mode == mode
    ]


def remote_tip(tip: Tip) -> RemoteTip:
    """What a plan wants to know of the end of a lineage."""
    return RemoteTip(
        snapshot_uuid=tip.snapshot_uuid,
        virtual_size_bytes=tip.virtual_size_bytes,
        size_max_bytes=tip.size_max_bytes,
        problem=tip.problem,
        known=tip.known,
        chain_end=tip.chain_end,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Of a VM on one remote. Times as of :func:`newest_ms`."""

    newest_ms: int
    newest_of_job_ms: int
    """In the job's mode."""
    entries: list[Entry]
    """What its retention judges."""


def newest_ms(points: Iterable[RestorePoint], job_id: str = "", *, mode: str = "") -> int:
    """Timestamp of the newest, of a job and a mode when given; 0 when there is none."""
    chosen = (point for point in points if job_id in ("", point.job_id) and mode in ("", point.mode))
    return max((point.timestamp_ms for point in chosen), default=0)


class DirectoryTarget:
    """The VM's directory on the remote called ``name``."""

    takes_memory = True
    keep: int | None = None

    def __init__(self, name: str, directory: VmDirectory) -> None:
        self.name = name
        self.elsewhere: tuple[Entry, ...] = ()
        """What retention judges of the job's other remotes, where it spreads its VMs over them."""
        self._directory = directory

    def tips(self, job_id: str, vm: VmView) -> dict[str, RemoteTip]:
        """The newest member of each disk's lineage."""
        return {disk.vdi_uuid: remote_tip(self._directory.tip(job_id, disk.vdi_uuid)) for disk in vm.disks}

    def newest_ms(self) -> int:
        """Timestamp of the newest restore point of the VM, 0 when there is none."""
        return newest_ms(self._directory.points().points)

    def history(self, job: Job) -> History:
        """What decides whether a job's next backup goes here."""
        points, mode = self._directory.points().points, job.settings.mode
        return History(
            newest_ms=newest_ms(points),
            newest_of_job_ms=newest_ms(points, job.id, mode=mode),
            entries=entries_of(points, job.id, job.schedule_id, mode=mode),
        )

    def entries(self, job_id: str, schedule_id: str, *, mode: str = "delta") -> list[Entry]:
        """What retention judges: the restore points of one schedule of the job, fulls and deltas apart."""
        return entries_of(self._directory.points().points, job_id, schedule_id, mode=mode)

    def stands_for(self, job: Job, timestamp_ms: int) -> list[str]:
        """The periods of the long term that a restore point of this moment opens here."""
        long_term = job.settings.long_term
        if not long_term.kept:
            return []
        own = self.entries(job.id, job.schedule_id, mode=job.settings.mode)
        return stands_for(timestamp_ms, [*own, *self.elsewhere], long_term)

    def drop_empty(self) -> None:
        """Leave no trace of the VM where it has nothing."""
        self._directory.drop_empty()

    def held(self, ids: Collection[str]) -> dict[str, Held]:
        """Which of these restore points a lock keeps."""
        return self._directory.held_points(
            [point for point in self._directory.points().points if point.id in ids] if ids else []
        )

    def not_locked(self, point: Published) -> str:
        """What is wrong with the lock on a point that was just published; ``""``: nothing."""
        assert isinstance(point, RestorePoint)
        return self._directory.not_locked(point)

    def needed(self, ids: Collection[str]) -> set[str]:
        """Which of these restore points stay because others build on them."""
        return self._directory.needed_points(ids)

    def free_bytes(self) -> int | None:
        """Space left, where the storage knows."""
        return self._directory.free_bytes()

    def last_image_bytes(self, job_id: str) -> int | None:
        """Length of the newest full backup of the job."""
        points = [point for point in self._directory.points().points if point.xva and point.job_id == job_id]
        return points[-1].size if points else None

    def begin_image(self, *, timestamp_ms: int, bound_bytes: int | None = None) -> ImageWriter:
        """Begin the image of a full backup, of disks that hold at most ``bound_bytes``."""
        return self._directory.begin_image(timestamp_ms, bound_bytes=bound_bytes)

    def publish_image(self, draft: dict[str, Any], image: ImageResult) -> RestorePoint:
        return self._directory.publish_image(draft, image)

    def begin_disk(
        self,
        job_id: str,
        live_uuid: str,
        *,
        timestamp_ms: int,
        snapshot_uuid: str,
        virtual_size_bytes: int,
        base_uuid: str,
    ) -> DiskWriter:
        """Begin a disk; ``base_uuid`` is the snapshot it continues, ``""`` for a full."""
        base = None
        if base_uuid:
            found = self._directory.find_base(job_id, live_uuid, [base_uuid], virtual_size_bytes=virtual_size_bytes)
            if isinstance(found, BaseRefusal):
                raise Refused(found.code.value, f"{self.name}: disk {live_uuid}", found.reason)
            base = found
        return self._directory.begin_disk(
            job_id,
            live_uuid,
            timestamp_ms=timestamp_ms,
            snapshot_uuid=snapshot_uuid,
            virtual_size_bytes=virtual_size_bytes,
            base=base,
        )

    def note_memory(self, job_id: str, vdi_uuid: str) -> None:
        """Say that this disk is the memory of a VM."""
        self._directory.note_memory(job_id, vdi_uuid)

    def publish(self, draft: dict[str, Any]) -> RestorePoint:
        return self._directory.publish(draft)

    def delete_points(self, ids: Iterable[str]) -> list[str]:
        return self._directory.delete_points(ids)

    def merge(
        self,
        progress: Callable[[MergeProgress], None] | None = None,
        *,
        cancel: Callable[[], None] | None = None,
        begin: bool = True,
    ) -> MergeReport:
        """``begin`` False: only finish what was interrupted."""
        return self._directory.merge(progress, cancel=cancel, begin=begin)
