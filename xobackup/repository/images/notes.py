"""Notes on images that are on their way in or out, so that a crash leaves none that nobody dares to delete.

An image gets its name just before its restore point is written, and loses its restore point just before it is
deleted. A crash in between leaves an image that no restore point names, which by itself proves nothing: its JSON may
have been lost. So a note is put under ``.xobackup/images/<vm>/`` first, and removed last. An image with a note and
without a restore point is litter, for certain; without a note it is only reported.
"""

from __future__ import annotations

from collections.abc import Callable

from remotes.contract import Kind, Remote
from remotes.errors import NotFound
from xobackup.repository.layout import (
    CHECKSUM_SUFFIX,
    checked_xva_path,
    image_note_name,
    image_notes_directory,
    is_image,
    vm_directory,
)
from xobackup.repository.listing import PointListing


def note_image(remote: Remote, vm: str, image: str) -> None:
    """Say that ``image`` (its base name) is about to come or to go."""
    remote.put(image_note_name(vm, image), b"")


def forget_image(remote: Remote, vm: str, image: str) -> None:
    """It has arrived, or is gone."""
    remote.delete(image_note_name(vm, image), missing_ok=True)


def delete_image(remote: Remote, vm: str, image: str) -> None:
    """The image and its checksum."""
    path = f"{vm_directory(vm)}/{checked_xva_path(image)}"
    remote.delete(path, missing_ok=True)
    remote.delete(path + CHECKSUM_SUFFIX, missing_ok=True)


def take_back_images(remote: Remote, vm: str, listing: PointListing, check: Callable[[], None]) -> list[str]:
    """Settle every note: delete its image unless a restore point names it. Needs the lock, and certainty."""
    if not listing.certain:
        return []
    named = {point.xva for point in listing.points if point.xva}
    deleted: list[str] = []
    for image in noted_images(remote, vm):
        check()
        if image not in named:
            delete_image(remote, vm, image)
            deleted.append(image)
        forget_image(remote, vm, image)
    return deleted


def noted_images(remote: Remote, vm: str) -> list[str]:
    """Base names of the images that have a note."""
    try:
        entries = remote.list(image_notes_directory(vm))
    except NotFound:
        return []
    return [entry.name for entry in entries if entry.kind is Kind.FILE and is_image(entry.name)]
