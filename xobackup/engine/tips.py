"""What remotes have of a VM's disks, looked at without a lock: for showing a plan, not for acting on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.engine.base import RemoteTip
from xobackup.engine.target import SINK_ERRORS
from xobackup.engine.view import VmView
from xobackup.repository.base import tip_of
from xobackup.repository.layout import lineage_path
from xobackup.repository.reclaim import named_disks

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
    return tips, warnings


def _tips_on(repository: Repository, vm: VmView, job_id: str) -> dict[str, RemoteTip]:
    listing = repository.points(vm.uuid)
    found: dict[str, RemoteTip] = {}
    for disk in vm.disks:
        lineage = repository.lineage(vm.uuid, job_id, disk.vdi_uuid)
        published = named_disks(listing, lineage_path(job_id, disk.vdi_uuid))
        tip = tip_of(lineage, published, vhd_directory=repository.options.vhd_directory)
        found[disk.vdi_uuid] = RemoteTip(
            snapshot_uuid=tip.snapshot_uuid,
            virtual_size_bytes=tip.virtual_size_bytes,
            size_max_bytes=tip.size_max_bytes,
            problem=tip.problem,
            known=tip.known,
        )
    return found
