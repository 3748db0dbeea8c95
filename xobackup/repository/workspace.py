"""One directory of a remote as :mod:`vhd` wants to see it: files by name, objects behind VHD directories."""

from __future__ import annotations

from remotes import faces
from remotes.contract import Buffer, Entry, ReadableFile, Remote, WritableFile
from remotes.errors import Corrupt, NotFound
from remotes.names import is_temporary, join
from vhd.errors import Malformed
from vhd.findings import Finding

OBJECT_BYTES_MAX = 16 * 1024 * 1024
"""No object of a VHD directory is larger: a block is 2 MiB, a table at most 4 MiB before compression."""


class RemoteWorkspace:
    """The directory ``root`` of ``remote``; satisfies :class:`vhd.workspace.Workspace`."""

    missing: tuple[type[Exception], ...] = (NotFound,)

    def __init__(self, remote: Remote, root: str) -> None:
        self.remote = remote
        self.root = root

    def path(self, name: str) -> str:
        """The remote's name of ``name``."""
        return join(self.root, name) if name else self.root

    def open(self, name: str) -> ReadableFile:
        return self.remote.open(self.path(name))

    def create(self, name: str) -> WritableFile:
        return self.remote.create(self.path(name))

    def update(self, name: str) -> WritableFile:
        return self.remote.update(self.path(name))

    def get(self, name: str) -> bytes:
        """Raises :class:`~vhd.errors.Malformed` for an object that is proven not to be what was written."""
        try:
            return self.remote.get(self.path(name), limit_bytes=OBJECT_BYTES_MAX)
        except Corrupt as error:
            finding = Finding(code="object-corrupt", message=error.problem)
            raise Malformed(error.name, [finding]) from error

    def put(self, name: str, data: Buffer) -> None:
        self.remote.put(self.path(name), data)

    def move(self, old: str, new: str) -> None:
        self.remote.rename(self.path(old), self.path(new), replace=True)

    @property
    def moves_by_copy(self) -> bool:
        return not self.remote.capabilities.atomic_rename

    def copy(self, old: str, new: str) -> None:
        faces.copy(self.remote, self.path(old), self.path(new))

    def move_to_new(self, old: str, new: str) -> None:
        """Rename a file or directory onto a name that must not exist."""
        self.remote.rename(self.path(old), self.path(new))

    def delete(self, name: str) -> None:
        self.remote.delete(self.path(name), missing_ok=True)

    def delete_tree(self, name: str) -> None:
        self.remote.delete_tree(self.path(name))

    def exists(self, name: str) -> bool:
        try:
            self.remote.stat(self.path(name))
        except NotFound:
            return False
        return True

    def entries(self, directory: str = "") -> list[Entry]:
        """Everything directly in ``directory``, temporary files of interrupted writes included."""
        return self.remote.list(self.path(directory))

    def names(self, directory: str) -> list[str]:
        return [entry.name for entry in self.entries(directory) if not is_temporary(entry.name)]
