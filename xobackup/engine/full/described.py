"""A full backup with its disks and NICs, as its archive describes them: so it looks like any other restore point."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from remotes.errors import RemoteError
from xobackup.repository.errors import RepositoryError
from xobackup.repository.images.reading import ImageReader
from xobackup.repository.metadata import MODE_FULL, PointDisk, RestorePoint
from xobackup.xva.archive import Archive
from xobackup.xva.description import Description, XvaDisk
from xobackup.xva.errors import XvaError

if TYPE_CHECKING:
    from xobackup.repository.repository import Repository


def with_disks(repository: Repository, point: RestorePoint) -> RestorePoint:
    """``point``, with the disks that its archive holds. Other restore points have theirs already."""
    return point if point.mode != MODE_FULL else described(point, read_description(repository, point))


def with_disks_if_readable(repository: Repository, point: RestorePoint) -> RestorePoint:
    """The same for a listing: as it is, when its image cannot be read."""
    try:
        return with_disks(repository, point)
    except (XvaError, RemoteError, RepositoryError):
        return point


def read_description(repository: Repository, point: RestorePoint) -> Description:
    """Only the beginning of the image is read. :class:`xobackup.xva.errors.XvaError` when it is no archive."""
    reader = ImageReader(repository.remote, point, check=False)
    try:
        return Archive(reader.readinto).description
    finally:
        reader.close()


def described(point: RestorePoint, description: Description) -> RestorePoint:
    """Pure. References are the archive's own; a disk has one uuid, that of the VDI that was exported."""
    vbds: dict[str, Any] = {
        f"{disk.id}/vbd": {"VDI": disk.id, "userdevice": disk.userdevice, "bootable": disk.bootable, "type": "Disk"}
        for disk in description.disks
    }
    vdis = {
        disk.id: {"uuid": disk.uuid, "name_label": disk.name, "$SR$uuid": disk.sr_uuid} for disk in description.disks
    }
    vifs = {str(number): nic for number, nic in enumerate(description.nics)}
    return replace(
        point,
        disks=tuple(_disk(disk) for disk in description.disks),
        metadata={**point.metadata, "vbds": vbds, "vdis": vdis, "vifs": vifs},
    )


def _disk(disk: XvaDisk) -> PointDisk:
    return PointDisk(
        vdi_ref=disk.id,
        vdi_uuid=disk.uuid,
        live_vdi_uuid=disk.uuid or disk.id,
        name_label=disk.name,
        userdevice=disk.userdevice or None,
        virtual_size=disk.virtual_size_bytes,
        path="",
        differencing=False,
    )
