"""What replicas there are, and how far they lag behind: a look that touches nothing and needs no other pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.replication.marks import UNFINISHED_TEXT
from xobackup.engine.replication.points import Records, ReplicaPoint, find_points

if TYPE_CHECKING:
    from xobackup.engine.replication.site import ReplicaSite

READY, GONE, WRITTEN, ALLOWED = "ready", "gone", "being written to", "start allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPoint:
    """``name``: of the snapshot on the pool."""

    id: str
    uuid: str
    name: str
    timestamp_ms: int
    by_xo: bool
    usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedReplica:
    """One VM's replica at one target. ``lag_s``: since its newest restore point; ``gap_s``: the longest time between
    two of them."""

    target: str
    sr: str
    vm_uuid: str
    job_id: str
    name: str
    uuid: str
    state: str
    """Whether it can be written to: :data:`READY`, :data:`GONE`, :data:`WRITTEN`, :data:`ALLOWED`, or its power
    state. Its restore points can be used in any case."""
    lag_s: float
    gap_s: float
    points: tuple[ListedPoint, ...]
    """Newest first."""

    def as_data(self) -> dict[str, Any]:
        """As JSON data, stable keys."""
        return asdict(self)


def list_replicas(site: ReplicaSite, *, now_s: float) -> list[ListedReplica]:
    """All replicas at a target, whoever made them, by name. Raises from the XapiError tree."""
    records = site.look()
    names = {sr.uuid: sr.name for sr in site.srs}
    groups: dict[tuple[str, str, str], list[ReplicaPoint]] = {}
    for point in find_points(records, srs=site.sr_uuids):
        groups.setdefault((point.vm_uuid, point.job_id, point.sr_uuid), []).append(point)
    found = [
        listed(points, records, target=site.name, sr=names.get(points[0].sr_uuid, ""), now_s=now_s)
        for points in groups.values()
    ]
    return sorted(found, key=lambda one: (one.name, one.vm_uuid, one.job_id))


def listed(points: Sequence[ReplicaPoint], records: Records, *, target: str, sr: str, now_s: float) -> ListedReplica:
    """One replica from its restore points, newest first. Pure."""
    newest = points[0]
    replica = records["VM"].get(newest.replica_ref)
    times = [point.timestamp_ms / 1000 for point in points]
    gaps = [later - earlier for later, earlier in pairwise(times)]
    return ListedReplica(
        target=target,
        sr=sr,
        vm_uuid=newest.vm_uuid,
        job_id=newest.job_id,
        name=str(replica["name_label"]) if replica else newest.name,
        uuid=str(replica["uuid"]) if replica else "",
        state=state_of(replica),
        lag_s=max(0.0, now_s - times[0]),
        gap_s=max(gaps, default=0.0),
        points=tuple(
            ListedPoint(
                id=point.id,
                uuid=point.uuid,
                name=point.name,
                timestamp_ms=point.timestamp_ms,
                by_xo=point.by_xo,
                usable=point.usable,
            )
            for point in points
        ),
    )


def state_of(replica: Mapping[str, Any] | None) -> str:
    """See :attr:`ListedReplica.state`."""
    if replica is None:
        return GONE
    blocked = (replica.get("blocked_operations") or {}).get("start")
    if replica.get("power_state") != "Halted":
        return str(replica.get("power_state", "")).lower()
    if blocked == UNFINISHED_TEXT and keys.RUN in (replica.get("other_config") or {}):
        return WRITTEN
    return READY if blocked is not None else ALLOWED
