"""Write the image of a full backup: in order, under a name nobody looks at, durable before it is announced.

    begin    .<ts>.xva.part
    finish   it is whole and synced; still under that name
    publish  (xobackup.repository.images.publish) renames it and writes the restore point

Until it is published nothing but the part has to be taken back: :meth:`ImageWriter.abort`, or the next run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from remotes.contract import Remote, WritableFile
from remotes.errors import RemoteError
from xobackup.repository.errors import Refused
from xobackup.repository.layout import image_name, image_part_name, vm_directory
from xobackup.xva.valid import HEAD_BYTES, TAIL_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """A finished image. ``path`` is relative to the VM's directory, as the restore point will name it."""

    path: str
    size_bytes: int
    md5: str
    head: bytes = b""
    tail: bytes = b""
    """Its first and last bytes, as they were written: what Xen Orchestra judges an image by."""


class ImageWriter:
    """One image, written by one thread at a time."""

    def __init__(self, remote: Remote, vm: str, point: str, *, check: Callable[[], None]) -> None:
        self._remote = remote
        self._check = check
        self._part = f"{vm_directory(vm)}/{image_part_name(point)}"
        self._path = image_name(point)
        self._size = 0
        self._head = b""
        self._tail = b""
        remote.delete(self._part, missing_ok=True)
        self._file: WritableFile | None = remote.create(self._part)

    def write(self, data: memoryview) -> None:
        """Append ``data``; the buffer may be reused afterwards."""
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
        assert self._file is not None, "the image is finished"
        self._file.sync()
        self._close()
        found = self._remote.stat(self._part).size_bytes
        if found != self._size:
            problem = f"expected {self._size} bytes on the remote, found {found}"
            raise Refused("image-length", self._path, problem)
        return ImageResult(path=self._path, size_bytes=self._size, md5=md5, head=self._head, tail=self._tail)

    def abort(self) -> None:
        """Take the part back. Errors of the remote pass through; the next run would take it back too."""
        with contextlib.suppress(RemoteError):
            self._close()
        self._remote.delete(self._part, missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
