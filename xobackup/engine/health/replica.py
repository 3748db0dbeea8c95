"""A health check of a replica: a clone of its restore point on the replica's own SR, booted, asked, and removed.

The replica and its restore points are only read. The clone has the check's mark before it has its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xobackup.engine import keys
from xobackup.engine.dr.copies import Dress, make_copy
from xobackup.engine.dr.plan import original_name
from xobackup.engine.health.check import NAME, TAG, Made, Subject, Tell, check
from xobackup.engine.replication.points import find_points
from xobackup.engine.restore.plan import named

if TYPE_CHECKING:
    from xobackup.engine.health.request import CheckRequest, CheckResult
    from xobackup.engine.leftovers.claim import Claim
    from xobackup.engine.replication.points import ReplicaPoint
    from xobackup.engine.replication.site import ReplicaSite
    from xobackup.engine.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A restore point of a replica, and where it is."""

    site: ReplicaSite
    point: ReplicaPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkable:
    """A VM with replicas. ``places``: the newest first; at one moment in the order of the sites."""

    vm_uuid: str
    name: str
    tags: tuple[str, ...]
    places: tuple[Place, ...]


def find_checkable(sites: Sequence[ReplicaSite], job_names: Mapping[str, str]) -> list[Checkable]:
    """Every VM with a usable restore point on these sites, by name. ``job_names``: by id."""
    by_vm: dict[str, list[Place]] = {}
    tags: dict[str, tuple[str, ...]] = {}
    for site in sites:
        records = site.look()
        for whole in (False, True):
            for point in find_points(records, srs=site.sr_uuids, whole=whole):
                if point.usable:
                    by_vm.setdefault(point.vm_uuid, []).append(Place(site=site, point=point))
                    tags[point.ref] = tuple(records["VM"][point.ref].get("tags") or ())
    found: list[Checkable] = []
    for uuid, places in by_vm.items():
        places.sort(key=lambda one: one.point.timestamp_ms, reverse=True)
        newest = places[0].point
        name = original_name(newest, job_names)
        found.append(Checkable(vm_uuid=uuid, name=name, tags=tags[newest.ref], places=tuple(places)))
    return sorted(found, key=lambda one: (one.name, one.vm_uuid))


def find_replicas(site: ReplicaSite, wanted: Mapping[str, str]) -> dict[str, ReplicaPoint]:
    """Usable restore points on the site's SRs by VM, of those ``wanted`` (VM uuid: id of the restore point)."""
    records = site.look()
    found: dict[str, ReplicaPoint] = {}
    for whole in (False, True):
        for point in find_points(records, srs=site.sr_uuids, whole=whole):
            if point.usable and wanted.get(point.vm_uuid) == point.id:
                found.setdefault(point.vm_uuid, point)
    return found


def check_replica(
    world: World,
    site: ReplicaSite,
    point: ReplicaPoint,
    request: CheckRequest,
    *,
    vm_name: str,
    tell: Tell = lambda _: None,
) -> CheckResult:
    """Check it. A check that fails is a result; raised is only what stops everything."""
    session = site.session
    network = None if request.network is None else named("network", request.network, site.networks)
    warnings: list[str] = []

    def cloned(check_id: str, claim: Claim) -> Made:
        marks = {keys.HEALTH_CHECK: check_id}
        ref = make_copy(
            session,
            point,
            Dress(name=f"{NAME}{vm_name}", network=network, disk_marks=marks, tags=(TAG,)),
            run_id=check_id,
            claim=claim,
            marks=lambda uuid: {keys.HEALTH_CHECK: f"{check_id} {uuid}"},
            warn=warnings.append,
        )
        return Made(vm_ref=ref, size_bytes=0, blocks_compared=0, warnings=tuple(warnings), settled=True)

    subject = Subject(
        vm_uuid=point.vm_uuid,
        vm_name=vm_name,
        point=point.id,
        tags=tuple(session.call("VM.get_tags", point.ref)),
        remote=site.name,
        pool=site.target.pool.name,
        sr=next((sr.name for sr in site.srs if sr.uuid == point.sr_uuid), point.sr_uuid),
        size_bytes=sum(disk.virtual_size_bytes for disk in point.disks),
    )
    return check(world, session, subject, request, cloned, first="clone", tell=tell)
