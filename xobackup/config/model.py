"""The shape of the configuration file. README shows an example.

A configuration names pools, remotes and jobs; a job says which VMs of which pool go to which remotes, and how many
restore points of each are kept. Unknown keys are refused: a typing mistake must not become a default.
"""

from __future__ import annotations

import re
import uuid as uuids
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from xobackup.config.buckets import BucketKeys, check_bucket
from xobackup.config.hooks import VM_MOMENTS, HookSection
from xobackup.config.limits import CountsSection, LimitsSection, Rate, WindowSection, checked_floor, checked_zone
from xobackup.config.rules import DiskRule, VmRule
from xobackup.config.secrets import Secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSection(_Section):
    """How a pool's certificate is trusted: one of the three; none means the system's authorities."""

    ca: Path | None = None
    fingerprint: str | None = None
    verify: bool = True

    @field_validator("fingerprint")
    @classmethod
    def _normal(cls, value: str | None) -> str | None:
        if value is None:
            return None
        digests = [
            part.lower().removeprefix("sha256:").replace(":", "") for part in re.split(r"[\s,]+", value.strip())
        ]
        if not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
            raise ValueError(
                "expected SHA-256 fingerprints of 64 hexadecimal digits, one per host, separated by commas"
            )
        return ",".join(digests)

    @model_validator(mode="after")
    def _one(self) -> TlsSection:
        if sum((self.ca is not None, self.fingerprint is not None, not self.verify)) > 1:
            raise ValueError("expected at most one of ca, fingerprint, verify = false")
        return self


class PoolSection(_Section):
    """A pool: any of its hosts will do, its master is found."""

    url: str
    username: str = "root"
    password: Secret
    tls: TlsSection = TlsSection()

    @field_validator("url")
    @classmethod
    def _https(cls, value: str) -> str:
        text = value if "://" in value else f"https://{value}"
        if not re.fullmatch(r"https?://[^/\s@]+/?", text):
            raise ValueError(f"expected https://host or https://host:port, found {value!r}")
        return text.rstrip("/")


class EncryptionSection(_Section):
    """Everything on the remote is encrypted."""

    key: Secret
    """In Xen Orchestra's mode 32 characters; in ours a key (``XBK1-...``) or a passphrase."""
    mode: Literal["xo", "xobackup"] = "xo"
    """``xobackup``: our own, which Xen Orchestra cannot read."""
    algorithm: Literal["chacha20-poly1305", "aes-256-gcm"] | None = None
    """Of a remote that is still empty; one that holds something says its own."""


class RemoteSection(BucketKeys):
    """Where backups are kept. All but ``url`` and ``encryption`` are for buckets."""

    url: str
    encryption: EncryptionSection | None = None
    rate_limit_mib_s: Rate | None = None
    """All that is written to it, outside of the windows of ``bandwidth``."""
    bandwidth: tuple[WindowSection, ...] = ()
    layout: Literal["files", "directories"] | None = None
    """Disks as VHD files, or as directories of one compressed object per block (``useVhdDirectory``)."""
    compression: Literal["brotli", "zstd", "gzip", "none"] | None = None
    """Of blocks in directories, where a chain begins; Xen Orchestra continues only brotli."""
    compression_level: Annotated[int, Field(ge=-7, le=19)] | Literal["auto"] | None = None
    """Of zstd; ``auto`` follows how fast the blocks come."""

    @model_validator(mode="after")
    def _compression_of_directories(self) -> RemoteSection:
        if self.compression is not None and self.encryption is None and self._has_files():
            raise ValueError('compression: only with layout = "directories"; VHD files are stored as they are')
        if self.compression_level is not None and self.compression != "zstd":
            raise ValueError('compression_level: only for compression = "zstd"')
        return self

    def _has_files(self) -> bool:
        """Whether disks are kept as files there, as far as the configuration tells."""
        if self.layout is not None:
            return self.layout == "files"
        return self.url.startswith(("/", "file:", "nfs:")) and "useVhdDirectory=true" not in self.url

    @model_validator(mode="after")
    def _fitting(self) -> RemoteSection:
        check_bucket(self.url, self)
        return self


class ConsistentSection(_Section):
    """VMs whose snapshots are taken together: those with ``tag``, all of the job without it."""

    tag: Annotated[str, Field(min_length=1)] | None = None
    if_one_fails: Literal["stop", "go-on"] = "stop"
    """When one cannot have its snapshot: none is backed up, or the others are."""
    snapshots_max: Annotated[int, Field(ge=1, le=64)] = 4
    """Snapshots at a time."""


class VmSelection(_Section):
    """``include`` any of the rules, then drop those that match any ``exclude`` rule."""

    include: Annotated[tuple[VmRule, ...], Field(min_length=1)]
    exclude: tuple[VmRule, ...] = ()


class DiskSelection(_Section):
    exclude: tuple[DiskRule, ...] = ()


