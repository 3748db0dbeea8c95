"""Jobs in the configuration: those that back up VMs, and those that back up the databases of pools."""

from __future__ import annotations

import uuid as uuids
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from xobackup.config.health import HealthCheckSection
from xobackup.config.hooks import VM_MOMENTS, HookSection
from xobackup.config.limits import CountsSection, Rate, WindowSection, checked_floor, checked_zone
from xobackup.config.periods import Period, seconds
from xobackup.config.retention import KeepSection
from xobackup.config.rules import DiskRule, VmRule
from xobackup.config.secrets import Secret
from xobackup.config.section import Section


class ConsistentSection(Section):
    """VMs whose snapshots are taken together: those with ``tag``, all of the job without it."""

    tag: Annotated[str, Field(min_length=1)] | None = None
    if_one_fails: Literal["stop", "go-on"] = "stop"
    """When one cannot have its snapshot: none is backed up, or the others are."""
    snapshots_max: Annotated[int, Field(ge=1, le=64)] = 4
    """Snapshots at a time."""


class VmSelection(Section):
    """``include`` any of the rules, then drop those that match any ``exclude`` rule."""

    include: Annotated[tuple[VmRule, ...], Field(min_length=1)]
    exclude: tuple[VmRule, ...] = ()


class DiskSelection(Section):
    exclude: tuple[DiskRule, ...] = ()


