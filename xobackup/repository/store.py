"""A remote's directory as the object store that :mod:`vhd.directory` wants."""

from __future__ import annotations

from remotes.contract import Buffer, Kind, Remote
from remotes.errors import NotFound
from remotes.names import is_temporary, join

OBJECT_BYTES_MAX = 16 * 1024 * 1024
"""No object of a VHD directory is larger: a block is 2 MiB, a table at most 4 MiB before compression."""


class RemoteStore:
    """Objects below ``root`` of ``remote``; satisfies :class:`vhd.storage.ObjectStore`."""

    missing = (NotFound,)
    """What it raises when there is nothing of a name."""

    def __init__(self, remote: Remote, root: str) -> None:
        self._remote = remote
        self._root = root

    def path(self, name: str) -> str:
        """The remote's name of ``name``."""
        return join(self._root, name) if name else self._root

    def get(self, name: str) -> bytes:
        return self._remote.get(self.path(name), limit_bytes=OBJECT_BYTES_MAX)

    def put(self, name: str, data: Buffer) -> None:
        self._remote.put(self.path(name), data)

    def move(self, old: str, new: str) -> None:
        self._remote.rename(self.path(old), self.path(new), replace=True)

    def delete(self, name: str) -> None:
        self._remote.delete(self.path(name))

    def exists(self, name: str) -> bool:
        try:
            self._remote.stat(self.path(name))
        except NotFound:
            return False
        return True

    def names(self, directory: str) -> list[str]:
        return [entry.name for entry in self._remote.list(self.path(directory)) if not is_temporary(entry.name)]

    def is_directory(self, name: str) -> bool:
        """Whether ``name`` is a directory (False when there is nothing)."""
        try:
            return self._remote.stat(self.path(name)).kind is Kind.DIRECTORY
        except NotFound:
            return False
