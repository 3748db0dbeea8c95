"""How much of one VM's backups was verified, and how long ago. Reads tables, digests and records; changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from remotes.contract import Remote
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.layout import split_disk_path, vm_directory
from xobackup.repository.lineage import read_lineage
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import MODE_FULL
from xobackup.repository.verified import NEVER, print_of, read_images, read_verified
from xobackup.repository.verify_disk import blocks_of_disk
from xobackup.repository.workspace import RemoteWorkspace

MINUTE_S = 60
DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskAges:
    """One disk of a VM over all its restore points."""

    vdi: str
    blocks: int
    without_digest: int
    """Of those it can only be told that they can be read."""
    recent: int
    """Verified within the days asked for."""
    never: int
    oldest_s: int | None
    """Unix time of the verification that is longest ago; ``None`` when something was never verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmAges:
    """What was verified of one VM, and when."""

    vm: str
    disks: tuple[DiskAges, ...]
    images: int
    images_recent: int
    images_never: int

    @property
    def blocks(self) -> int:
        return sum(disk.blocks for disk in self.disks)

    @property
    def recent(self) -> int:
        return sum(disk.recent for disk in self.disks)

    @property
    def never(self) -> int:
        return sum(disk.never for disk in self.disks)

    @property
    def oldest_s(self) -> int | None:
        known = [disk.oldest_s for disk in self.disks if disk.blocks]
        ages = [age for age in known if age is not None]
        return min(ages) if ages and len(ages) == len(known) else None


def read_ages(remote: Remote, vm: str, *, now_s: float, days: float) -> VmAges:
    """Of every disk and image that restore points of ``vm`` name."""
    since = int(now_s) // MINUTE_S - int(days * DAY_MINUTES)
    points = list_points(remote, vm, use_cache=False).points
    paths = sorted({split_disk_path(disk.path)[0] for point in points for disk in point.disks})
    ages = read_images(remote, vm)
    images = [ages.get(point.id, NEVER) for point in points if point.mode == MODE_FULL]
    return VmAges(
        vm=vm,
        disks=tuple(_disk_ages(remote, vm, path, since) for path in paths),
        images=len(images),
        images_recent=sum(age >= since and age != NEVER for age in images),
        images_never=images.count(NEVER),
    )


def _disk_ages(remote: Remote, vm: str, path: str, since: int) -> DiskAges:
    workspace = RemoteWorkspace(remote, f"{vm_directory(vm)}/{path}")
    lineage = read_lineage(workspace, path, CODECS)
    record, store = read_verified(remote, vm, path), DigestStore(remote, vm, path)
    counted: Counter[int] = Counter()
    without = 0
    for member in lineage.members.values():
        for index, entry in blocks_of_disk(workspace, member, store):
            counted[record.when(index, print_of(member.uuid, index, entry))] += 1
            without += entry is None
    total = counted.total()
    return DiskAges(
        vdi=path.rsplit("/", 1)[-1],
        blocks=total,
        without_digest=without,
        recent=sum(count for age, count in counted.items() if age >= since and age != NEVER),
        never=counted[NEVER],
        oldest_s=min(counted) * MINUTE_S if total and not counted[NEVER] else None,
    )
