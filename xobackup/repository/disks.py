"""Open a disk of a restore point as one readable disk: its chain, flattened, also while a merge is under way."""

from __future__ import annotations

from remotes.contract import Remote
from remotes.errors import NotFound
from vhd.chain import Chain
from vhd.errors import ParentMismatch
from vhd.header import NIL
from vhd.lineage import open_chain
from xobackup.repository.codecs import CODECS
from xobackup.repository.errors import DiskNotFound
from xobackup.repository.layout import split_disk_path, vm_directory
from xobackup.repository.metadata import MODE_FULL, PointDisk, RestorePoint
from xobackup.repository.workspace import RemoteWorkspace


def workspace_of(remote: Remote, vm: str, path: str) -> tuple[RemoteWorkspace, str]:
    """The directory of the disk at ``path`` (relative to the VM's directory), and its name there."""
    directory, name = split_disk_path(path)
    return RemoteWorkspace(remote, f"{vm_directory(vm)}/{directory}"), name


def find_disk(point: RestorePoint, vdi: str) -> PointDisk:
    """The disk of that ref, snapshot uuid or live uuid. :class:`DiskNotFound` says what there is."""
    disk = point.disk(vdi)
    if disk is not None:
        return disk
    if point.mode == MODE_FULL:
        raise DiskNotFound(point.id, vdi, "it is a full backup: its disks are inside the image, not beside it")
    has = ", ".join(other.live_vdi_uuid for other in point.disks) or "none"
    raise DiskNotFound(point.id, vdi, f"no such disk; the restore point has {has}")


def open_point_disk(remote: Remote, point: RestorePoint, vdi: str) -> Chain:
    """The chain of one disk. Links must hold by uuid; a link whose child names no uuid at all holds by name."""
    disk = find_disk(point, vdi)
    workspace, name = workspace_of(remote, point.vm_uuid, disk.path)
    try:
        return _open(workspace, name)
    except NotFound as error:
        raise DiskNotFound(point.id, vdi, f"{error.name} is missing") from error


def _open(workspace: RemoteWorkspace, name: str) -> Chain:
    try:
        return open_chain(workspace, name, CODECS)
    except ParentMismatch as error:
        if error.expected != str(NIL):
            raise
    chain = open_chain(workspace, name, CODECS, check_uuids=False)
    members = chain.members
    nameless = sum(1 for child in members[1:] if child.header is not None and child.header.parent_uuid == NIL)
    if len(chain.warnings) > nameless:
        chain.close()
        return open_chain(workspace, name, CODECS)  # raises for the link that is really wrong
    return chain
