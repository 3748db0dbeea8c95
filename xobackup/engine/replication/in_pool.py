"""What targets in a pool have in common: no locks on objects, no memory of VMs, no choice of remotes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NoReturn

from xobackup.engine.directory_target import History
from xobackup.engine.errors import TargetFailed, UsageError

if TYPE_CHECKING:
    from schedules.retention import Entry
    from xobackup.engine.job import Job
    from xobackup.engine.target import DiskWriter, ImageWriter, Published
    from xobackup.repository.images.writer import ImageResult
    from xobackup.repository.protection import Held


class InPool:
    """The part of :class:`xobackup.engine.target.Target` that has one answer here."""

    takes_memory = False
    elsewhere: tuple[Entry, ...] = ()
    name: str

    def free_bytes(self) -> int | None:
        """The SR says so when it is full."""
        return None

    def history(self, job: Job) -> History:
        """Replicas take no part in choosing a remote."""
        return History(newest_ms=0, newest_of_job_ms=0, entries=[])

    def stands_for(self, job: Job, timestamp_ms: int) -> list[str]:
        """Retention reads it from the times."""
        return []

    def held(self, ids: Collection[str]) -> dict[str, Held]:
        return {}

    def not_locked(self, point: Published) -> str:
        return ""

    def needed(self, ids: Collection[str]) -> set[str]:
        return set()

    def note_memory(self, job_id: str, vdi_uuid: str) -> None:
        """A replica has none."""

    def last_image_bytes(self, job_id: str) -> int | None:
        return None

    # what only the other kind of replication does

    def begin_image(self, *, timestamp_ms: int, bound_bytes: int | None = None) -> ImageWriter:
        self._refuse("archives")

    def publish_image(self, draft: dict[str, Any], image: ImageResult) -> Published:
        self._refuse("archives")

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
        self._refuse("single disks")

    def publish(self, draft: dict[str, Any]) -> Published:
        self._refuse("single disks")

    def _refuse(self, what: str) -> NoReturn:
        raise TargetFailed(self.name, UsageError(f"this replication does not take {what}"))
