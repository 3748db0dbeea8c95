"""An image from its beginning to its end, once, digested on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from remotes.contract import Remote
from remotes.errors import NotFound, RemoteError
from xobackup.repository.errors import DiskNotFound
from xobackup.repository.images.checksum import CHECKSUM_BYTES_MAX, Checksum, unpack_checksum
from xobackup.repository.layout import CHECKSUM_SUFFIX, vm_directory
from xobackup.repository.metadata import RestorePoint

READ_AHEAD_BYTES = 8 << 20


def image_path(point: RestorePoint) -> str:
    """Where the image of a full backup is, relative to the remote's root."""
    if point.xva is None:
        raise DiskNotFound(point.id, "image", "it is not a full backup: its disks are beside it, not in an image")
    return f"{vm_directory(point.vm_uuid)}/{point.xva}"


def stored_checksum(remote: Remote, point: RestorePoint) -> Checksum | None:
    """The checksum beside the image; ``None`` when there is none that can be used."""
    try:
        raw = remote.get(image_path(point) + CHECKSUM_SUFFIX, limit_bytes=CHECKSUM_BYTES_MAX)
    except NotFound:
        return None
    return unpack_checksum(raw)


class ImageReader:
    """One pass over an image. Close it at the end."""

    def __init__(
        self, remote: Remote, point: RestorePoint, *, told: Callable[[int], None] = lambda _: None, check: bool = True
    ) -> None:
        """``told`` hears of bytes read. ``check``: take the digest that the checksum beside the image needs."""
        path = image_path(point)
        self.authenticated = remote.capabilities.authenticated
        self.checksum = stored_checksum(remote, point) if check and not self.authenticated else None
        try:
            self._file = remote.open(path)
        except NotFound as error:
            raise DiskNotFound(point.id, "image", f"{error.name} is missing") from error
        self.size_bytes = self._file.size()
        self.position = 0
        self._told = told
        algorithm = self.checksum.algorithm if self.checksum is not None else ""
        self._state = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None

    def readinto(self, buffer: memoryview) -> int:
        """The next bytes; fewer only at the end."""
        count = self._file.read_into(self.position, buffer)
        if count != min(len(buffer), self.size_bytes - self.position):
            problem = f"expected {self.size_bytes} bytes, found {self.position + count}"
            raise RemoteError("", self._file.name, problem)
        if self._state is not None:
            self._state.update(buffer[:count])
        self.position += count
        self._told(count)
        return count

    def drain(self) -> None:
        """Read what is left."""
        buffer = memoryview(bytearray(1 << 20))
        while self.readinto(buffer):
            pass

    @property
    def agrees(self) -> bool | None:
        """Whether all of it was read and is what was written; ``None`` when nobody can tell."""
        if self.position < self.size_bytes:
            return None
        if self.authenticated:
            return True
        if self._state is None or self.checksum is None:
            return None
        return self._state.hexdigest() == self.checksum.digest

    def close(self) -> None:
        self._file.close()
