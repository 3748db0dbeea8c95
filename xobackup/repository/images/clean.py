"""What lies about of images: those that no restore point names, and restore points whose image is not there.

Images are measured here, not read. One that is cut off is only reported: what is left of it may still give some of
the disks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from xobackup.repository.findings import Action, CleanFinding, Severity, clean_finding
from xobackup.repository.layout import CHECKSUM_SUFFIX, metadata_name, timestamp_of, vm_directory
from xobackup.repository.listing import PointListing
from xobackup.repository.metadata import RestorePoint


def orphan_images(vm: str, listing: PointListing, noted: Collection[str]) -> Iterator[CleanFinding]:
    """Images and checksums that no restore point names; ``noted`` ones were on their way in or out."""
    named = {point.xva for point in listing.points if point.xva}
    for entry in listing.entries:
        point, _, suffix = entry.name.partition(".")
        image = entry.name.removesuffix(CHECKSUM_SUFFIX)
        if suffix not in ("xva", "xva.checksum") or timestamp_of(point) is None or image in named:
            continue
        path, message = f"{vm_directory(vm)}/{entry.name}", "an image that no restore point names"
        if image in noted:
            reason = "a run was interrupted while publishing or deleting it"
            yield clean_finding("image-orphan", path, message, Action.DELETE, reason=reason)
        else:
            yield clean_finding("image-orphan", path, message, Action.QUARANTINE)


def lost_image(vm: str, listing: PointListing, point: RestorePoint) -> Iterator[CleanFinding]:
    """A full backup without its image, or with one of another length."""
    path = metadata_name(vm, point.id)
    entry = next((entry for entry in listing.entries if entry.name == point.xva), None)
    if entry is None:
        yield clean_finding(
            "point-incomplete",
            path,
            f"its image {point.xva} is missing",
            Action.QUARANTINE,
            reason="nothing of it can be restored",
            severity=Severity.DAMAGE,
        )
    elif point.size and entry.size_bytes != point.size:
        cut = "cut off" if entry.size_bytes < point.size else "of another length"
        yield clean_finding(
            "image-size",
            f"{vm_directory(vm)}/{point.xva}",
            f"the image is {cut}: expected {point.size} bytes, found {entry.size_bytes}",
            Action.NONE,
            reason="part of it may still be read",
            certain=False,
            severity=Severity.DAMAGE,
        )
