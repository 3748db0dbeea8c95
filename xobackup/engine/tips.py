"""What remotes have of a VM's disks, looked at without a lock: for showing a plan, not for acting on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.engine.base import RemoteTip
from xobackup.engine.directory_target import remote_tip
from xobackup.engine.replication.base import doubt
from xobackup.engine.replication.base import tips as replica_tips
from xobackup.engine.replication.points import find_points
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.view import VmView
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.repository.repository import Repository


def tips_of(context: RunContext, vm: VmView) -> tuple[dict[str, dict[str, RemoteTip]], list[str]]:
    """Tips by live VDI uuid and remote, and a sentence for every remote that could not be looked at."""
    tips: dict[str, dict[str, RemoteTip]] = {disk.vdi_uuid: {} for disk in vm.disks}
    warnings: list[str] = []
    for name, repository in context.repositories.items():
        try:
            found = _tips_on(repository, vm, context.job.id)
        except SINK_ERRORS as error:
            warnings.append(f"remote {name}: {error}")
            continue
        for live, tip in found.items():
            tips[live][name] = tip
    for name, site in context.sites.items():
        try:
            records = site.look()
            points = find_points(records, job_id=context.job.id, vm_uuid=vm.uuid, srs=site.sr_uuids)
        except XapiError as error:
            warnings.append(f"target {name}: {error}")
            continue
        if told := doubt(points, records, vm.disks):
            warnings.append(f"target {name}: a new replica will be made from the newest restore point: {told}")
        for live, tip in replica_tips(
            points, vm.disks, records, srs=site.sr_uuids, disk_srs=site.target.disk_srs
        ).items():
            tips[live][name] = tip
    return tips, warnings


def _tips_on(repository: Repository, vm: VmView, job_id: str) -> dict[str, RemoteTip]:
    return {disk.vdi_uuid: remote_tip(repository.tip(vm.uuid, job_id, disk.vdi_uuid)) for disk in vm.disks}
