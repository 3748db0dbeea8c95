"""Where a VM's backup goes while the locks are held: what is there, writing to it, who is still with us.

A target is the VM's directory on a remote, or its replica in another pool (:mod:`xobackup.engine.replication`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from remotes.errors import RemoteError
from schedules.retention import Entry
from vhd.errors import VhdError
from xobackup.engine.base import RemoteTip
from xobackup.engine.errors import AllSinksFailed, NoRoom, TargetFailed
from xobackup.repository.errors import RepositoryError

if TYPE_CHECKING:
    from vhd.block import Block
    from xobackup.engine.directory_target import History
    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView
    from xobackup.repository.base_disk import BaseDisk
    from xobackup.repository.images.writer import ImageResult
    from xobackup.repository.merging import MergeProgress, MergeReport
    from xobackup.repository.protection import Held
    from xobackup.repository.writer import DiskResult


SINK_ERRORS = (RemoteError, RepositoryError, VhdError, OSError, AllSinksFailed, NoRoom, TargetFailed)
"""What makes a target drop out instead of failing the VM."""


class Published(Protocol):
    """A restore point; ``size`` in bytes."""

    @property
    def id(self) -> str: ...
    @property
    def size(self) -> int: ...


class DiskWriter(Protocol):
    """One disk being written: every block once, then ``finish``; else ``abort``. Raises :data:`SINK_ERRORS`."""

    def open_base(self) -> BaseDisk | None:
        """The disk that a delta continues, where single blocks of it can be read."""
        ...

    def write_block(self, block: Block) -> None: ...
    def finish(self) -> DiskResult: ...
    def abort(self) -> None: ...


class ImageWriter(Protocol):
    """One archive being written: all of it in order, then ``finish``; else ``abort``. Raises :data:`SINK_ERRORS`."""

    def write(self, piece: memoryview) -> object: ...
    def finish(self, md5: str) -> ImageResult:
        """``md5``: what was written, by who sent it."""
        ...

    def abort(self) -> None: ...


class Target(Protocol):
    """Somewhere that a VM's backup goes, called ``name``. Raises :data:`SINK_ERRORS`."""

    name: str
    keep: int | None
    """Restore points it keeps, where that is not as the job says."""
    elsewhere: tuple[Entry, ...]
    """What retention judges of the job's other remotes, where it spreads its VMs over them."""
    takes_memory: bool
    """Whether the memory of a VM has a place there."""

    def tips(self, job_id: str, vm: VmView) -> dict[str, RemoteTip]:
        """What a delta of each disk would continue, by live VDI uuid."""
        ...

    def newest_ms(self) -> int:
        """Timestamp of the newest restore point of the VM, 0 when there is none."""
        ...

    def history(self, job: Job) -> History:
        """What decides whether a job's next backup goes here."""
        ...

    def entries(self, job_id: str, schedule_id: str, *, mode: str = "delta") -> list[Entry]:
        """What retention judges: the restore points of one schedule of the job, fulls and deltas apart."""
        ...

    def stands_for(self, job: Job, timestamp_ms: int) -> list[str]:
        """The periods of the long term that a restore point of this moment opens here."""
        ...

    def held(self, ids: Collection[str]) -> Mapping[str, Held]:
        """Which of these restore points a lock keeps."""
        ...

    def not_locked(self, point: Published) -> str:
        """What is wrong with the lock on a point that was just published; ``""``: nothing."""
        ...

    def needed(self, ids: Collection[str]) -> Collection[str]:
        """Which of these restore points stay because others build on them."""
        ...

    def free_bytes(self) -> int | None: ...
    def last_image_bytes(self, job_id: str) -> int | None: ...
    def begin_image(self, *, timestamp_ms: int, bound_bytes: int | None = None) -> ImageWriter: ...
    def publish_image(self, draft: dict[str, Any], image: ImageResult) -> Published: ...
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
        ...

    def note_memory(self, job_id: str, vdi_uuid: str) -> None: ...
    def publish(self, draft: dict[str, Any]) -> Published: ...
    def delete_points(self, ids: Iterable[str]) -> list[str]: ...
    def merge(
        self,
        progress: Callable[[MergeProgress], None] | None = None,
        *,
        cancel: Callable[[], None] | None = None,
        begin: bool = True,
    ) -> MergeReport:
        """``begin`` False: only finish what was interrupted."""
        ...


class Targets:
    """The remotes that are still with us. One that fails drops out; when none is left the VM fails."""

    def __init__(self, what: str, tell: Callable[[str, BaseException], None], *, needed: bool = True) -> None:
        """``what`` names the VM in the error; ``tell`` hears of each remote that drops out. Not ``needed``: the job
        has none, and does without."""
        self._what = what
        self._needed = needed
        self._tell = tell
        self._targets: dict[str, Target] = {}
        self.failures: dict[str, BaseException] = {}
        self.aside: dict[str, Target] = {}
        """Remotes that are locked too, but get nothing: another was chosen."""

    def choose(self, name: str, elsewhere: Iterable[Entry]) -> None:
        """Only this one from now on; ``elsewhere``: what retention judges of the others."""
        self.aside |= {other: target for other, target in self._targets.items() if other != name}
        self._targets = {name: self._targets[name]}
        self._targets[name].elsewhere = tuple(elsewhere)

    def add(self, target: Target) -> None:
        self._targets[target.name] = target

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self._targets.values()))

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def by_name(self) -> Mapping[str, Target]:
        return dict(self._targets)

    def drop(self, failures: Mapping[str, BaseException]) -> None:
        """Let go of remotes that failed."""
        for name, error in failures.items():
            if name not in self.failures:
                self.failures[name] = error
                self._targets.pop(name, None)
                self._tell(name, error)

    def require(self) -> None:
        """Raise unless somebody is left."""
        if not self._targets and self._needed:
            raise AllSinksFailed(self._what, self.failures)

    def each(self, action: Callable[[Target], None]) -> None:
        """Do something with every remote; those that fail drop out."""
        for target in self:
            try:
                action(target)
            except SINK_ERRORS as error:
                self.drop({target.name: error})
        self.require()
