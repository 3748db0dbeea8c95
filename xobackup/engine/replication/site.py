"""The pool and the SRs that a target of a job means, opened and looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xobackup.engine.errors import UsageError
from xobackup.engine.replication.points import CLASSES, Records, ReplicaPoint
from xobackup.engine.restore.plan import Site as Offer
from xobackup.engine.restore.plan import named
from xobackup.xapi.image_format import VHD_MAX_BYTES, takes_qcow2

if TYPE_CHECKING:
    from xobackup.engine.job import SrTarget
    from xobackup.engine.view import DiskView
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """An SR of a target."""

    ref: str
    uuid: str
    name: str
    qcow2: bool = False
    """It makes disks in qcow2, which may be larger than a VHD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSite:
    """A target, opened. ``srs``: in the order of the configuration; ``qcow2``: SRs of the pool, by name, that make
    disks in qcow2."""

    target: SrTarget
    session: Session
    pool_uuid: str
    srs: tuple[Storage, ...]
    networks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    pifs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    qcow2: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def sr_uuids(self) -> Collection[str]:
        return {sr.uuid for sr in self.srs}

    def sr_of(self, live_uuid: str) -> Storage | None:
        """Where a new disk belongs that the target gives a place of its own."""
        wanted = self.target.disk_srs.get(live_uuid)
        return next((sr for sr in self.srs if sr.uuid == wanted), None)

    @property
    def offer(self) -> Offer:
        """Its networks, for finding those of a VM."""
        return Offer(default_sr="", srs={}, networks=self.networks, pifs=self.pifs)

    def look(self) -> Records:
        """The pool's VMs, disks and SRs now."""
        return {cls: self.session.records(cls) for cls in CLASSES}


def open_site(target: SrTarget, session: Session, pool_uuid: str) -> ReplicaSite:
    """Find the SRs. Raises :class:`UsageError` for one that is not there or cannot take disks."""
    records, drivers, pbds = (session.records(cls) for cls in ("SR", "SM", "PBD"))
    qcow2 = {ref for ref, sr in records.items() if takes_qcow2(ref, sr, drivers.values(), pbds.values())}
    found: list[Storage] = []
    for wanted in target.srs:
        ref = named("SR", wanted, records)
        if records[ref].get("content_type") == "iso":
            raise UsageError(f"SR {wanted!r} holds ISO images, it cannot take replicas", hint="name another")
        name = str(records[ref].get("name_label", ""))
        found.append(Storage(ref=ref, uuid=str(records[ref]["uuid"]), name=name, qcow2=ref in qcow2))
    return ReplicaSite(
        target=target,
        session=session,
        pool_uuid=pool_uuid,
        srs=tuple(found),
        networks=session.records("network"),
        pifs=session.records("PIF"),
        qcow2=tuple(sorted(str(records[ref].get("name_label") or ref) for ref in qcow2)),
    )


def able_srs(srs: Sequence[Storage], largest_bytes: int) -> tuple[Storage, ...]:
    """Those that can hold a disk of that size. Pure."""
    return tuple(sr for sr in srs if sr.qcow2 or largest_bytes <= VHD_MAX_BYTES)


def refuse_disks(site: ReplicaSite, disks: Iterable[DiskView]) -> UsageError | None:
    """Why the target cannot hold a replica with these disks, whatever its room. Pure."""
    for disk in disks:
        if not able_srs(site.srs, disk.virtual_size_bytes):
            what = f"{disk.virtual_size_bytes >> 30} GiB are more than a VHD holds ({VHD_MAX_BYTES >> 30} GiB)"
            srs = " and ".join(sr.name for sr in site.srs)
            return UsageError(
                f"disk {disk.name or disk.vdi_uuid}: {what}, and SR {srs} takes no qcow2 disks",
                hint=f"give target {site.name} an SR that does (in its pool: {', '.join(site.qcow2) or 'none'}), or "
                "leave the disk out of the job",
            )
    return None


def choose_sr(srs: Sequence[Storage], records: Records, points: Sequence[ReplicaPoint]) -> Storage:
    """The SR of a VM's replica: where it is already, else the one with the most room. Pure."""
    for point in points:
        for sr in srs:
            if point.usable and {disk.sr_uuid for disk in point.disks} <= {sr.uuid} and point.sr_uuid == sr.uuid:
                return sr
    return max(srs, key=lambda sr: free_bytes(records["SR"].get(sr.ref, {})))


def free_bytes(sr: Mapping[str, Any]) -> int:
    """As of the pool's last scan."""
    return int(sr.get("physical_size") or 0) - int(sr.get("physical_utilisation") or 0)
