"""Verify one disk: its structure, and its own blocks against their digests."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from remotes.errors import RemoteError
from vhd.block import BLOCK_BYTES, BlockBuffer
from vhd.check import check_file
from vhd.directory import BLOCKS_PER_DIRECTORY, VhdDirectory
from vhd.errors import Malformed, VhdError
from vhd.findings import errors_of
from vhd.reader import VhdFile
from vhd.workspace import open_disk
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.digests import Digests, Entry, compare
from xobackup.repository.errors import BadDigests
from xobackup.repository.findings import Problem, Severity
from xobackup.repository.lineage import MemberDisk
from xobackup.repository.verified import print_of
from xobackup.repository.workspace import RemoteWorkspace

PROBLEMS_MAX = 100
"""Per disk: a disk that is garbage throughout need not be listed block by block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much was looked at. Blocks count once per disk that holds them."""

    disks: int = 0
    blocks: int = 0
    """Allocated in those disks."""
    with_digest: int = 0
    read: int = 0
    compared: int = 0
    """Read and compared with a digest."""
    unread: int = 0
    """Chosen, but could not be read."""
    images: int = 0
    """Of full backups."""
    images_compared: int = 0
    """Read whole and compared with their checksum."""
    image_bytes: int = 0
    """Read of images."""

    @property
    def bytes_read(self) -> int:
        return self.read * BLOCK_BYTES + self.image_bytes

    def plus(self, other: Coverage) -> Coverage:
        return Coverage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Coverage)})


class Choice(Protocol):
    """Which blocks of a disk are read, and who hears what came of it."""

    def has(self, index: int, mark: int) -> bool: ...

    def note(self, index: int, mark: int, *, whole: bool) -> None: ...


class Everything:
    """All blocks, and nobody is told."""

    def has(self, index: int, mark: int) -> bool:
        return True

    def note(self, index: int, mark: int, *, whole: bool) -> None:
        pass


def blocks_of_disk(
    workspace: RemoteWorkspace, member: MemberDisk, store: DigestStore
) -> Iterator[tuple[int, Entry | None]]:
    """The blocks of a disk and what they should be; none at all when it cannot be opened."""
    try:
        disk = open_disk(workspace, member.name, CODECS)
    except (VhdError, RemoteError):
        return
    with contextlib.closing(disk):
        digests: Digests | None = None
        with contextlib.suppress(RemoteError):
            digests = store.get(member.name, member.uuid)
        for index in disk.block_indexes():
            yield index, digests.get(index) if digests is not None else None


@dataclass(kw_only=True)
class DiskVerifier:
    """One disk of the lineage ``lineage``. ``users``: the points that read from it, each with the disks above it."""

    workspace: RemoteWorkspace
    member: MemberDisk
    merging: bool
    store: DigestStore
    lineage: str
    users: Mapping[str, Sequence[str]]
    check: Callable[[], None]
    choice: Choice = field(default_factory=Everything)
    problems: list[Problem] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    live_indexes: array[int] = field(default_factory=lambda: array("I"))
    live_prints: array[int] = field(default_factory=lambda: array("Q"))
    """Every block the disk has, in pairs (:func:`xobackup.repository.verified.print_of`)."""

    def run(self) -> DiskVerifier:
        """Fill in ``problems`` and ``coverage``."""
        name = self.member.name
        self.coverage = Coverage(disks=1)
        if self.merging:  # blocks are on their way: neither the structure nor the digests are final
            self._say("merge-unfinished", Severity.INFO, "it takes part in a merge that is not finished")
            return self
        try:
            disk = open_disk(self.workspace, name, CODECS)
        except Malformed as error:
            return self._say("disk-broken", Severity.DAMAGE, str(error))
        except (VhdError, RemoteError) as error:
            return self._say("disk-unread", Severity.UNKNOWN, str(error))
        with contextlib.closing(disk):
            self._structure(disk)
            self._blocks(disk, self._digests())
        return self

    def blocks(self) -> Iterator[tuple[int, Entry | None]]:
        """Its blocks and what they should be; none at all when it cannot be opened."""
        return iter(()) if self.merging else blocks_of_disk(self.workspace, self.member, self.store)

    def _structure(self, disk: VhdFile | VhdDirectory) -> None:
        try:
            if isinstance(disk, VhdFile):
                for finding in errors_of(check_file(disk.file)):
                    self._say(finding.code, Severity.DAMAGE, finding.message)
            else:
                self._objects(disk)
        except RemoteError as error:
            self._say("disk-unread", Severity.UNKNOWN, str(error))

    def _objects(self, disk: VhdDirectory) -> None:
        """Every block of the table must have its object; Xen Orchestra does not look."""
        there: dict[int, set[str]] = {}
        for index in disk.block_indexes():
            group, name = divmod(index, BLOCKS_PER_DIRECTORY)
            if group not in there:
                try:
                    there[group] = set(self.workspace.names(f"{disk.path}/blocks/{group}"))
                except self.workspace.missing:
                    there[group] = set()
            if str(name) not in there[group]:
                message = "the block is in the table, but its object is missing"
                self._say("block-missing", Severity.DAMAGE, message, block=index)

    def _digests(self) -> Digests | None:
        try:
            found = self.store.read(self.member.name)
        except BadDigests as error:
            self._say(
                "digests-damaged", Severity.WARNING, f"its digests cannot be used: {error.problem}", path=error.name
            )
            return None
        except RemoteError as error:
            self._say("digests-unread", Severity.UNKNOWN, str(error))
            return None
        if found is not None and found.uuid != self.member.uuid:
            message = f"the digests are those of disk {found.uuid}"
            self._say("digests-stale", Severity.INFO, message, path=self.store.path(self.member.name))
            return None
        return found

    def _blocks(self, disk: VhdFile | VhdDirectory, digests: Digests | None) -> None:
        indexes = disk.block_indexes()
        with_digest = read = compared = unread = 0
        buffer = BlockBuffer()
        for index in indexes:
            entry = digests.get(index) if digests is not None else None
            with_digest += entry is not None
            mark = print_of(self.member.uuid, index, entry)
            self.live_indexes.append(index)
            self.live_prints.append(mark)
            if not self.choice.has(index, mark):
                continue
            self.check()
            try:
                bitmap = disk.read_block(index, buffer)
            except VhdError as error:
                self._say("block-broken", Severity.DAMAGE, str(error), block=index)
                self.choice.note(index, mark, whole=False)
                continue
            except RemoteError as error:
                unread += 1
                self._say("block-unread", Severity.UNKNOWN, str(error), block=index)
                continue
            read += 1
            match = compare(entry, bitmap, buffer) if entry is not None else None
            self.choice.note(index, mark, whole=match is None or not match.comparable or match.equal)
            if match is None or not match.comparable:
                continue
            compared += 1
            if not match.equal:
                message = "its data are not what was written (digest mismatch)"
                self._say("block-digest", Severity.DAMAGE, message, block=index)
        self._lost(disk, digests)
        self.coverage = Coverage(
            disks=1, blocks=len(indexes), with_digest=with_digest, read=read, compared=compared, unread=unread
        )

    def _lost(self, disk: VhdFile | VhdDirectory, digests: Digests | None) -> None:
        """Blocks that were written once and are in no table any more."""
        for index in digests.indexes() if digests is not None else ():
            if not disk.has(index):
                message = "was written, but is not in the table any more"
                self._say("block-lost", Severity.DAMAGE, message, block=index)

    def _say(
        self, code: str, severity: Severity, message: str, *, block: int | None = None, path: str | None = None
    ) -> DiskVerifier:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(
                Problem(
                    code=code,
                    severity=severity,
                    path=path or self.workspace.path(self.member.name),
                    message=message,
                    block=block,
                    points=self.touched(block),
                )
            )
        return self

    def touched(self, block: int | None) -> tuple[str, ...]:
        """The points that read the block from this disk: those with no disk above that has it whole."""
        if block is None:
            return tuple(sorted(self.users))
        hiding: dict[str, bool] = {}
        return tuple(
            sorted(
                point
                for point, above in self.users.items()
                if not any(self._hides(name, block, hiding) for name in above)
            )
        )

    def _hides(self, name: str, block: int, known: dict[str, bool]) -> bool:
        if name not in known:
            known[name] = False
            with contextlib.suppress(VhdError, RemoteError):
                disk = open_disk(self.workspace, name, CODECS)
                with contextlib.closing(disk):
                    known[name] = disk.has(block) and disk.bitmap(block) is None
        return known[name]
