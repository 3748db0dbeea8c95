"""Free space, judged before anything is taken or written: pure.

What a snapshot costs depends on the storage. On thick LVM the live disk becomes a new volume of the whole virtual
size, while what it held shrinks to its data (facts on VHD trees): how much that gives back the pool does not say, so
the whole size is the bound. On file-based storage and thin LVM a snapshot costs next to nothing at first, but what
the guest writes until it is deleted comes on top, which nobody knows beforehand: there a floor is all there is.

What a remote gets is known only as a bound for a full (zeros and what was never written are not sent), and as a hint
for a delta. So does the SR of a replica, but for new volumes of thick LVM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from xobackup.engine.view import DiskView, SrView

THICK = frozenset({"lvm", "lvmohba", "lvmoiscsi", "lvmofcoe"})
"""Types of SRs whose volumes have all their room from the start."""
SNAPSHOT_LEAF_BYTES = 8 << 20
"""The volume of the snapshot itself."""
GIB = 1 << 30
TARGET_HINT = "free space on the SR, keep fewer restore points (replica_retention), or give the target another SR"
HINT = "make room, or change sr_free_min, remote_free_min or space_check of the job"


class SpaceCheck(StrEnum):
    """What is done when there may not be room enough."""

    REFUSE = "refuse"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What must stay free: a share of the whole, or bytes."""

    share: float = 0.0
    size_bytes: int = 0

    def of(self, total_bytes: int) -> int:
        return max(int(total_bytes * self.share), self.size_bytes)


SR_FREE_MIN = Floor(share=0.05)
REMOTE_FREE_MIN = Floor()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Where there may not be room enough, as a sentence. ``refusable``: reason enough to do nothing, if so asked."""

    where: str
    reason: str
    refusable: bool


def sr_shortages(disks: Iterable[DiskView], floor: Floor) -> tuple[Shortage, ...]:
    """SRs that a snapshot of ``disks`` would bring below ``floor``."""
    by_sr: dict[str, tuple[SrView, list[DiskView]]] = {}
    for disk in disks:
        if disk.sr is not None and disk.sr.total_bytes > 0:
            by_sr.setdefault(disk.sr.uuid, (disk.sr, []))[1].append(disk)
    found = (_sr_shortage(sr, held, floor) for sr, held in by_sr.values())
    return tuple(one for one in found if one is not None)


def _sr_shortage(sr: SrView, disks: Sequence[DiskView], floor: Floor) -> Shortage | None:
    least, where = floor.of(sr.total_bytes), f"SR {sr.name}"
    thick = sr.type in THICK
    wanted = sum(disk.virtual_size_bytes + SNAPSHOT_LEAF_BYTES for disk in disks) if thick else 0
    figures = f"{size_told(sr.free_bytes)} free of {size_told(sr.total_bytes)}"
    if sr.free_bytes < least:
        return Shortage(where=where, reason=f"{where} has {figures}, less than {size_told(least)}", refusable=True)
    if sr.free_bytes - wanted < least:
        kept = f" and {size_told(least)} are to stay free" if least else ""
        reason = f"{where} has {figures}, a snapshot may need {size_told(wanted)} there (thick provisioning){kept}"
        return Shortage(where=where, reason=reason, refusable=True)
    return None


def remote_shortage(
    name: str, *, free_bytes: int | None, total_bytes: int | None, wanted_bytes: int, bound: bool, floor: Floor
) -> Shortage | None:
    """Whether a remote has room for ``wanted_bytes``; ``bound``: it may well be less, which refuses nothing.

    ``None`` stands for what is not known, and for no shortage.
    """
    if free_bytes is None:
        return None
    least, where = floor.of(total_bytes or 0), f"remote {name}"
    if free_bytes < least:
        reason = f"{where} has {size_told(free_bytes)} free, less than {size_told(least)}"
        return Shortage(where=where, reason=reason, refusable=True)
    if free_bytes - wanted_bytes < least:
        kept = f" and {size_told(least)} are to stay free" if least else ""
        amount = "up to" if bound else "about"
        reason = f"{where} has {size_told(free_bytes)} free, {amount} {size_told(wanted_bytes)} are to come{kept}"
        return Shortage(where=where, reason=reason, refusable=not bound)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaNeed:
    """What replicas on an SR need there. ``new_bytes``: virtual size of disks to be made; ``delta_bytes``: of blocks
    for disks that are there, as estimated; ``point_bytes``: virtual size of all disks of the restore points."""

    new_bytes: int = 0
    delta_bytes: int = 0
    point_bytes: int = 0


def replica_shortage(target: str, sr: SrView, need: ReplicaNeed) -> Shortage | None:
    """Whether an SR has room for replicas. Certain (``refusable``) is one thing alone: a volume of thick LVM needs
    its whole virtual size when it is made. What a snapshot of it needs on top is but a bound, and so is what arrives
    on any other SR: zeros and what was never written are not sent."""
    if sr.total_bytes <= 0:
        return None
    where = f"target {target}"
    figures = f"{where}: SR {sr.name} has {size_told(sr.free_bytes)} free of {size_told(sr.total_bytes)}"
    if sr.type not in THICK:
        wanted, amount = need.new_bytes + need.delta_bytes, "up to" if need.new_bytes else "about"
        if wanted <= sr.free_bytes:
            return None
        return Shortage(where=where, reason=f"{figures}, {amount} {size_told(wanted)} are to come", refusable=False)
    if need.new_bytes > sr.free_bytes:
        reason = f"{figures}, new disks need {size_told(need.new_bytes)} there (thick provisioning)"
        return Shortage(where=where, reason=reason, refusable=True)
    wanted = need.new_bytes + need.point_bytes
    if wanted > sr.free_bytes:
        told = f"new disks need {size_told(need.new_bytes)} there, " if need.new_bytes else ""
        reason = f"{figures}, {told}the restore point may need {size_told(need.point_bytes)} (thick provisioning)"
        return Shortage(where=where, reason=reason, refusable=False)
    return None


def size_told(size_bytes: int) -> str:
    """``1.5 GiB``."""
    for unit, size in (("TiB", 1 << 40), ("GiB", GIB), ("MiB", 1 << 20)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes} bytes"