class JobSection(_Section):
    """A job that backs up VMs."""

    id: uuids.UUID | None = None
    """A path component of the repository; derived from the name when absent (a renamed job is a new job). Another
    schedule of a job, or the same job on another pool, is a job with the same id."""
    schedule_id: uuids.UUID | None = None
    """Retention counts by it."""
    pool: str
    remotes: tuple[str, ...] = ()
    """None: the job only keeps snapshots on the pool (``snapshot_retention``)."""
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
    retention: Annotated[int, Field(ge=1, le=100_000)] = 7
    """Restore points kept per VM."""
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
        if not self.remotes and not self.snapshot_retention:
            raise ValueError("remotes: name at least one, or set snapshot_retention for snapshots on the pool alone")
        if not self.remotes and self.pool_metadata:
            raise ValueError("pool_metadata: the database of a pool needs a remote")
        return self

    @field_validator("remotes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(value, "remote")

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return checked_zone(value)


class MetadataSection(_Section):
    """A job that backs up the databases of pools and no VM: ``mode = "metadata"``."""

    mode: Literal["metadata"]
    id: uuids.UUID | None = None
    schedule_id: uuids.UUID | None = None
    """A path component of the repository; retention counts by it."""
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


class Configuration(_Section):
    """The whole of it."""

    state_directory: Path = Path("/var/lib/xobackup")
    limits: LimitsSection = LimitsSection()
    """Of everything that one process does."""
    pools: dict[str, PoolSection] = {}
    remotes: dict[str, RemoteSection] = {}
    jobs: dict[str, JobSection] = {}
    """Those that back up VMs."""
    metadata_jobs: dict[str, MetadataSection] = {}
    """Those tables of ``jobs`` that say ``mode = "metadata"``. Not a key of the file."""

    @model_validator(mode="before")
    @classmethod
    def _sorted_out(cls, value: object) -> object:
        """Every kind of job to its own section."""
        if not isinstance(value, dict) or not isinstance(value.get("jobs"), dict):
            return value
        kinds: dict[str, dict[str, object]] = {"jobs": {}, "metadata_jobs": {}}
        for name, job in value["jobs"].items():
            is_metadata = isinstance(job, dict) and job.get("mode") == "metadata"
            kinds["metadata_jobs" if is_metadata else "jobs"][name] = job
        return {**value, **kinds}

    @property
    def job_names(self) -> list[str]:
        """Of both kinds."""
        return [*self.jobs, *self.metadata_jobs]

    @cached_property
    def names_by_id(self) -> dict[uuids.UUID, list[str]]:
        """Jobs that back up VMs, by the ids that the file gives them; schedules of one job share it."""
        found: dict[uuids.UUID, list[str]] = {}
        for name, job in self.jobs.items():
            if job.id is not None:
                found.setdefault(job.id, []).append(name)
        return found

    @field_validator("pools", "remotes", "jobs", "metadata_jobs")
    @classmethod
    def _names(cls, value: dict[str, object]) -> dict[str, object]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r}: expected a name of letters, digits, '.', '_' and '-'")
        return value

    @model_validator(mode="after")
    def _references(self) -> Configuration:
        missing: list[str] = []
        for name, job in self.jobs.items():
            if job.pool not in self.pools:
                missing.append(f"jobs.{name}.pool: there is no pool {job.pool!r} ({_known(self.pools)})")
            missing.extend(
                f"jobs.{name}.remotes: there is no remote {remote!r} ({_known(self.remotes)})"
                for remote in job.remotes
                if remote not in self.remotes
            )
        for name, metadata in self.metadata_jobs.items():
            for kind, named, known in (
                ("pool", metadata.pools, self.pools),
                ("remote", metadata.remotes, self.remotes),
            ):
                missing.extend(
                    f"jobs.{name}.{kind}s: there is no {kind} {one!r} (known: {', '.join(sorted(known)) or 'none'})"
                    for one in named
                    if one not in known
                )
        missing.extend(_same_ids(self))
        if missing:
            raise ValueError("; ".join(missing))
        return self


def _same_ids(configuration: Configuration) -> list[str]:
    """Jobs may share an id, as the schedules and pools of one job of Xen Orchestra's do, but then retention must be
    able to tell their backups apart: by the schedule, or by the pool."""
    given = [(name, job.id, (job.schedule_id, job.pool)) for name, job in configuration.jobs.items()]
    given += [(name, job.id, (job.schedule_id, "")) for name, job in configuration.metadata_jobs.items()]
    owners: dict[tuple[uuids.UUID, tuple[uuids.UUID | None, str]], str] = {}
    problems: list[str] = []
    for name, job_id, apart in given:
        if job_id is not None and (other := owners.setdefault((job_id, apart), name)) != name:
            advice = "another schedule of it needs a schedule_id of its own"
            problems.append(f"jobs.{name}.id: the same as that of job {other!r}; {advice}")
    return problems


def _known(names: dict[str, PoolSection] | dict[str, RemoteSection]) -> str:
    return "known: " + (", ".join(sorted(names)) or "none")
