"""The room that replicas need on the SRs of their targets, and what is done when there is not enough.

Looked at twice: by virtual sizes and estimates before a VM is touched, and by the blocks that are really coming
before the first of them is sent. Free space is what the pool knows, which is as of the SR's last scan.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from xobackup.engine.errors import NoRoom
from xobackup.engine.plan import VmPlan, estimate
from xobackup.engine.replication.points import find_points
from xobackup.engine.replication.site import ReplicaSite, Storage, able_srs, choose_sr
from xobackup.engine.space.judge import (
    TARGET_HINT,
    THICK,
    ReplicaNeed,
    Shortage,
    SpaceCheck,
    replica_shortage,
    size_told,
)
from xobackup.engine.view import SrView
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.replication.points import Records
    from xobackup.xapi.session import Session


def view_of(sr: Mapping[str, Any]) -> SrView:
    """An SR's record."""
    return SrView(
        uuid=str(sr.get("uuid", "")),
        name=str(sr.get("name_label", "")),
        type=str(sr.get("type", "")),
        total_bytes=int(sr.get("physical_size") or 0),
        used_bytes=int(sr.get("physical_utilisation") or 0),
    )


def need_of(plans: Iterable[VmPlan], target: str) -> ReplicaNeed:
    """What these plans bring to a target. Pure."""
    new = delta = point = 0
    for plan in plans:
        if plan.archive is not None:
            if target in plan.archive.remotes:
                new += sum(one.disk.virtual_size_bytes for one in plan.disks)
            continue
        for one in plan.disks:
            size_bytes = one.disk.virtual_size_bytes
            for route in (route for route in one.routes if target in route.remotes):
                point += size_bytes
                new += 0 if route.delta else size_bytes
                delta += estimate(one.disk, route) if route.delta else 0
    return ReplicaNeed(new_bytes=new, delta_bytes=delta, point_bytes=point)


def target_shortages(
    job: Job, site: ReplicaSite, records: Records, plans: Iterable[VmPlan]
) -> list[tuple[Storage, Shortage]]:
    """SRs of a target where these plans together need more than there is. Pure."""
    if job.settings.space_check is SpaceCheck.OFF or site.target.disk_srs:
        return []  # disks that have a place each are judged by what really comes
    by_sr: dict[Storage, list[VmPlan]] = {}
    for plan in plans:
        if not plan.refusal:
            points = find_points(records, job_id=job.id, vm_uuid=plan.vm.uuid, srs=site.sr_uuids)
            largest = max((one.disk.virtual_size_bytes for one in plan.disks), default=0)
            if srs := able_srs(site.srs, largest):
                by_sr.setdefault(choose_sr(srs, records, points), []).append(plan)
    found: list[tuple[Storage, Shortage]] = []
    for sr, held in by_sr.items():
        short = replica_shortage(site.name, view_of(records["SR"].get(sr.ref, {})), need_of(held, site.name))
        if short is not None:
            found.append((sr, short))
    return found


def look_again(job: Job, site: ReplicaSite, plan: VmPlan) -> list[Shortage]:
    """The same for one VM, by what the pool knows now. Before anything counts as certain the SR is scanned: what was
    removed a moment ago may not be in its figures yet. Raises from the XapiError tree."""
    if job.settings.space_check is SpaceCheck.OFF or site.target.disk_srs:
        return []
    short = target_shortages(job, site, _look(site), [plan])
    certain = [sr for sr, one in short if one.refusable]
    for sr in certain:
        with contextlib.suppress(XapiError):  # then the figures are what they are
            site.session.call("SR.scan", sr.ref)
    return [one for _, one in (target_shortages(job, site, _look(site), [plan]) if certain else short)]


def _look(site: ReplicaSite) -> Records:
    """Where there is but one SR, nothing else has to be known than what is free there."""
    if len(site.srs) > 1:
        return site.look()
    (sr,) = site.srs
    return {"VM": {}, "VBD": {}, "VDI": {}, "SR": {sr.ref: site.session.record("SR", sr.ref)}}


class Room:
    """What disks of one replica are about to write to an SR, told before the first block is sent."""

    def __init__(self, session: Session, target: str, check: SpaceCheck, warn: Callable[[str], None]) -> None:
        self._session = session
        self._target = target
        self._check = check
        self._warn = warn
        self._promised: dict[str, int] = {}
        self._lock = threading.Lock()

    def claim(self, vdi_ref: str, name: str, size_bytes: int) -> None:
        """``size_bytes`` of blocks are coming. Raises :class:`NoRoom` if the job refuses what may not fit: a storage
        that compresses might take it after all."""
        if self._check is SpaceCheck.OFF:
            return
        with self._lock:
            sr = view_of(self._session.record("SR", str(self._session.call("VDI.get_SR", vdi_ref))))
            others = sum(self._promised.values())
            self._promised[vdi_ref] = size_bytes
        if sr.type in THICK or sr.total_bytes <= 0 or others + size_bytes <= sr.free_bytes:
            return
        more = f" ({size_told(others)} of other disks are on their way)" if others else ""
        told = f"disk {name}: {size_told(size_bytes)} are to come, SR {sr.name} has {size_told(sr.free_bytes)} free"
        if self._check is SpaceCheck.REFUSE:
            raise NoRoom(told + more, hint=TARGET_HINT)
        self._warn(f"target {self._target}: {told}{more}; {TARGET_HINT}")

    def arrived(self, vdi_ref: str) -> None:
        """What was announced is there, and in the pool's figures; or it will not come."""
        with self._lock:
            self._promised.pop(vdi_ref, None)
