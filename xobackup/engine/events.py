"""What happens in a run, as data. Every event is a frozen dataclass with a stable ``kind``.

The time of day is added by whoever writes an event down (see :mod:`xobackup.engine.journal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Root of all events. ``at_s`` is Unix time, set when it is written."""

    kind: ClassVar[str] = "event"
    durable: ClassVar[bool] = False
    """Whether the sink makes everything so far durable after this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    kind: ClassVar[str] = "run-started"
    durable: ClassVar[bool] = True
    run_id: str
    verb: str
    job: str
    job_id: str
    version: str
    host: str
    pid: int
    limits: list[str] = field(default_factory=list)
    """What is in force, as sentences."""
    reason: str = ""
    """Why it begins, when that is not obvious: which run of which node it follows."""
    schedule: str = ""
    """Whose settings it has, by name; ``""``: the job's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSkippedEvent(Event):
    kind: ClassVar[str] = "vm-skipped"
    vm: str
    vm_name: str
    why: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPlanned(Event):
    """``plan`` is :func:`xobackup.engine.plan.as_data`'s record of the VM."""

    kind: ClassVar[str] = "vm-planned"
    vm: str
    vm_name: str
    plan: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBegan(Event):
    kind: ClassVar[str] = "phase-began"
    vm: str
    phase: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnded(Event):
    kind: ClassVar[str] = "phase-ended"
    durable: ClassVar[bool] = True
    vm: str
    phase: str
    ok: bool
    duration_s: float
    attempt: int = 1
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookBegan(Event):
    """``vm``: empty for a hook of the whole run."""

    kind: ClassVar[str] = "hook-began"
    durable: ClassVar[bool] = True
    vm: str
    on: str
    hook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEnded(Event):
    """``error``: empty when it went well; ``stopped``: its failure was one of the VM or the run."""

    kind: ClassVar[str] = "hook-ended"
    vm: str
    on: str
    hook: str
    ok: bool
    duration_s: float
    error: str = ""
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTaken(Event):
    """The snapshots of a consistent group; ``span_s``: from the first's beginning to the last's end."""

    kind: ClassVar[str] = "group-taken"
    durable: ClassVar[bool] = True
    group: str
    vms: list[str]
    span_s: float
    left_out: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTransferred(Event):
    kind: ClassVar[str] = "disk-transferred"
    vm: str
    disk: str
    disk_name: str
    mode: str
    base: str
    remotes: list[str]
    blocks: int
    """Written to each remote."""
    read_bytes: int
    """Moved from the pool."""
    duration_s: float
    bottleneck: str
    via: str
    """By which rung of :mod:`xobackup.engine.reading.ladder` it was read."""
    not_via: list[str]
    """Why not by a better one."""
    notes: list[str]
    """What went wrong on the way and was got past."""
    sampled_bytes: int = 0
    packed: float | None = None
    """How well a sample of its content can be compressed (:mod:`xobackup.engine.probe`): 1 for not at all."""
    chain: int = 0
    """Deltas since the last full, this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedDown(Event):
    """A way to read a disk turned out not to work; the disk begins again on the next one."""

    kind: ClassVar[str] = "stepped-down"
    vm: str
    disk: str
    disk_name: str
    via: str
    to: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmShutDown(Event):
    """A VM was shut down for its backup; ``duration_s``: what its guest took."""

    kind: ClassVar[str] = "vm-shut-down"
    durable: ClassVar[bool] = True
    vm: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VmStarted(Event):
    """It runs again; ``downtime_s``: since it was asked to shut down."""

    kind: ClassVar[str] = "vm-started"
    vm: str
    downtime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CbtSwitchedOn(Event):
    """``lost``: it had been on before, and this is what is known about why it is not any more."""

    kind: ClassVar[str] = "cbt-switched-on"
    vm: str
    disk: str
    disk_name: str
    lost: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDataPurged(Event):
    """Of the newest snapshot only the change logs are left on the pool."""

    kind: ClassVar[str] = "snapshot-data-purged"
    vm: str
    snapshot: str
    disks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDataKept(Event):
    """The job purges snapshot data, but not of this one."""

    kind: ClassVar[str] = "snapshot-data-kept"
    vm: str
    snapshot: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveTransferred(Event):
    """A whole VM as one archive; ``mode`` is always ``full``."""

    kind: ClassVar[str] = "archive-transferred"
    vm: str
    mode: str
    compression: str
    disks: int
    remotes: list[str]
    read_bytes: int
    duration_s: float
    bottleneck: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FellBackToFull(Event):
    """A disk is transferred whole although it was backed up before."""

    kind: ClassVar[str] = "fell-back-to-full"
    vm: str
    disk: str
    disk_name: str
    why: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPublished(Event):
    kind: ClassVar[str] = "point-published"
    durable: ClassVar[bool] = True
    vm: str
    remote: str
    point: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsExpired(Event):
    kind: ClassVar[str] = "points-expired"
    vm: str
    remote: str
    points: list[str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldByLock(Event):
    """What retention would have deleted or merged, and a lock forbids. ``vm`` may be the uuid of a pool."""

    kind: ClassVar[str] = "held-by-lock"
    vm: str
    remote: str
    points: list[str]
    reason: str
    code: str = ""
    """``endless``: a lock (no pin) of which nothing tells an end: retention would wait for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(Event):
    kind: ClassVar[str] = "merged"
    vm: str
    remote: str
    disks: int
    blocks: int
    moved_bytes: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRemoved(Event):
    kind: ClassVar[str] = "snapshot-removed"
    vm: str
    snapshot: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverCleaned(Event):
    """Something an interrupted run had left behind."""

    kind: ClassVar[str] = "leftover-cleaned"
    vm: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    kind: ClassVar[str] = "warning"
    vm: str = ""
    remote: str = ""
    message: str
    code: str = ""
    """Of what programs have to tell apart: ``damage``, ``not-locked``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSeen(Event):
    """What a run's planning found in a pool. ``unprotected``: VMs (``uuid``, ``name``) that no job selects and nobody
    left out on purpose."""

    kind: ClassVar[str] = "pool-seen"
    pool: str
    vms: int
    unprotected: list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined(Event):
    """Backups of a VM on a remote were read and compared (``what``: ``blocks``), or booted (``boot``).

    ``damage``: what was found wrong, empty when nothing was; ``whole``: all of it was looked at, so that damage that
    was found earlier would have been found again.
    """

    kind: ClassVar[str] = "examined"
    durable: ClassVar[bool] = True
    uuid: str
    name: str
    remote: str
    what: str
    damage: str
    whole: bool
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    kind: ClassVar[str] = "error"
    vm: str = ""
    remote: str = ""
    error: str
    error_class: str
    hint: str = ""
    attempt: int = 0
    """Of the VM, from 1."""
    will_retry: bool = False
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainsAwaited(Event):
    """A VM went to the end of the queue until the storage has coalesced, or ``wait_max_s`` are over."""

    kind: ClassVar[str] = "chains-awaited"
    vm: str
    vm_name: str
    reason: str
    wait_max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthChanged(Event):
    """Other limits on bytes per second are in force than before; ``limits``: as sentences."""

    kind: ClassVar[str] = "bandwidth-changed"
    limits: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited(Event):
    """Something was waited for, longer than a moment."""

    kind: ClassVar[str] = "waited"
    vm: str
    what: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VmEnded(Event):
    """The one final word on a VM."""

    kind: ClassVar[str] = "vm-ended"
    durable: ClassVar[bool] = True
    vm: str
    vm_name: str
    outcome: str
    attempts: int
    duration_s: float
    read_bytes: int
    reason: str = ""
    tried: list[dict[str, Any]] = field(default_factory=list)
    """Every attempt that failed (:class:`~xobackup.engine.report.Tried`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSaved(Event):
    """The database of a pool is on a remote."""

    kind: ClassVar[str] = "pool-saved"
    durable: ClassVar[bool] = True
    pool: str
    pool_name: str
    remote: str
    point: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPointsExpired(Event):
    kind: ClassVar[str] = "pool-points-expired"
    pool: str
    remote: str
    points: list[str]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEnded(Event):
    """The one final word on the backup of a pool's database."""

    kind: ClassVar[str] = "pool-ended"
    durable: ClassVar[bool] = True
    pool: str
    pool_name: str
    outcome: str
    attempts: int
    duration_s: float
    size_bytes: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTried(Event):
    """A pool said whether a dump could be restored to it; nothing was changed."""

    kind: ClassVar[str] = "pool-tried"
    pool: str
    point: str
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRestored(Event):
    """A pool took a dump as its database and restarts into it."""

    kind: ClassVar[str] = "pool-restored"
    durable: ClassVar[bool] = True
    pool: str
    point: str
    answers: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChecked(Event):
    """What was published was booted, asked and removed. ``duration_s``: from the restore to the last answer;
    ``steps``: seconds of each."""

    kind: ClassVar[str] = "health-checked"
    durable: ClassVar[bool] = True
    vm: str
    vm_name: str
    remote: str
    point: str
    ok: bool
    reason: str
    duration_s: float
    steps: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageUsed(Event):
    """What a run asked of a remote whose requests are counted. ``requests``: by the storage's name for them."""

    kind: ClassVar[str] = "storage-used"
    remote: str
    requests: dict[str, int]
    repeated: int
    """Sent again because the first one failed; counted in ``requests`` too."""
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOut(Event):
    """An attempt for a VM waits for a worker; ``site``: of which site, empty for any."""

    kind: ClassVar[str] = "handed-out"
    vm: str
    vm_name: str
    site: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenByWorker(Event):
    """A worker has begun it. ``delivery``: more than 1 when another one had it before."""

    kind: ClassVar[str] = "taken-by-worker"
    durable: ClassVar[bool] = True
    vm: str
    vm_name: str
    worker: str
    site: str
    host: str
    pid: int
    version: str
    delivery: int
    run_id: str
    """Under which the worker works: what it makes on the pool carries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost(Event):
    """The worker was not heard of any more; the VM is given to another, or its attempt has failed."""

    kind: ClassVar[str] = "worker-lost"
    durable: ClassVar[bool] = True
    vm: str
    vm_name: str
    worker: str
    delivery: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    kind: ClassVar[str] = "run-ended"
    durable: ClassVar[bool] = True
    run_id: str
    outcome: str
    ok: int
    failed: int
    skipped: int
    duration_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterrupted(Event):
    """Written by a later start into the journal of a run that never ended."""

    kind: ClassVar[str] = "run-interrupted"
    durable: ClassVar[bool] = True
    run_id: str
    reason: str


def as_record(event: Event, at_s: float) -> dict[str, Any]:
    """The event as JSON data: ``at_s`` and ``kind`` first."""
    return {"at_s": round(at_s, 3), "kind": event.kind, **asdict(event)}


def event_kinds() -> dict[str, list[str]]:
    """Every kind of event with its fields, for documentation and tests."""
    return {kind.kind: [one.name for one in fields(kind)] for kind in Event.__subclasses__()}


def from_record(record: Mapping[str, Any]) -> Event | None:
    """The event of a record as :func:`as_record` makes it; ``None`` for one of a version that knows more."""
    by_kind = {kind.kind: kind for kind in Event.__subclasses__()}
    kind = by_kind.get(str(record.get("kind")))
    if kind is None:
        return None
    known = {one.name: record[one.name] for one in fields(kind) if one.name in record}
    try:
        return kind(**known)
    except TypeError:
        return None
