"""VMs that nobody protects: no job of the configuration selects them, and nobody left them out on purpose. Pure.

On purpose is a tag, a rule that excludes, and what is not a VM of its own: templates, snapshots, replicas, VMs that
a health check or a trial made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xobackup.engine import keys
from xobackup.engine.job import Job
from xobackup.engine.select import NO_BACKUP_TAG, Why, judge_vm
from xobackup.engine.view import VmView

LISTED_MAX = 500


def unprotected(jobs: Iterable[Job], vms: Sequence[VmView], pool: str) -> list[dict[str, str]]:
    """Those of ``vms`` that are of the pool, by name. ``jobs``: all of the configuration."""
    meant = [job for job in jobs if job.selects_vms and any(one.name == pool for one in job.pools)]
    found = [vm for vm in vms if vm.pool == pool and _nobodys(meant, vm)]
    return [
        {"uuid": vm.uuid, "name": vm.name} for vm in sorted(found, key=lambda vm: (vm.name, vm.uuid))[:LISTED_MAX]
    ]


def _nobodys(jobs: Sequence[Job], vm: VmView) -> bool:
    if vm.is_template or vm.is_snapshot or vm.is_control_domain:
        return False
    if any(tag == NO_BACKUP_TAG or tag.startswith(NO_BACKUP_TAG + "=") for tag in vm.tags):
        return False
    if {keys.REPLICA, keys.HEALTH_CHECK, keys.RUN} & set(vm.other_config):
        return False
    verdicts = [judge_vm(job, vm) for job in jobs]
    return all(verdict is not None and verdict.why is Why.NOT_INCLUDED for verdict in verdicts)
