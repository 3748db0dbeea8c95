"""Which restore points others build on. On a remote that locks, those stay as long as the others do.

Deleting one of them would free nothing there: its disks cannot be merged, and would have to stay without a restore
point that names them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from xobackup.repository.layout import split_disk_path
from xobackup.repository.lineage import Lineage
from xobackup.repository.listing import PointListing
from xobackup.repository.metadata import RestorePoint


def needed_points(listing: PointListing, old: Collection[str], lineage_of: Callable[[str], Lineage]) -> set[str]:
    """Ids among ``old`` whose disks are below those of a point that is not among them. ``lineage_of`` reads a
    lineage by its path."""
    lineages: dict[str, Lineage] = {}

    def chain(path: str) -> tuple[str, set[str]]:
        directory, name = split_disk_path(path)
        if directory not in lineages:
            lineages[directory] = lineage_of(directory)
        members = lineages[directory].chain(name) or ()
        return directory, {member.name for member in members}

    needed: set[tuple[str, str]] = set()
    for point in listing.points:
        if point.id not in old:
            for disk in point.disks:
                directory, names = chain(disk.path)
                needed |= {(directory, name) for name in names}
    return {point.id for point in listing.points if point.id in old and _disks(point) & needed}


def _disks(point: RestorePoint) -> set[tuple[str, str]]:
    return {split_disk_path(disk.path) for disk in point.disks}
