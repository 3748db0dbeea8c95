"""What a job's consistent group will be: pure, and shown by ``xobackup plan``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xobackup.engine.job import Job
    from xobackup.engine.view import VmView


def plan_group(job: Job, vms: Iterable[VmView]) -> dict[str, Any] | None:
    """As JSON data; ``None`` when the job has none. ``vms``: those chosen."""
    group = job.consistent
    if group is None:
        return None
    return {
        "tag": group.tag,
        "if_one_fails": group.if_one_fails.value,
        "snapshots_max": group.snapshots_max,
        "vms": [{"uuid": vm.uuid, "name": vm.name} for vm in vms if group.has(vm.tags)],
    }
