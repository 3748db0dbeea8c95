"""Which VMs and disks a job means: pure, with a reason for everything left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from xobackup.engine.job import DiskRules, Job, Selector
from xobackup.engine.view import DiskView, VmView

NO_BACKUP_TAG = "xo:no-bak"
NO_BACKUP_NAME = "[NOBAK]"
JOB_KEY = "xo:backup:job"
MIGRATING = ("migrate_send", "pool_migrate")


class Why(StrEnum):
    """Stable codes of reasons to leave something out."""

    TEMPLATE = "template"
    SNAPSHOT = "snapshot"
    CONTROL_DOMAIN = "control-domain"
    OWN_REPLICA = "own-replica"
    NO_BACKUP_TAG = "no-backup-tag"
    NOT_INCLUDED = "not-included"
    OTHER_POOL = "other-pool"
    POWER_STATE = "power-state"
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
    for uuid in job.selector.uuids:
        if uuid not in seen:
            reason = f"no pool of this job has a VM {uuid}"
            skipped.append(Skipped(uuid=uuid, name="", why=Why.NOT_FOUND, reason=reason, matched=True))
    return Selection(
        chosen=tuple(sorted(chosen, key=lambda vm: (vm.name, vm.uuid))),
        skipped=tuple(sorted(skipped, key=lambda one: (one.name, one.uuid))),
    )


def judge_vm(job: Job, vm: VmView) -> Skipped | None:
    """Why ``vm`` is left out, or ``None`` when it is chosen."""
    selector = job.selector
    included = _include_rule(selector, vm)

    def skip(why: Why, reason: str) -> Skipped:
        return Skipped(uuid=vm.uuid, name=vm.name, why=why, reason=reason, matched=bool(included))

    if vm.is_control_domain:
        return skip(Why.CONTROL_DOMAIN, "it is a host's control domain")
    if vm.is_snapshot:
        return skip(Why.SNAPSHOT, "it is a snapshot")
    if vm.is_template:
        return skip(Why.TEMPLATE, "it is a template")
    if not included:
        return skip(Why.NOT_INCLUDED, "no rule of the job names it")
    if selector.pools and vm.pool not in selector.pools:
        return skip(Why.OTHER_POOL, f"pool {vm.pool} is not among {', '.join(selector.pools)}")
    if excluded := _exclude_rule(selector, vm):
        return skip(Why.EXCLUDED, excluded)
    for tag in vm.tags:
        if tag == NO_BACKUP_TAG or tag.startswith(NO_BACKUP_TAG + "="):
            return skip(Why.NO_BACKUP_TAG, f"it has the tag {tag}")
    if vm.other_config.get(JOB_KEY) == job.id and "start" in vm.blocked_operations:
        return skip(Why.OWN_REPLICA, "it is a replica made by this very job")
    if selector.power_states and vm.power_state not in selector.power_states:
        return skip(Why.POWER_STATE, f"it is {vm.power_state}, wanted {' or '.join(selector.power_states)}")
    return None


def _include_rule(selector: Selector, vm: VmView) -> str:
    if vm.uuid in selector.uuids:
        return "uuid"
    for pattern in selector.names:
        if fnmatchcase(vm.name, pattern):
            return f"name {pattern}"
    for tag in selector.tags:
        if tag in vm.tags:
            return f"tag {tag}"
    return "" if selector.uuids or selector.names or selector.tags else "everything"


def _exclude_rule(selector: Selector, vm: VmView) -> str:
    if vm.uuid in selector.exclude_uuids:
        return "its uuid is excluded"
    for pattern in selector.exclude_names:
        if fnmatchcase(vm.name, pattern):
            return f"its name matches the excluded {pattern}"
    for tag in selector.exclude_tags:
        if tag in vm.tags:
            return f"it has the excluded tag {tag}"
    return ""


def select_disks(rules: DiskRules, disks: Iterable[DiskView]) -> DiskSelection:
    """Judge the disks of a VM; chosen ones in the order of their device numbers."""
    chosen: list[DiskView] = []
    skipped: list[Skipped] = []
    for disk in sorted(disks, key=lambda disk: (_number(disk.userdevice), disk.userdevice)):
        reason = _disk_rule(rules, disk)
        if reason:
            skipped.append(Skipped(uuid=disk.vdi_uuid, name=disk.name, why=Why.EXCLUDED, reason=reason))
        else:
            chosen.append(disk)
    return DiskSelection(chosen=tuple(chosen), skipped=tuple(skipped))


def _number(userdevice: str) -> int:
    return int(userdevice) if userdevice.isdigit() else 1 << 30


def _disk_rule(rules: DiskRules, disk: DiskView) -> str:
    if NO_BACKUP_NAME in disk.name:
        return f"its name contains {NO_BACKUP_NAME}"
    if disk.vdi_uuid in rules.exclude_uuids:
        return "its uuid is excluded"
    for pattern in rules.exclude_names:
        if fnmatchcase(disk.name, pattern):
            return f"its name matches the excluded {pattern}"
    for tag in rules.exclude_tags:
        if tag in disk.tags:
            return f"it has the excluded tag {tag}"
    for sr in rules.exclude_srs:
        if sr in (disk.sr_uuid, disk.sr_name):
            return f"it lies on the excluded SR {sr}"
    if rules.larger_than_bytes is not None and disk.virtual_size_bytes > rules.larger_than_bytes:
        return f"its {disk.virtual_size_bytes} bytes exceed the limit of {rules.larger_than_bytes}"
    return ""
