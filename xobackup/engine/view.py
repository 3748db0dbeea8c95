"""What decisions need to know of a pool: small frozen views, built once per look, so that deciding is pure.

:mod:`xobackup.engine.survey` builds them from XAPI's records; tests build them by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xobackup.xapi.image_format import ImageFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """A snapshot VDI of a live disk, with what a backup wrote on it."""

    vdi_uuid: str
    vdi_ref: str
    sr_uuid: str
    virtual_size_bytes: int
    datetime: str
    """``xo:backup:datetime``, sortable; ``""`` when no backup made it."""
    job_id: str
    """The job that made it for this VM; ``""`` when none did."""
    vm_uuid: str
    exported: bool
    chain_length: int
    vm_snapshot_ref: str
    """The VM snapshot it hangs on; ``""`` for an orphan."""
    remotes: tuple[str, ...] = ()
    """Those that published it, as far as it was noted."""
    usable: bool = True
    """It is not missing, and hangs on nothing but its own VM snapshot."""
    has_data: bool = True
    """``False``: purged, only its change log is left."""
    cbt: bool = False
    """Changes were tracked when it was taken."""
    content_key: str = ""
    """Of a restore point of a replica: the snapshot, in another pool, whose content it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SrView:
    """The storage repository of a disk."""

    uuid: str
    name: str
    type: str
    """``lvm``, ``nfs``, ``ext`` ..."""
    total_bytes: int
    used_bytes: int
    """Of all of it, other programs' data included."""

    @property
    def free_bytes(self) -> int:
        return max(0, self.total_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskView:
    """A live disk of a VM."""

    vdi_uuid: str
    vdi_ref: str
    name: str
    userdevice: str
    virtual_size_bytes: int
    used_bytes: int
    """What the storage says the live leaf takes."""
    sr_uuid: str
    sr_name: str
    tags: tuple[str, ...] = ()
    snapshots: tuple[PoolSnapshot, ...] = ()
    """Of this disk, newest first."""
    kin: tuple[PoolSnapshot, ...] = ()
    """Disks of the restore point that it was cloned from when its VM was failed over."""
    cbt: bool | None = None
    """Whether its changes are tracked; ``None``: the host does not know tracking."""
    image_format: ImageFormat = ImageFormat.VHD
    """How the SR keeps it, which decides by which ways it can be read."""
    uncoalesced: int = 0
    """Links in its chain that the storage still has to coalesce (see facts on ``unhealthy VDI chain``)."""
    chain: tuple[str, ...] = ()
    """Uuids of the nodes below its leaf, the nearest first; empty where the storage has no chains."""
    coalescing_off: tuple[str, ...] = ()
    """Switches that keep the storage from coalescing, as they are set on the SR or the disk."""
    sr: SrView | None = None
    problem: str = ""
    """Why it cannot be exported at all, e.g. its data is missing."""
    no_snapshot: str = ""
    """Why no snapshot of it can be taken."""
    notes: tuple[str, ...] = ()
    """What is special about it otherwise."""

    @property
    def depth(self) -> int:
        """Links of its chain, the leaf included; 0 where the storage has no chains."""
        return len(self.chain) + 1 if self.chain else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSnapshot:
    """A snapshot of the VM that a backup made, with what it wrote on it."""

    ref: str
    datetime: str
    job_id: str
    schedule_id: str
    complete: bool
    """Its export ended well, or it is there for its own sake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmView:
    """A VM as decisions see it."""

    uuid: str
    ref: str
    name: str
    pool: str
    power_state: str
    host: tuple[str, ...] = ()
    """Uuid and name of the host it runs on, or else of the one it prefers."""
    tags: tuple[str, ...] = ()
    is_template: bool = False
    is_snapshot: bool = False
    is_control_domain: bool = False
    blocked_operations: Mapping[str, str] = field(default_factory=dict)
    current_operations: tuple[str, ...] = ()
    other_config: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    """What it may use at most."""
    disks: tuple[DiskView, ...] = ()
    snapshots: tuple[VmSnapshot, ...] = ()
    """Those that backups made of it."""
