"""Which VMs and disks a job means: pure, with a reason for everything left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase

from xobackup.engine import keys
from xobackup.engine.job import DiskRule, Job, VmRule
from xobackup.engine.space.judge import size_told
from xobackup.engine.view import DiskView, VmView

NO_BACKUP_TAG = "xo:no-bak"
NO_BACKUP_NAME = "[NOBAK]"
MIGRATING = ("migrate_send", "pool_migrate")


class Why(StrEnum):
    """Stable codes of reasons to leave something out."""

    TEMPLATE = "template"
    SNAPSHOT = "snapshot"
    CONTROL_DOMAIN = "control-domain"
    OWN_REPLICA = "own-replica"
    NO_BACKUP_TAG = "no-backup-tag"
    NOT_INCLUDED = "not-included"
    EXCLUDED = "excluded"
    NO_DISKS = "no-disks"
    NOT_FOUND = "not-found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something left out, and why."""

    uuid: str
    name: str
    why: Why
    reason: str
    matched: bool = False
    """An include rule named it: the operator may have expected it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The answer for VMs."""

    chosen: tuple[VmView, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSelection:
    """The answer for the disks of one VM."""

    chosen: tuple[DiskView, ...]
    skipped: tuple[Skipped, ...]


def select_vms(job: Job, vms: Iterable[VmView]) -> Selection:
    """Judge every VM; chosen ones sorted by name, then uuid. Uuids of the selector that no pool has are reported."""
    chosen: list[VmView] = []
    skipped: list[Skipped] = []
    seen: set[str] = set()
    for vm in vms:
        seen.add(vm.uuid)
        verdict = judge_vm(job, vm)
        if verdict is None:
            chosen.append(vm)
        else:
            skipped.append(verdict)
    for rule in job.selector.include:
        if rule.uuid and rule.uuid not in seen:
            reason = f"no pool of this job has a VM {rule.uuid}"
            skipped.append(Skipped(uuid=rule.uuid, name="", why=Why.NOT_FOUND, reason=reason, matched=True))
    return Selection(
        chosen=tuple(sorted(chosen, key=lambda vm: (vm.name, vm.uuid))),
        skipped=tuple(sorted(skipped, key=lambda one: (one.name, one.uuid))),
    )


def judge_vm(job: Job, vm: VmView) -> Skipped | None:
    """Why ``vm`` is left out, or ``None`` when it is chosen."""
    selector = job.selector
    included = not selector.include or any(vm_matches(rule, vm) for rule in selector.include)

    def skip(why: Why, reason: str, *, matched: bool = included) -> Skipped:
        return Skipped(uuid=vm.uuid, name=vm.name, why=why, reason=reason, matched=matched)

    named = any(rule.uuid == vm.uuid for rule in selector.include)  # others match by a tag or name they inherited
    if vm.is_control_domain:
        return skip(Why.CONTROL_DOMAIN, "it is a host's control domain", matched=named)
    if vm.is_snapshot:
        return skip(Why.SNAPSHOT, "it is a snapshot", matched=named)
    if vm.is_template:
        return skip(Why.TEMPLATE, "it is a template", matched=named)
    if not included:
        return skip(Why.NOT_INCLUDED, "no rule of the job names it")
    for rule in selector.exclude:
        if vm_matches(rule, vm):
            return skip(Why.EXCLUDED, f"it is excluded by {told(rule)}")
    for tag in vm.tags:
        if tag == NO_BACKUP_TAG or tag.startswith(NO_BACKUP_TAG + "="):
            return skip(Why.NO_BACKUP_TAG, f"it has the tag {tag}")
    if vm.other_config.get(keys.JOB) == job.id and "start" in vm.blocked_operations:
        return skip(Why.OWN_REPLICA, "it is a replica made by this very job")
    if keys.REPLICA in vm.other_config and "start" in vm.blocked_operations and not named:
        return skip(Why.OWN_REPLICA, "it is a replica; a rule with its uuid chooses it all the same")
    return None


def vm_matches(rule: VmRule, vm: VmView) -> bool:
    """Whether every key of the rule fits."""
    return (
        rule.uuid in ("", vm.uuid)
        and (not rule.name or fnmatchcase(vm.name, rule.name))
        and (not rule.tag or rule.tag in vm.tags)
        and rule.power_state in ("", vm.power_state)
        and (not rule.host or rule.host in vm.host)
        and rule.pool in ("", vm.pool)
    )


def disk_matches(rule: DiskRule, disk: DiskView) -> bool:
    """Whether every key of the rule fits."""
    return (
        rule.uuid in ("", disk.vdi_uuid)
        and (not rule.name or fnmatchcase(disk.name, rule.name))
        and (not rule.tag or rule.tag in disk.tags)
        and rule.device in ("", disk.userdevice)
        and rule.sr in ("", disk.sr_uuid, disk.sr_name)
        and (rule.larger_than_bytes is None or disk.virtual_size_bytes > rule.larger_than_bytes)
    )


def told(rule: VmRule | DiskRule) -> str:
    """A rule for humans: its keys."""
    given = [(field.name, getattr(rule, field.name)) for field in fields(rule)]
    parts = [
        f"larger than {size_told(value)}" if name == "larger_than_bytes" else f"{name} {value}"
        for name, value in given
        if value or value == 0
    ]
    return "the rule " + (" and ".join(parts) or "for all")


def select_disks(exclude: Sequence[DiskRule], disks: Iterable[DiskView]) -> DiskSelection:
    """Judge the disks of a VM; chosen ones in the order of their device numbers."""
    chosen: list[DiskView] = []
    skipped: list[Skipped] = []
    for disk in sorted(disks, key=lambda disk: (_number(disk.userdevice), disk.userdevice)):
        reason = _disk_rule(exclude, disk)
        if reason:
            skipped.append(Skipped(uuid=disk.vdi_uuid, name=disk.name, why=Why.EXCLUDED, reason=reason))
        else:
            chosen.append(disk)
    return DiskSelection(chosen=tuple(chosen), skipped=tuple(skipped))


def _number(userdevice: str) -> int:
    return int(userdevice) if userdevice.isdigit() else 1 << 30


def _disk_rule(exclude: Sequence[DiskRule], disk: DiskView) -> str:
    if NO_BACKUP_NAME in disk.name:
        return f"its name contains {NO_BACKUP_NAME}"
    return next((f"it is excluded by {told(rule)}" for rule in exclude if disk_matches(rule, disk)), "")
