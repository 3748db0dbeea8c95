"""Notes on images that are on their way in or out, so that a crash leaves none that nobody dares to delete.

An image gets its name just before its restore point is written (where a remote cannot rename: it is uploaded under
it), and loses its restore point just before it is deleted. A crash in between leaves an image that no restore point
names, which by itself proves nothing: its JSON may have been lost. So a note is put under ``.xobackup/images/<vm>/``
first, and removed last. An image with a note and without a restore point is litter, for certain; without a note it
is only reported. Where a remote has no lock at all, a note proves nothing either, unless whoever put it is dead, or
it is a day old.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remotes import faces
from remotes.contract import Entry, Kind, Remote
from remotes.errors import NotFound
from xobackup.repository.begun import QUIET_S
from xobackup.repository.errors import BadMetadata
from xobackup.repository.holder import surely_dead, this_process
from xobackup.repository.json_text import dump, parse_object
from xobackup.repository.layout import (
    CHECKSUM_SUFFIX,
    checked_xva_path,
    image_note_name,
    image_notes_directory,
    is_image,
    vm_directory,
)
from xobackup.repository.listing import PointListing

_NOTE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedImages:
    """Base names of the images that have a note: those that nobody works on for certain, and the others."""

    settled: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()


def note_image(remote: Remote, vm: str, image: str) -> None:
    """Say that ``image`` (its base name) is about to come or to go."""
    note = {"version": 1, **this_process(), "leased": remote.capabilities.conditional_put}
    remote.put(image_note_name(vm, image), dump(note))


def forget_image(remote: Remote, vm: str, image: str) -> None:
    """It has arrived, or is gone."""
    remote.delete(image_note_name(vm, image), missing_ok=True)


def delete_image(remote: Remote, vm: str, image: str) -> None:
    """The image and its checksum, and what was uploaded of it."""
    path = f"{vm_directory(vm)}/{checked_xva_path(image)}"
    faces.discard_uploads(remote, path)
    remote.delete(path, missing_ok=True)
    remote.delete(path + CHECKSUM_SUFFIX, missing_ok=True)


def take_back_images(
    remote: Remote, vm: str, listing: PointListing, check: Callable[[], None], *, now_s: float
) -> list[str]:
    """Settle every note: delete its image unless a restore point names it. Needs the lock, and certainty."""
    if not listing.certain:
        return []
    named = {point.xva for point in listing.points if point.xva}
    deleted: list[str] = []
    for image in noted_images(remote, vm, now_s=now_s).settled:
        check()
        if image not in named:
            delete_image(remote, vm, image)
            deleted.append(image)
        forget_image(remote, vm, image)
    return deleted


def noted_images(remote: Remote, vm: str, *, now_s: float) -> NotedImages:
    """Images that were on their way in or out."""
    try:
        entries = remote.list(image_notes_directory(vm))
    except NotFound:
        return NotedImages()
    noted = [entry for entry in entries if entry.kind is Kind.FILE and is_image(entry.name)]
    busy = [entry.name for entry in noted if not _settled(remote, vm, entry, now_s)]
    return NotedImages(settled=tuple(entry.name for entry in noted if entry.name not in busy), busy=tuple(busy))


def _settled(remote: Remote, vm: str, entry: Entry, now_s: float) -> bool:
    if remote.capabilities.exclusive_directories or now_s - entry.modified_s > QUIET_S:
        return True
    name = image_note_name(vm, entry.name)
    try:
        note = parse_object(remote.get(name, limit_bytes=_NOTE_BYTES_MAX), name)
    except NotFound:
        return False
    except BadMetadata:
        note = {}
    return note.get("leased") is True or surely_dead(note)
