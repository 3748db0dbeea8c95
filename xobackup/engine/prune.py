"""Which of a job's snapshots on the pool have served: pure, with reasons.

Kept: the newest exported snapshot of the job, whatever schedule made it (the next delta continues from it); older
ones that are still the newest of some remote that missed a run, up to a bound; and as many of the newest of each
schedule as it keeps for their own sake. Never touched: snapshots of other jobs, snapshots that no backup marked,
disks in use elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xobackup.engine.view import PoolSnapshot, VmView


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One backup's snapshot: all disks that carry the same moment."""

    datetime: str
    vm_snapshot_ref: str
    disks: tuple[PoolSnapshot, ...]
    schedule_id: str = ""
    complete: bool = False
    """Its export ended well, or it is there for its own sake."""

    @property
    def exported(self) -> bool:
        """Its disks may be the base of a delta."""
        return any(disk.exported for disk in self.disks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Keep a snapshot or not, and why."""

    group: Group
    keep: bool
    reason: str


def groups_of(vm: VmView, job_id: str) -> list[Group]:
    """The job's snapshots of a VM, newest first; also those that have no disks (any more)."""
    found: dict[tuple[str, str], list[PoolSnapshot]] = {}
    for disk in vm.disks:
        for snapshot in disk.snapshots:
            if snapshot.job_id == job_id and snapshot.vm_uuid == vm.uuid and snapshot.datetime:
                found.setdefault((snapshot.datetime, snapshot.vm_snapshot_ref), []).append(snapshot)
    of_vm = {one.ref: one for one in vm.snapshots if one.job_id == job_id}
    led_to = {ref for _, ref in found}
    found |= {(one.datetime, one.ref): [] for one in of_vm.values() if one.ref not in led_to}
    return [
        Group(
            datetime=moment,
            vm_snapshot_ref=ref,
            disks=tuple(disks),
            schedule_id=of_vm[ref].schedule_id if ref in of_vm else "",
            complete=ref in of_vm and of_vm[ref].complete,
        )
        for (moment, ref), disks in sorted(found.items(), key=lambda item: item[0], reverse=True)
    ]


def judge(
    groups: Iterable[Group],
    *,
    tips: Mapping[str, Iterable[str]],
    bases_max: int,
    rolling: int = 0,
    rolling_of: Mapping[str, int] | None = None,
) -> list[Verdict]:
    """Decide for every group, newest first. ``tips``: per remote, the snapshot uuids its lineages end with;
    ``bases_max`` 0: the job needs none; ``rolling``: kept for their own sake, per schedule;
    ``rolling_of``: by schedule, where others of the same job keep another number."""
    verdicts: list[Verdict] = []
    bases = 0
    ordered = sorted(groups, key=lambda group: group.datetime, reverse=True)
    kept = _rolling(ordered, rolling, rolling_of or {})
    for group in ordered:
        uuids = {disk.vdi_uuid for disk in group.disks}
        needing = sorted(remote for remote, ends in tips.items() if uuids & set(ends))
        is_base = group.exported and bases_max > 0
        keep, reason = True, ""
        if not all(disk.usable for disk in group.disks):
            reason = "one of its disks is in use elsewhere"
        elif is_base and bases == 0:
            bases, reason = 1, "the next delta continues from it"
        elif is_base and needing and bases < bases_max:
            bases, reason = bases + 1, f"{', '.join(needing)} missed a run and continues from it"
        elif group.vm_snapshot_ref in kept:
            reason = f"it is one of the newest {(rolling_of or {}).get(group.schedule_id, rolling)}"
        else:
            keep, reason = False, _served(group, needing, bases_max, rolling)
        verdicts.append(Verdict(group=group, keep=keep, reason=reason))
    return verdicts


def _rolling(ordered: Sequence[Group], rolling: int, rolling_of: Mapping[str, int]) -> set[str]:
    """References of the newest VM snapshots of each schedule."""
    kept: set[str] = set()
    counts: dict[str, int] = {}
    for group in ordered:
        counted = bool(group.vm_snapshot_ref) and (group.complete or group.exported)
        if counted and counts.get(group.schedule_id, 0) < rolling_of.get(group.schedule_id, rolling):
            counts[group.schedule_id] = counts.get(group.schedule_id, 0) + 1
            kept.add(group.vm_snapshot_ref)
    return kept


def _served(group: Group, needing: list[str], bases_max: int, rolling: int) -> str:
    if not group.exported and not group.complete and bases_max:
        return "its export was never completed"
    if needing and bases_max:
        return f"{', '.join(needing)} still needs it, but only {bases_max} are kept: its next backup will be a full"
    if rolling:
        return f"it is older than the newest {rolling}"
    if not bases_max:
        return "the job makes full backups, which continue from nothing"
    if not group.disks:
        return "it has no disks: nothing continues from it"
    return "a newer snapshot has taken its place"
