"""Which of a job's snapshots on the pool have served: pure, with reasons.

Kept: the newest exported snapshot of the job, whatever schedule made it (the next delta continues from it), and
older ones that are still the newest of some remote that missed a run, up to a bound. Never touched: snapshots of
other jobs, snapshots that no backup marked, disks in use elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xobackup.engine.view import PoolSnapshot, VmView


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One backup's snapshot: all disks that carry the same moment."""

    datetime: str
    vm_snapshot_ref: str
    disks: tuple[PoolSnapshot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Keep a snapshot or not, and why."""

    group: Group
    keep: bool
    reason: str


def groups_of(vm: VmView, job_id: str) -> list[Group]:
    """The job's snapshots of a VM, newest first."""
    found: dict[tuple[str, str], list[PoolSnapshot]] = {}
    for disk in vm.disks:
        for snapshot in disk.snapshots:
            if snapshot.job_id == job_id and snapshot.vm_uuid == vm.uuid and snapshot.datetime:
                found.setdefault((snapshot.datetime, snapshot.vm_snapshot_ref), []).append(snapshot)
    ordered = sorted(found.items(), reverse=True)
    return [Group(datetime=moment, vm_snapshot_ref=ref, disks=tuple(disks)) for (moment, ref), disks in ordered]


def judge(groups: Iterable[Group], *, tips: Mapping[str, Iterable[str]], bases_max: int) -> list[Verdict]:
    """Decide for every group, newest first. ``tips``: per remote, the snapshot uuids its lineages end with;
    ``bases_max`` 0: the job needs none."""
    verdicts: list[Verdict] = []
    kept = 0
    for group in sorted(groups, key=lambda group: group.datetime, reverse=True):
        uuids = {disk.vdi_uuid for disk in group.disks}
        exported = any(disk.exported for disk in group.disks)
        needing = sorted(remote for remote, ends in tips.items() if uuids & set(ends))
        if not all(disk.usable for disk in group.disks):
            verdicts.append(Verdict(group=group, keep=True, reason="one of its disks is in use elsewhere"))
        elif bases_max == 0:
            reason = "the job makes full backups, which continue from nothing"
            verdicts.append(Verdict(group=group, keep=False, reason=reason))
        elif exported and kept == 0:
            kept = 1
            verdicts.append(Verdict(group=group, keep=True, reason="the next delta continues from it"))
        elif exported and needing and kept < bases_max:
            kept += 1
            reason = f"{', '.join(needing)} missed a run and continues from it"
            verdicts.append(Verdict(group=group, keep=True, reason=reason))
        else:
            verdicts.append(Verdict(group=group, keep=False, reason=_served(exported, needing, bases_max)))
    return verdicts


def _served(exported: bool, needing: list[str], bases_max: int) -> str:
    if not exported:
        return "its export was never completed"
    if needing:
        return f"{', '.join(needing)} still needs it, but only {bases_max} are kept: its next backup will be a full"
    return "a newer snapshot has taken its place"
