"""Write the image of a full backup: in order, under a name nobody looks at, durable before it is announced.

                       where files can be renamed      where they cannot
    begin              .<ts>.xva.part                  a note, and an upload of <ts>.xva, which has no name yet
    finish             it is whole and synced          it is whole, and has its name
    publish            renames it                      finds it there
                       (both: xobackup.repository.images.publish, which writes the restore point)

Until it is published there is a part or an upload to take back: :meth:`ImageWriter.abort`, or the next run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from remotes import faces
from remotes.contract import Remote, WritableFile
from remotes.errors import NotFound, RemoteError
from xobackup.repository.errors import Refused
from xobackup.repository.images.notes import delete_image, forget_image, note_image
from xobackup.repository.layout import image_name, image_part_name, metadata_name, vm_directory
from xobackup.xva.valid import HEAD_BYTES, TAIL_BYTES

BOUND_SPARE = 1.02
BOUND_SPARE_BYTES = 64 << 20
"""How much longer than its disks an archive may be: names, checksums, records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """A finished image. ``path`` is relative to the VM's directory, as the restore point will name it."""

    path: str
    size_bytes: int
    md5: str
    head: bytes = b""
    tail: bytes = b""
    """Its first and last bytes, as they were written: what Xen Orchestra judges an image by."""


def hidden(remote: Remote) -> bool:
    """Whether an image is written under a name of its own first, and renamed."""
    return remote.capabilities.atomic_rename


class ImageWriter:
    """One image, written by one thread at a time."""

    def __init__(
        self, remote: Remote, vm: str, point: str, *, check: Callable[[], None], bound_bytes: int | None = None
    ) -> None:
        """``bound_bytes``: what its disks hold at most."""
        self._remote = remote
        self._vm = vm
        self._check = check
        self._point = point
        self._path = image_name(point)
        self._size = 0
        self._head = b""
        self._tail = b""
        self._hidden = hidden(remote)
        self._place = f"{vm_directory(vm)}/{image_part_name(point) if self._hidden else self._path}"
        self._file: WritableFile | None = None
        self._upload: faces.Upload | None = None
        if self._hidden:
            remote.delete(self._place, missing_ok=True)
            self._file = remote.create(self._place)
            return
        note_image(remote, vm, self._path)
        bound = None if bound_bytes is None else int(bound_bytes * BOUND_SPARE) + BOUND_SPARE_BYTES
        self._upload = faces.upload(remote, self._place, bound_bytes=bound)

    def write(self, data: memoryview) -> None:
        """Append ``data``; the buffer may be reused afterwards."""
        if self._upload is not None:
            self._upload.write(data)
        else:
            assert self._file is not None, "the image is finished"
            self._file.write_at(self._size, data)
            self._file.written(self._size, len(data))
        self._size += len(data)
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(data[: HEAD_BYTES - len(self._head)])
        self._tail = (self._tail + bytes(data[-TAIL_BYTES:]))[-TAIL_BYTES:]

    def finish(self, md5: str) -> ImageResult:
        """Make it durable. ``md5`` is that of all bytes, taken where they came from."""
        self._check()
        if self._upload is not None:
            self._upload.finish()
        else:
            assert self._file is not None, "the image is finished"
            self._file.sync()
            self._close()
        found = self._remote.stat(self._place).size_bytes
        if found != self._size:
            problem = f"expected {self._size} bytes on the remote, found {found}"
            raise Refused("image-length", self._path, problem)
        return ImageResult(path=self._path, size_bytes=self._size, md5=md5, head=self._head, tail=self._tail)

    def abort(self) -> None:
        """Take it back. Errors of the remote pass through; the next run would take it back too."""
        if self._upload is not None:
            self._upload.abort()
            if self._published():
                return
            delete_image(self._remote, self._vm, self._path)
            forget_image(self._remote, self._vm, self._path)
            return
        with contextlib.suppress(RemoteError):
            self._close()
        self._remote.delete(self._place, missing_ok=True)

    def _published(self) -> bool:
        """Whether a restore point may name it: its image has the name that this one was given from the start."""
        try:
            self._remote.stat(metadata_name(self._vm, self._point))
        except NotFound:
            return False
        return True

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
