"""What pages show of backups, replicas and plans. Whatever was looked up elsewhere says when, and what kept it from
being looked up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How old a look is. ``at``: ``None`` when there was none yet; ``pending``: another one has not come back."""

    at: float | None = None
    problem: str = ""
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDisk:
    """A disk of a restore point."""

    device: str
    name: str
    virtual_size_bytes: int
    delta: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PointNic:
    """A NIC of a VM as it was then."""

    device: str
    mac: str
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointView:
    """A restore point. ``held``: why nothing deletes it, ``""`` when nothing keeps it from being deleted."""

    id: str
    taken_at: float
    mode: str
    job: str
    size_bytes: int
    disks: tuple[PointDisk, ...]
    nics: tuple[PointNic, ...]
    with_memory: bool = False
    pinned: bool = False
    pin_note: str = ""
    held: str = ""
    held_until: float | None = None
    tested: str = ""
    """What the last restore test of it found: ``ok``, ``failed``, ``""`` when there was none."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsView:
    """The restore points of a VM on one remote, the newest first."""

    remote: str
    looked: Looked
    name: str = ""
    points: tuple[PointView, ...] = ()
    problems: tuple[str, ...] = ()
    """With what lies there."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmOnRemote:
    """What a remote has of a VM."""

    uuid: str
    name: str
    points: int
    oldest_at: float | None
    newest_at: float | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteVms:
    """The VMs that have backups on a remote, by name. ``whole``: the look came to its end."""

    remote: str
    looked: Looked
    vms: tuple[VmOnRemote, ...] = ()
    whole: bool = True

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What a longer look at a remote found. ``vms`` of ``vms_all`` were looked at within the time that it has."""

    at: float
    vms: int
    vms_all: int
    blocks: int
    recent: int
    """Verified within ``days``."""
    never: int
    days: float
    backlog: int
    """Disks that no restore point names any more and that wait to be merged or deleted."""
    backlog_vms: int
    locked_until: float | None
    """When the last lock ends that the storage tells of."""
    locked: int
    """Restore points under a lock."""
    problems: tuple[str, ...] = ()

    @property
    def coverage(self) -> float | None:
        return self.recent / self.blocks if self.blocks else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What a pool has for a restore: (uuid, name, free bytes) of SRs, (uuid, name) of networks."""

    pool: str
    looked: Looked
    srs: tuple[tuple[str, str, int | None], ...] = ()
    networks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """One VM's replica at one target, as ``xobackup replicas`` tells it."""

    target: str
    sr: str
    vm_uuid: str
    job: str
    name: str
    state: str
    points: int
    newest: str
    newest_at: float
    gap_s: float
    usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """A target with its replicas, by name."""

    name: str
    looked: Looked
    replicas: tuple[ReplicaView, ...] = ()

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrView:
    """A plan of disaster recovery. ``tests``: what the last ones found, the newest first."""

    name: str
    target: str
    pool: str
    groups: tuple[tuple[str, str], ...]
    """Name, and which VMs it means."""
    rpo_s: float | None
    test_network: str
    tests: tuple[Mapping[str, Any], ...] = ()

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "tests": [dict(one) for one in self.tests]}
