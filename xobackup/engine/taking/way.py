"""In which way a VM is taken: pure, from the job's settings, the VM's tags and its power state, with the reason.

    disk       a snapshot of its disks, as after a power cut
    memory     a checkpoint: its disks and its memory at one moment; restored, it goes on where it was
    offline    shut down cleanly, a snapshot of its disks, started again at once
    without    shut down cleanly, exported as it is without a snapshot, started again (full backups only)

The tags are Xen Orchestra's and win over the job. A VM that is suspended is always taken with its memory: without it
its disks are those of a machine in mid-air.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView

OFFLINE_TAG = "xo-offline-backup"
MEMORY_TAG = "xo-memory-backup"
_RUNNING, _HALTED, _SUSPENDED, _PAUSED = "Running", "Halted", "Suspended", "Paused"


class Method(StrEnum):
    """See the module's head."""

    DISK = "disk"
    MEMORY = "memory"
    OFFLINE = "offline"
    WITHOUT = "without"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingPlan:
    """How a VM will be taken. ``shuts_down``: it runs, and will be shut down and started again."""

    method: Method = Method.DISK
    shuts_down: bool = False
    memory_bytes: int = 0
    """About how much memory is saved with it."""
    reason: str = ""
    warning: str = ""
    """What the operator gets instead of what was asked for, and why."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


PLAIN = TakingPlan()


def plan_taking(job: Job, vm: VmView, left_out: Sequence[str]) -> TakingPlan:
    """Decide. ``left_out``: names of the disks that the backup leaves out."""
    offline, why_offline = _asked(vm, OFFLINE_TAG, job.settings.snapshot == Method.OFFLINE, "snapshot is offline")
    memory, why_memory = _asked(vm, MEMORY_TAG, job.settings.snapshot == Method.MEMORY, "snapshot is memory")
    if job.settings.offline_backup:
        return _without(vm, left_out)
    if offline and vm.power_state in (_RUNNING, _HALTED):
        return _offline(vm, why_offline)
    if vm.power_state == _SUSPENDED:
        return _memory(vm, "it is suspended: its memory belongs to its disks", left_out)
    if offline:
        return TakingPlan(reason="it is paused", warning="it is paused and cannot be shut down: its disks are taken")
    if memory and vm.power_state == _HALTED:
        return TakingPlan(reason="it is halted: there is no memory to save")
    if memory:
        return _memory(vm, why_memory, left_out)
    return PLAIN


def _asked(vm: VmView, tag: str, by_job: bool, setting: str) -> tuple[bool, str]:
    if tag in vm.tags:
        return True, f"it has the tag {tag}"
    return by_job, f"the job's {setting}"


def _offline(vm: VmView, why: str) -> TakingPlan:
    runs = vm.power_state == _RUNNING
    does = "it is shut down, and started again after the snapshot" if runs else "it is halted already"
    return TakingPlan(method=Method.OFFLINE, shuts_down=runs, reason=f"{why}: {does}")


def _memory(vm: VmView, why: str, left_out: Sequence[str]) -> TakingPlan:
    warning = ""
    if left_out:
        warning = f"its memory expects disks that are left out ({', '.join(left_out)}): it may not resume"
    return TakingPlan(method=Method.MEMORY, memory_bytes=vm.memory_bytes, reason=why, warning=warning)


def _without(vm: VmView, left_out: Sequence[str]) -> TakingPlan:
    """Exported as it is; with a snapshot where only that leaves disks out."""
    runs = vm.power_state == _RUNNING
    if vm.power_state == _PAUSED:
        return TakingPlan(reason="it is paused", warning="it is paused and cannot be shut down: a snapshot is taken")
    if left_out and vm.power_state != _SUSPENDED:
        reason = f"offline_backup, but {', '.join(left_out)} left out, which takes a snapshot while it is off"
        return TakingPlan(method=Method.OFFLINE, shuts_down=runs, reason=reason)
    if left_out:
        return _memory(vm, "offline_backup, but disks are left out, which takes a snapshot", left_out)
    does = "it is shut down, exported and started again" if runs else f"it is {vm.power_state.lower()} already"
    return TakingPlan(method=Method.WITHOUT, shuts_down=runs, reason=f"offline_backup: {does}")


def method_used(plan: TakingPlan, *, with_memory: bool) -> Method:
    """In which way the VM was really taken."""
    return Method.DISK if plan.method is Method.MEMORY and not with_memory else plan.method
