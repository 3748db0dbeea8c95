"""What an operator asks for: which VMs of which pools go to which remotes, and under which rules. Only data.

The id of a job is a path component of the repository and the key of its snapshots, so it must not change when the
job is run again: by default it derives from the name.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from schedules.retention import LongTerm, Rule
from xobackup.engine.errors import UsageError
from xobackup.engine.hooks.hook import GuestHooks, Hook
from xobackup.engine.limits.bandwidth import Window
from xobackup.engine.limits.settings import NO_LIMITS, Limits
from xobackup.engine.reading.ladder import CbtUse, NbdUse
from xobackup.engine.space.judge import REMOTE_FREE_MIN, SR_FREE_MIN, Floor, SpaceCheck
from xobackup.engine.storage import Storage

if TYPE_CHECKING:
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.xapi.address import PoolAddress

JOB_NAMESPACE = uuid.UUID("6f1b6d0a-6d0e-4c39-9d4e-5d2a7c0a9b11")
DELTA, FULL, METADATA = "delta", "full", "metadata"
MODES = (DELTA, FULL, METADATA)
SNAPSHOTS = ("disk", "memory", "offline")
COMPRESSIONS = ("zstd", "gzip", "none")
DEFAULT_SNAPSHOT_NAME = "[xobackup {job}] {vm}"
DEFAULT_REPLICA_NAME = "{vm} [{job} replica]"


def job_id_of(name: str) -> str:
    """The id of the job called ``name``: a uuid that is the same on every machine."""
    return str(uuid.uuid5(JOB_NAMESPACE, name))


def schedule_id_of(name: str, schedule: str = "") -> str:
    """The id of a job's schedule; ``""`` is the one of runs started by hand."""
    return str(uuid.uuid5(JOB_NAMESPACE, f"{name}/{schedule}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTarget:
    """A pool to read from."""

    name: str
    address: PoolAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTarget:
    """A repository to write to. ``url`` may hold secrets and is never printed; ``name`` is."""

    name: str
    url: str = field(repr=False)
    storage: Storage = field(default_factory=Storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class SrTarget:
    """SRs of a pool that keep replicas."""

    name: str
    pool: PoolTarget
    srs: tuple[str, ...]
    """By uuid or name. With several, a VM's replica is on one of them: that with the most room when it is made."""
    vm_name: str = DEFAULT_REPLICA_NAME
    """Fields: ``{job}``, ``{vm}``."""
    new_macs: bool = False
    """Give NICs addresses of their own, so that a replica can run beside its VM."""
    networks: Mapping[str, str | None] = field(default_factory=dict)
    """See :func:`xobackup.engine.replication.records.nics`."""
    disk_srs: Mapping[str, str] = field(default_factory=dict)
    """Uuids of the SRs (among ``srs``) of single disks, by uuid of the live disk: then the first of ``srs`` is the
    others'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmRule:
    """VMs that match every key given; ``name`` is a shell pattern. A rule without keys matches all."""

    uuid: str = ""
    name: str = ""
    tag: str = ""
    power_state: str = ""
    host: str = ""
    """Uuid or name of the host it runs on, or else of the one it prefers."""
    pool: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which VMs: those that match any ``include`` rule (all when there is none) and no ``exclude`` rule."""

    include: tuple[VmRule, ...] = ()
    exclude: tuple[VmRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRule:
    """Disks that match every key given; ``name`` is a shell pattern, ``sr`` a uuid or a name."""

    uuid: str = ""
    name: str = ""
    tag: str = ""
    device: str = ""
    sr: str = ""
    larger_than_bytes: int | None = None


class IfOneFails(StrEnum):
    """What the group does when one of its VMs cannot have its snapshot."""

    STOP = "stop"
    """None is backed up."""
    GO_ON = "go-on"
    """The others are, and it is told who is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistent:
    """A group of VMs whose snapshots are taken together: those with ``tag``, all of the job when it is empty."""

    tag: str = ""
    if_one_fails: IfOneFails = IfOneFails.STOP
    snapshots_max: int = 4
    """At a time."""

    def has(self, tags: Collection[str]) -> bool:
        """Whether a VM with these tags belongs to it."""
        return not self.tag or self.tag in tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a job works. Every bound has a name here."""

    mode: str = DELTA
    """``delta``: incremental backups of disks; ``full``: the whole VM as one archive (XVA) each time;
    ``metadata``: the databases of the pools, and no VM."""
    compression: str = "zstd"
    """Of full backups, by the host: one of :data:`COMPRESSIONS`."""
    snapshot: str = "disk"
    """How VMs are taken: one of :data:`SNAPSHOTS`, see :mod:`xobackup.engine.taking.way`."""
    offline_backup: bool = False
    """Full backups only: shut the VM down, export it without a snapshot, start it again."""
    shutdown_wait_s: float = 600.0
    """How long a guest gets to shut down."""
    hard_shutdown_allowed: bool = False
    """Switch a guest off that does not shut down in time; otherwise its VM is refused."""
    snapshot_retention: int = 0
    """Snapshots kept on the pool per VM and schedule, besides the base of the next delta."""
    distribute: bool = False
    """Each VM to one of the remotes (:mod:`xobackup.engine.placing`), not to all."""
    retention: int = 7
    """Restore points kept per VM, the newest, on each remote (or on all together); see :attr:`rule`."""
    long_term: LongTerm = field(default_factory=LongTerm)
    """What is kept besides them."""
    replica_retention: int | None = None
    """The newest kept of each replica; ``None``: as on remotes."""
    full_interval: int = 0
    """Every n-th backup of a disk is a full (1: each); 0 = deltas for ever."""
    unexpected_fulls_max: int | None = None
    """Refuse more VMs than that whose chain would start again without having been asked to; ``None`` = no limit."""
    bases_max: int = 2
    """Snapshots kept on the pool per VM as bases for remotes that missed a run."""
    vms_max: int = 2
    """VMs at a time."""
    disks_max: int = 4
    """Disks of one VM at a time."""
    buffers_per_disk: int = 6
    """Blocks of 2 MiB in flight per disk read by a stream: the bound on memory. By NBD see ``reading/slots.py``."""
    limits: Limits = NO_LIMITS
    """How much at a time, of this job alone; ``vms_max`` has its own place above."""
    rate_bytes_s: float | None = None
    """All transfers together, outside of the windows of ``bandwidth``."""
    bandwidth: tuple[Window, ...] = ()
    timezone: str = ""
    """Of these windows; ``""``: the machine's own."""
    retries: int = 0
    """Times a VM that failed for a passing reason is tried again after all others."""
    retry_pause_s: float = 30.0
    """Before the second attempt; doubled before each further one."""
    merge_in_run: bool = True
    """Merge right after retention; otherwise ``xobackup merge`` does it later."""
    check_chains: bool = True
    """Let VMs whose disks wait for the storage to coalesce wait too, and then refuse them."""
    uncoalesced_max: int = 1
    """Links of such a chain that are still healthy."""
    chain_wait_s: float = 900.0
    """How long to wait for that; other VMs go first. The pool begins five minutes after the last change."""
    space_check: SpaceCheck = SpaceCheck.WARN
    """What is done when there may not be room enough for a snapshot, or on a remote."""
    sr_free_min: Floor = SR_FREE_MIN
    """What must stay free on an SR after a snapshot."""
    remote_free_min: Floor = REMOTE_FREE_MIN
    """What must stay free on a remote."""
    nbd: NbdUse = NbdUse.AUTO
    """Whether disks are read by NBD: where the pool offers it, always (or the VM is refused), never."""
    nbd_connections: int = 4
    """NBD connections per disk."""
    nbd_plain_allowed: bool = False
    """Read by NBD without TLS too, on pools whose networks have the purpose ``insecure_nbd`` only."""
    cbt: CbtUse = CbtUse.AUTO
    """Whether changed block tracking is used, and switched on where it is off."""
    purge_snapshot_data: bool = False
    """Destroy the data of a snapshot once its delta came by CBT and NBD: only its change log stays on the pool."""
    lock_wait_s: float = 15.0
    """How long to wait for a VM's lock: that of a process that was killed is stale after ten seconds."""
    pool_metadata: bool = False
    """Also back up the database of each pool."""
    pool_metadata_retention: int = 7
    """Backups of a pool's database kept on each remote."""
    snapshot_name: str = DEFAULT_SNAPSHOT_NAME
    """Fields: ``{job}``, ``{vm}``."""

    @property
    def rule(self) -> Rule:
        """What retention keeps of a VM's restore points on a remote."""
        return Rule(newest=self.retention, long_term=self.long_term)


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """What other jobs with the same id, its other schedules, keep on the pool: a run must leave it to them."""

    snapshot_retention: Mapping[str, int] = field(default_factory=dict)
    """By schedule id."""
    need_bases: bool = False
    """One of them makes deltas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """See the module's head. ``id`` and ``schedule_id`` are uuids; empty means derived from the name."""

    name: str
    pools: tuple[PoolTarget, ...]
    remotes: tuple[RemoteTarget, ...]
    targets: tuple[SrTarget, ...] = ()
    """Where replicas are kept."""
    selector: Selector = Selector()
    exclude_disks: tuple[DiskRule, ...] = ()
    """Besides those with ``[NOBAK]`` in their name."""
    narrowed: bool = False
    """Only some of its VMs, for this once: rules that match nothing mean nothing."""
    settings: Settings = Settings()
    consistent: Consistent | None = None
    hooks: tuple[Hook, ...] = ()
    guest_hooks: GuestHooks = field(default_factory=GuestHooks)
    siblings: Siblings = Siblings()
    checks: JobChecks | None = None
    """Health checks of what it publishes."""
    id: str = ""
    schedule_id: str = ""

    @property
    def destinations(self) -> tuple[str, ...]:
        """Names of everything that its backups go to: remotes, then targets."""
        return (*(remote.name for remote in self.remotes), *(target.name for target in self.targets))

    @property
    def selects_vms(self) -> bool:
        return self.settings.mode != METADATA

    @property
    def saves_pools(self) -> bool:
        return self.settings.mode == METADATA or self.settings.pool_metadata

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _uuid("job id", self.id or job_id_of(self.name)))
        object.__setattr__(self, "schedule_id", _uuid("schedule id", self.schedule_id or schedule_id_of(self.name)))
        for problem in check_job(self):
            raise UsageError(f"job {self.name!r}: {problem}")


def check_job(job: Job) -> list[str]:
    """Everything that cannot work in a job, as sentences."""
    settings = job.settings
    at_least_one = {
        "retention": settings.retention,
        "vms_max": settings.vms_max,
        "disks_max": settings.disks_max,
        "bases_max": settings.bases_max,
        "nbd_connections": settings.nbd_connections,
        "pool_metadata_retention": settings.pool_metadata_retention,
        "replica_retention": 1 if settings.replica_retention is None else settings.replica_retention,
    }
    if job.consistent is not None:
        at_least_one["snapshots_max"] = job.consistent.snapshots_max
    problems = [f"{key} must be at least 1, got {value}" for key, value in at_least_one.items() if value < 1]
    for key, value, known in (
        ("mode", settings.mode, MODES),
        ("compression", settings.compression, COMPRESSIONS),
        ("snapshot", settings.snapshot, SNAPSHOTS),
    ):
        if value not in known:
            problems.append(f"{key} must be one of {', '.join(known)}, got {value!r}")
    if settings.purge_snapshot_data and settings.nbd is NbdUse.OFF:
        problems.append("purge_snapshot_data needs NBD, but nbd is off: every backup would be a full")
    if settings.purge_snapshot_data and settings.cbt is CbtUse.OFF:
        problems.append("purge_snapshot_data needs changed block tracking, but cbt is off")
    problems += _check_modes(settings) + _check_spread(job)
    if not job.name.strip():
        problems.append("it has no name")
    if not job.pools:
        problems.append("it has no pool")
    if not job.destinations and not settings.snapshot_retention:
        problems.append("it has no remote, no target for replicas, and keeps no snapshots (snapshot_retention)")
    if not job.remotes and job.saves_pools:
        problems.append("the database of a pool needs a remote")
    for what, names in (("pool", [p.name for p in job.pools]), ("remote or target", list(job.destinations))):
        problems += [f"{what} {name!r} is named twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if settings.buffers_per_disk < 2:
        problems.append(f"buffers_per_disk must be at least 2, got {settings.buffers_per_disk}")
    try:
        settings.snapshot_name.format(job="", vm="")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        problems.append(f"snapshot_name {settings.snapshot_name!r} may only use {{job}} and {{vm}}: {error!r}")
    return problems


def _check_spread(job: Job) -> list[str]:
    if job.settings.distribute and len(job.remotes) < 2:
        return [f"distribute needs at least two remotes to choose from, it has {len(job.remotes)}"]
    return []


def _check_modes(settings: Settings) -> list[str]:
    """What cannot go together in the ways a VM is taken."""
    problems: list[str] = []
    if settings.offline_backup and settings.mode != FULL:
        problems.append('offline_backup: only for mode = "full"; a delta needs a snapshot (snapshot = "offline")')
    if settings.offline_backup and settings.snapshot != "disk":
        problems.append(f'offline_backup takes no snapshot, but snapshot is "{settings.snapshot}"')
    if settings.snapshot_retention < 0:
        problems.append(f"snapshot_retention must be at least 0, got {settings.snapshot_retention}")
    if settings.snapshot_retention and settings.purge_snapshot_data:
        problems.append("snapshot_retention keeps what purge_snapshot_data destroys: choose one")
    if settings.snapshot_retention and settings.offline_backup:
        problems.append("snapshot_retention keeps snapshots, but offline_backup takes none")
    if settings.shutdown_wait_s <= 0:
        problems.append(f"shutdown_wait_s must be more than 0, got {settings.shutdown_wait_s:g}")
    return problems


def _uuid(what: str, text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise UsageError(f"{what}: expected a uuid, found {text!r}") from error
