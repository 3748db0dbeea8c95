"""Rules of a job that match nothing: most likely a typing mistake, or of something that is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xobackup.engine.job import Job
from xobackup.engine.select import disk_matches, told, vm_matches
from xobackup.engine.view import VmView


def unmatched_rules(job: Job, vms: Iterable[VmView], chosen: Sequence[VmView]) -> tuple[str, ...]:
    """A sentence for each. ``vms``: all of the job's pools; ``chosen``: those that will be backed up.

    Uuids to include are not among them: a VM that is named and not there is a failure of its own.
    """
    if job.narrowed:
        return ()
    known = [vm for vm in vms if not (vm.is_template or vm.is_snapshot or vm.is_control_domain)]
    sentences = [
        f"no VM matches {told(rule)} ({where})"
        for where, rules in (("vms.include", job.selector.include), ("vms.exclude", job.selector.exclude))
        for rule in rules
        if not (where == "vms.include" and rule.uuid) and not any(vm_matches(rule, vm) for vm in known)
    ]
    disks = [disk for vm in chosen for disk in vm.disks]
    sentences += [
        f"no disk of a chosen VM matches {told(rule)} (disks.exclude)"
        for rule in job.exclude_disks
        if not any(disk_matches(rule, disk) for disk in disks)
    ]
    return tuple(dict.fromkeys(sentences))
