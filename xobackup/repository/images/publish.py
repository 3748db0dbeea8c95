"""Announce a full backup: the image, its checksum, and the restore point last, never over another one.

Order, each step durable before the next: the part is judged (its length, and whether Xen Orchestra would take it); a
note is put; the part is renamed; the checksum is put, unless the storage authenticates what it gives (Xen Orchestra
writes none on encrypted remotes either); the JSON is put where none was; the note is removed. A crash
before the JSON leaves an image with a note: the next run deletes it. Where files
cannot be renamed the image has its name already, and its note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remotes.contract import Remote
from remotes.errors import AlreadyExists, NotFound
from xobackup.repository.caching import drop_cache, write_cache
from xobackup.repository.draft import complete_full, encode
from xobackup.repository.errors import Refused
from xobackup.repository.images.checksum import pack_checksum
from xobackup.repository.images.notes import forget_image, note_image
from xobackup.repository.images.writer import ImageResult, hidden
from xobackup.repository.layout import (
    CHECKSUM_SUFFIX,
    image_name,
    image_part_name,
    metadata_name,
    timestamp_name,
    vm_directory,
)
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import RestorePoint, point_from
from xobackup.repository.publishing import refuse_taken
from xobackup.xva.valid import HEAD_BYTES, TAIL_BYTES, xo_accepts


def publish_image(
    remote: Remote, vm: str, draft: Mapping[str, Any], image: ImageResult, *, check: Callable[[], None]
) -> RestorePoint:
    """Publish the full backup that ``draft`` describes. ``check`` raises when the lock is lost."""
    point = timestamp_name(draft.get("timestamp", -1))
    name = metadata_name(vm, point)
    refuse_taken(remote, vm, point)
    if image.path != image_name(point):
        raise Refused("image-name", image.path, f"expected the image of {point}")
    path = f"{vm_directory(vm)}/{image.path}"
    part = f"{vm_directory(vm)}/{image_part_name(point)}" if hidden(remote) else path
    _judge(remote, part, image)
    metadata = complete_full(draft, name, image=image.path, size=image.size_bytes)
    raw = encode(metadata, name)
    published = point_from(metadata, vm=vm, name=name)
    check()
    if part != path:
        note_image(remote, vm, image.path)
        try:
            remote.rename(part, path)
        except AlreadyExists:
            raise Refused("image-taken", path, "there is an image of this second already") from None
    if not remote.capabilities.authenticated:
        remote.put(path + CHECKSUM_SUFFIX, pack_checksum(image.md5))
    check()
    drop_cache(remote, vm)
    try:
        remote.put(name, raw, replace=False)
    except AlreadyExists:
        raise Refused("same-second", name, "there is a restore point of this second already") from None
    forget_image(remote, vm, image.path)
    write_cache(remote, vm, list_points(remote, vm, use_cache=False))
    return published


def _judge(remote: Remote, part: str, image: ImageResult) -> None:
    try:
        file = remote.open(part)
    except NotFound:
        raise Refused("image-missing", part, "the image was never finished") from None
    try:
        size = file.size()
        head, tail = bytearray(image.head), bytearray(image.tail)
        if remote.capabilities.range_reads:  # else all of it would have to be read
            head, tail = bytearray(HEAD_BYTES), bytearray(min(TAIL_BYTES, size))
            file.read_into(0, memoryview(head))
            file.read_into(size - len(tail), memoryview(tail))
    finally:
        file.close()
    if size != image.size_bytes:
        raise Refused("image-length", part, f"expected {image.size_bytes} bytes, found {size}")
    if not xo_accepts(size, bytes(head), bytes(tail)):
        raise Refused("image-broken", part, "Xen Orchestra would not take it for an image")
