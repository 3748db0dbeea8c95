"""Where digest files are, and how they outlive merges.

``.xobackup/digests/<vm>/<job>/<live vdi>/<ts>.xxh3`` holds the digests of the disk ``<ts>.vhd`` (or ``.alias.vhd``).
Before a merge into the root ``<root ts>`` begins, what the merged disk's digests will be is written beside it as
``<ts>.xxh3.after.<root ts>``; when the root's name is gone (the merge is through), that file takes over. A crash in
between costs nothing: the target's old digests stay true for every whole block it had, and the waiting file is picked
up, or thrown away, the next time somebody looks.

A file whose uuid is not the disk's is stale: it is ignored, and cleaned on request. Errors while reading digests
never are errors of a disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from remotes.contract import Remote
from remotes.errors import Corrupt, NotFound
from xobackup.repository.digests import FILE_BYTES_MAX, Digests
from xobackup.repository.errors import BadDigests
from xobackup.repository.layout import digest_directory, digest_name
from xobackup.repository.lineage import Lineage

WAITING = ".after."
SUFFIX = ".xxh3"


class DigestStore:
    """The digests of one lineage of one VM."""

    def __init__(self, remote: Remote, vm: str, lineage: str) -> None:
        self._remote = remote
        self._vm = vm
        self._lineage = lineage
        self.directory = digest_directory(vm, lineage)

    def path(self, disk: str) -> str:
        return digest_name(self._vm, self._lineage, disk)

    def get(self, disk: str, uuid: UUID) -> Digests | None:
        """The digests of ``disk``, unless there are none, or they are damaged or another disk's."""
        try:
            found = self.read(disk)
        except BadDigests:
            return None
        return found if found is not None and found.uuid == uuid else None

    def read(self, disk: str) -> Digests | None:
        """Whatever is stored under the name of ``disk``. Raises :class:`BadDigests`."""
        path = self.path(disk)
        try:
            return Digests.unpack(self._remote.get(path, limit_bytes=FILE_BYTES_MAX), path)
        except NotFound:
            return None
        except Corrupt as error:
            raise BadDigests(path, error.problem) from None

    def put(self, disk: str, digests: Digests) -> None:
        self._remote.put(self.path(disk), digests.pack())

    def put_waiting(self, target: str, root: str, digests: Digests) -> None:
        """Store what the digests of ``target`` will be once ``root`` has become it."""
        self._remote.put(self._waiting(target, root), digests.pack())

    def waiting(self, target: str, root: str, uuid: UUID) -> bool:
        """Whether what :meth:`put_waiting` stored for that merge is there."""
        return self._uuid_of(self._waiting(target, root)) == uuid

    def settle(self, lineage: Lineage) -> list[str]:
        """Bring waiting files in force, or discard them, by what the disks say. Returns the names discarded.

        Only under the VM's lock, and with no merge under way.
        """
        discarded: list[str] = []
        if lineage.states:
            return discarded
        by_stem = {_stem(self.path(name)): member for name, member in lineage.members.items()}
        for name in self.names():
            target, waiting, root = name.partition(SUFFIX + WAITING)
            if not waiting:
                continue
            member = by_stem.get(target)
            path = f"{self.directory}/{name}"
            if root not in by_stem and member is not None and self._uuid_of(path) == member.uuid:
                self._remote.rename(path, f"{self.directory}/{target}{SUFFIX}", replace=True)
            else:
                self._remote.delete(path, missing_ok=True)
                discarded.append(path)
        return discarded

    def forget(self, disks: Iterable[str]) -> None:
        """Delete the digests of disks that are no more."""
        for disk in disks:
            self._remote.delete(self.path(disk), missing_ok=True)

    def names(self) -> list[str]:
        """Base names of everything stored for this lineage."""
        try:
            return [entry.name for entry in self._remote.list(self.directory)]
        except NotFound:
            return []

    def _waiting(self, target: str, root: str) -> str:
        return f"{self.path(target)}{WAITING}{_stem(self.path(root))}"

    def _uuid_of(self, path: str) -> UUID | None:
        try:
            return Digests.unpack(self._remote.get(path, limit_bytes=FILE_BYTES_MAX), path).uuid
        except (BadDigests, NotFound, Corrupt):
            return None


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(SUFFIX)