class JobSection(Section):
    """A job that backs up VMs."""

    id: uuids.UUID | None = None
    """A path component of the repository; derived from the name when absent (a renamed job is a new job). Another
    schedule of a job, or the same job on another pool, is a job with the same id."""
    schedule_id: uuids.UUID | None = None
    """Retention counts by it."""
    pool: str
    remotes: tuple[str, ...] = ()
    """None: the job only keeps snapshots on the pool (``snapshot_retention``), or replicas (``replicate_to``)."""
    distribute: bool = False
    """Each VM to one of them, by free space, instead of every VM to all of them; retention counts over all."""
    replicate_to: tuple[str, ...] = ()
    """Targets where replicas of the VMs are kept."""
    replica_retention: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Restore points kept per replica; as ``retention`` when absent."""
    vms: VmSelection
    disks: DiskSelection = DiskSelection()
    mode: Literal["delta", "full"] = "delta"
    """``full``: the whole VM as one archive (XVA) each time."""
    compression: Literal["zstd", "gzip", "none"] | None = None
    """Of full backups, done by the host; zstd when absent."""
    snapshot: Literal["disk", "memory", "offline"] = "disk"
    """How VMs are taken: running; with their memory; shut down, and started again at once."""
    offline_backup: bool = False
    """``mode = "full"``: shut the VM down, export it without a snapshot, start it again."""
    shutdown_wait_s: Annotated[float, Field(gt=0, le=86_400)] = 600
    """How long a guest gets to shut down before its VM is refused."""
    hard_shutdown_allowed: bool = False
    """Switch off guests that do not shut down in time."""
    snapshot_retention: Annotated[int, Field(ge=0, le=1000)] = 0
    """Snapshots kept on the pool per VM, besides the base of the next delta."""
    rpo: Period | None = None
    """``26h``: how old the newest backup of each VM may be before it is told; by the schedules when absent."""
    retention: Annotated[int, Field(ge=1, le=100_000)] = 7
    """Restore points kept per VM."""
    keep: KeepSection = KeepSection()
    """Besides them, for the long term."""
    full_interval: Annotated[int, Field(ge=0)] = 0
    """Every n-th backup of a disk is a full; 0 = deltas for ever."""
    unexpected_fulls_max: Annotated[int, Field(ge=0)] | None = None
    """Refuse the VMs of a run when more of them than that would have to start a chain again."""
    vms_max: Annotated[int, Field(ge=1, le=64)] = 2
    """VMs at a time."""
    disks_max: Annotated[int, Field(ge=1, le=64)] = 4
    """Disks of one VM at a time."""
    limits: CountsSection = CountsSection()
    """How much at a time, of this job alone."""
    rate_limit_mib_s: Rate | None = None
    """All transfers of the job together, outside of the windows of ``bandwidth``."""
    bandwidth: tuple[WindowSection, ...] = ()
    """Other limits at some times of the day; the first window that holds counts."""
    timezone: str = ""
    """Of these windows; as ``[limits]`` says when absent."""
    space_check: Literal["refuse", "warn", "off"] = "warn"
    """When there may not be room enough for a snapshot, or on a remote."""
    sr_free_min: Annotated[str | int, BeforeValidator(checked_floor)] = "5 %"
    """What must stay free on an SR after a snapshot: a share, or a size."""
    remote_free_min: Annotated[str | int, BeforeValidator(checked_floor)] = 0
    """What must stay free on a remote."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """Times a VM that failed for a passing reason is tried again after all others."""
    retry_pause_s: Annotated[float, Field(ge=0, le=3600)] = 30
    """Before the second attempt; doubled before each further one, ten minutes at most."""
    merge: Literal["now", "later"] = "now"
    """``later``: leave it to ``xobackup merge``."""
    check_chains: bool = True
    """Let VMs whose disks wait for the storage to coalesce wait too, while others are backed up."""
    chain_wait_s: Annotated[float, Field(ge=0, le=86_400)] = 900
    """How long they wait at most before they are refused. A pool coalesces five minutes after the last change."""
    nbd: Literal["auto", "require", "off"] = "auto"
    """Read disks by NBD: where the pool offers it, always (or refuse the VM), never."""
    nbd_connections: Annotated[int, Field(ge=1, le=8)] = 4
    """NBD connections per disk; all disks of a pool together get twelve."""
    nbd_plain_allowed: bool = False
    """Read by NBD without TLS where the pool offers nothing else (purpose ``insecure_nbd``)."""
    cbt: Literal["auto", "use", "off"] = "auto"
    """Changed block tracking: switch it on where NBD is offered and use it; only use it where it is on; never."""
    purge_snapshot_data: bool = False
    """Keep only the change log of a snapshot on the pool once its delta came by CBT and NBD."""
    lock_wait_s: Annotated[float, Field(ge=0)] = 15
    """How long to wait for another program at work on the same VM's backups."""
    snapshot_name: str = "[xobackup {job}] {vm}"
    pool_metadata: bool = False
    """Also back up the pool's own database, after the VMs."""
    pool_metadata_retention: Annotated[int, Field(ge=1, le=100_000)] = 7
    """Backups of the database kept on each remote."""
    health_check: HealthCheckSection | None = None
    """Boot what was published, ask it whether it is well, and remove it."""
    consistent: ConsistentSection | None = None
    """Take the snapshots of all VMs, or of those with a tag, together."""
    hooks: tuple[HookSection, ...] = ()
    """Commands and requests of yours around runs, VMs and snapshots."""
    guest_hooks: bool = True
    """Tell running VMs with the tag ``xo:notify-on-snapshot`` of their snapshots, as Xen Orchestra does."""
    guest_hook_secret: Secret | None = None
    """Sent to such guests."""
    guest_hook_verify: bool = False
    """Verify the guests' certificates, with the system's authorities or those in ``guest_hook_ca``."""
    guest_hook_ca: Path | None = None
    guest_hook_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60
    """How long a guest may take to answer."""

    @property
    def rpo_s(self) -> float | None:
        return None if self.rpo is None else seconds(self.rpo)

    @field_validator("consistent", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        if isinstance(value, bool):
            return {} if value else None
        if not isinstance(value, dict):
            raise ValueError(f'expected true, false, or a table like {{ tag = "erp" }}, found {value!r}')
        return value

    @model_validator(mode="after")
    def _compression_of_fulls(self) -> JobSection:
        if self.compression is not None and self.mode != "full":
            raise ValueError('compression: only for mode = "full"; disks of delta backups are stored as they are')
        if self.full_interval and self.mode == "full":
            raise ValueError('full_interval: only for mode = "delta"; every backup of this job is a full')
        return self

    @model_validator(mode="after")
    def _ways_to_take_a_vm(self) -> JobSection:
        if self.offline_backup and self.mode != "full":
            raise ValueError('offline_backup: only for mode = "full"; for deltas there is snapshot = "offline"')
        if self.offline_backup and self.snapshot != "disk":
            raise ValueError(f'offline_backup takes no snapshot, but snapshot is "{self.snapshot}"')
        if self.snapshot_retention and self.offline_backup:
            raise ValueError("snapshot_retention keeps snapshots, but offline_backup takes none")
        if self.snapshot_retention and self.purge_snapshot_data:
            raise ValueError(
                "snapshot_retention keeps snapshots, purge_snapshot_data destroys their data: choose one"
            )
        if self.distribute and len(self.remotes) < 2:
            raise ValueError(f"distribute: needs at least two remotes to choose from, found {len(self.remotes)}")
        if not self.remotes and not self.replicate_to and not self.snapshot_retention:
            raise ValueError(
                "remotes: name at least one, or a target in replicate_to, or set snapshot_retention for snapshots on "
                "the pool alone"
            )
        if self.replica_retention is not None and not self.replicate_to:
            raise ValueError("replica_retention: only with replicate_to")
        if self.distribute and self.replicate_to:
            raise ValueError(
                "distribute spreads over remotes: make the replicas (replicate_to) in a job of their own"
            )
        if not self.remotes and self.pool_metadata:
            raise ValueError("pool_metadata: the database of a pool needs a remote")
        return self

    @model_validator(mode="after")
    def _what_is_checked(self) -> JobSection:
        if self.health_check is not None:
            replica = self.health_check.replica
            if replica is not None and replica not in self.replicate_to:
                raise ValueError(f"health_check.replica: {replica!r} is no target in replicate_to of the job")
            if not self.remotes and replica is None:
                raise ValueError(
                    "health_check: it restores from a remote, and the job has none; for replicas say replica"
                )
            if self.health_check.remote is not None and self.health_check.remote not in self.remotes:
                raise ValueError(f"health_check.remote: {self.health_check.remote!r} is no remote of the job")
        return self

    @field_validator("remotes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(value, "remote")

    @field_validator("replicate_to")
    @classmethod
    def _distinct_targets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(value, "target")

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return checked_zone(value)


class MetadataSection(Section):
    """A job that backs up the databases of pools and no VM: ``mode = "metadata"``."""

    mode: Literal["metadata"]
    id: uuids.UUID | None = None
    schedule_id: uuids.UUID | None = None
    """A path component of the repository; retention counts by it."""
    rpo: Period | None = None
    """``26h``: how old the newest backup of each pool's database may be before it is told."""
    pools: Annotated[tuple[str, ...], Field(min_length=1)]
    remotes: Annotated[tuple[str, ...], Field(min_length=1)]
    retention: Annotated[int, Field(ge=1, le=100_000)] = 7
    """Backups kept per pool."""
    rate_limit_mib_s: Annotated[float, Field(gt=0)] | None = None
    """All transfers of the job together."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """Times a pool that failed for a passing reason is tried again."""
    retry_pause_s: Annotated[float, Field(ge=0, le=3600)] = 30
    """Before the second attempt; doubled before each further one, ten minutes at most."""
    hooks: tuple[HookSection, ...] = ()

    @property
    def rpo_s(self) -> float | None:
        return None if self.rpo is None else seconds(self.rpo)

    @field_validator("hooks")
    @classmethod
    def _of_runs(cls, value: tuple[HookSection, ...]) -> tuple[HookSection, ...]:
        for hook in value:
            if hook.on in VM_MOMENTS:
                raise ValueError(f"on = {hook.on!r}: this job backs up no VM")
        return value

    @field_validator("pools")
    @classmethod
    def _distinct_pools(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(value, "pool")

    @field_validator("remotes")
    @classmethod
    def _distinct_remotes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(value, "remote")


def _distinct(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"a {what} is named twice")
    return names
