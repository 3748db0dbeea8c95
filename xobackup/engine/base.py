"""From what a disk's next backup continues: pure, per disk and remote, with a reason for every full.

A delta can only be added to a lineage's **tip**: a second child of an older member would fork it, which nobody's
merge survives. So for each remote the base is the snapshot whose uuid is that remote's tip, when the pool still has
it, whatever its age. That the remote published it proves that its export was complete. Remotes with different tips
get different deltas: one that missed a run catches up with one larger delta while the others continue from the
newest snapshot, instead of dragging all of them into a full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from xobackup.engine.reading.ladder import STREAM_ONLY, STREAMS, Ladder, Terms, ladder_of, no_deltas, only_by_cbt
from xobackup.engine.view import DiskView, PoolSnapshot


class Full(StrEnum):
    """Why a disk is transferred whole. The first four are as asked; the others are worth a look."""

    FIRST_RUN = "first-run"
    FULL_INTERVAL = "full-interval"
    MEMORY = "memory"
    LOCK = "lock"
    REMOTE_EMPTY = "remote-empty"
    REMOTE_LEFT = "remote-left"
    CHAIN_BROKEN = "chain-broken"
    SNAPSHOT_GONE = "snapshot-gone"
    SNAPSHOT_UNUSABLE = "snapshot-unusable"
    UNTRACKED = "untracked"
    MOVED = "moved"
    SHRUNK = "shrunk"
    GROWN_PAST_TABLE = "grown-past-table"
    DELTA_FAILED = "delta-failed"

    @property
    def expected(self) -> bool:
        return self in (Full.FIRST_RUN, Full.FULL_INTERVAL, Full.MEMORY, Full.LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTip:
    """What a remote has of a disk: the newest member of its lineage, or nothing.

    ``snapshot_uuid`` is the footer uuid of the tip, ``""`` when there is none. ``problem`` says why the lineage
    cannot be continued. ``size_max_bytes`` bounds a disk that grows (``None``: no bound).
    """

    snapshot_uuid: str = ""
    virtual_size_bytes: int = 0
    size_max_bytes: int | None = None
    problem: str = ""
    chain_end: str = ""
    """Why its chain, whole as it is, must not grow any more: the locks on it end too early."""
    known: bool = False
    """The remote has, or had, restore points of this VM by this job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """For one remote: the base, or the reason why there is none."""

    remote: str
    base: PoolSnapshot | None
    full: Full | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One transfer of a disk: every remote that continues from the same base is fed from the same stream."""

    base: PoolSnapshot | None
    remotes: tuple[str, ...]
    full: Full | None
    reason: str
    ladder: Ladder = STREAM_ONLY
    """By which way it is read."""

    @property
    def delta(self) -> bool:
        return self.base is not None


def choose_base(
    disk: DiskView, remote: str, tip: RemoteTip, *, job_id: str, full_interval: int = 0, terms: Terms = STREAMS
) -> Choice:
    """Decide for one disk and one remote; ``terms`` say whether a snapshot without data can still serve."""

    def full(why: Full, reason: str) -> Choice:
        return Choice(remote=remote, base=None, full=why, reason=reason)

    ours = [snapshot for snapshot in disk.snapshots if snapshot.job_id == job_id]
    if tip.problem:
        return full(Full.CHAIN_BROKEN, tip.problem)
    if not tip.snapshot_uuid:
        if tip.known or any(snapshot.exported for snapshot in ours):
            return full(
                Full.REMOTE_EMPTY, f"remote {remote} has no backup of this disk, though it was backed up before"
            )
        return full(Full.FIRST_RUN, "first backup of this disk")
    if tip.chain_end:
        return full(Full.LOCK, f"the lock on {remote} wants a new chain: {tip.chain_end}")
    known = (*disk.snapshots, *disk.kin)
    base = next((snapshot for snapshot in known if snapshot.vdi_uuid == tip.snapshot_uuid), None)
    if base is None:
        reason = f"snapshot {tip.snapshot_uuid}, the newest on remote {remote}, is gone from the pool"
        return full(Full.SNAPSHOT_GONE, reason)
    refusal = _refuse(disk, base, tip, job_id, terms)
    if refusal is not None:
        return full(*refusal)
    if full_interval and full_interval <= base.chain_length + 1:
        reason = f"every {full_interval}th backup is full, {base.chain_length} deltas follow the last one"
        return full(Full.FULL_INTERVAL, reason)
    reason = f"continues from snapshot {base.vdi_uuid}"
    if base.content_key:
        reason = f"continues from snapshot {base.content_key}, which {remote} still has"
    return Choice(remote=remote, base=base, full=None, reason=reason)


def _refuse(disk: DiskView, base: PoolSnapshot, tip: RemoteTip, job_id: str, terms: Terms) -> tuple[Full, str] | None:
    if base.job_id != job_id and not base.content_key:
        return Full.SNAPSHOT_UNUSABLE, f"snapshot {base.vdi_uuid} belongs to job {base.job_id or '(none)'}"
    if not base.usable:
        return Full.SNAPSHOT_UNUSABLE, f"snapshot {base.vdi_uuid} is in use elsewhere or its data are missing"
    if base.sr_uuid != disk.sr_uuid:
        return Full.MOVED, f"the disk moved from SR {base.sr_uuid} to {disk.sr_uuid}"
    why = no_deltas(disk, base)
    if why and (problem := only_by_cbt(terms, disk, base)):
        reason = f"{why}, and changed blocks cannot be used: {problem}"
        return Full.SNAPSHOT_UNUSABLE if not base.has_data else Full.UNTRACKED, reason
    size = disk.virtual_size_bytes
    if size < max(base.virtual_size_bytes, tip.virtual_size_bytes):
        found = max(base.virtual_size_bytes, tip.virtual_size_bytes)
        return Full.SHRUNK, f"the disk shrank from {found} to {size} bytes"
    if tip.size_max_bytes is not None and size > tip.size_max_bytes:
        return Full.GROWN_PAST_TABLE, f"the disk grew to {size} bytes, its chain has room for {tip.size_max_bytes}"
    return None


def routes_of(choices: Iterable[Choice]) -> tuple[Route, ...]:
    """Group remotes by their base, deltas from the newest base first, the full (if any) last."""
    groups: dict[str, list[Choice]] = {}
    for choice in choices:
        groups.setdefault(choice.base.vdi_uuid if choice.base else "", []).append(choice)
    ordered = sorted(groups.values(), key=lambda group: group[0].base.datetime if group[0].base else "", reverse=True)
    return tuple(_route(group) for group in ordered)


def _route(group: Sequence[Choice]) -> Route:
    reasons = list(dict.fromkeys(choice.reason for choice in group))
    unexpected = [choice.full for choice in group if choice.full is not None and not choice.full.expected]
    return Route(
        base=group[0].base,
        remotes=tuple(choice.remote for choice in group),
        full=unexpected[0] if unexpected else group[0].full,
        reason="; ".join(reasons),
    )


def plan_routes(
    disk: DiskView,
    tips: Mapping[str, RemoteTip],
    *,
    job_id: str,
    full_interval: int = 0,
    terms: Terms = STREAMS,
) -> tuple[Route, ...]:
    """All transfers that ``disk`` needs to reach every remote in ``tips``."""
    routes = routes_of(
        choose_base(disk, remote, tip, job_id=job_id, full_interval=full_interval, terms=terms)
        for remote, tip in tips.items()
    )
    return tuple(replace(route, ladder=ladder_of(terms, disk, route.base)) for route in routes)
