"""Write one disk of a backup: under a name nobody looks at, durable, digested, and only then announced.

    begin    .<ts>.vhd.part (a file), or .<ts>.alias.vhd.part/ (the objects of a VHD directory)
    finish   the disk is whole and synced; its digests are stored; still under that name
    publish  (xobackup.repository.publishing) renames it, names it in an alias if it is a directory, and last of all
             writes the restore point

Until it is published nothing but the part itself has to be taken back: :meth:`DiskWriter.abort`, or the next run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from remotes.contract import WritableFile
from remotes.errors import RemoteError
from vhd.block import Block
from vhd.codec import Codec
from vhd.directory_writer import VhdDirectoryWriter
from vhd.file import VhdFileWriter
from vhd.footer import DiskType, new_footer
from vhd.layout import ParentLink
from vhd.timestamps import to_vhd
from xobackup.repository.base_disk import BaseDisk
from xobackup.repository.begun import BegunDisk
from xobackup.repository.codecs import ZstdCodec, codec_of
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.digests import DigestRecorder
from xobackup.repository.errors import Refused
from xobackup.repository.inflight import InFlight
from xobackup.repository.layout import ALIAS_SUFFIX, checked_disk_uuid, data_name, part_name
from xobackup.repository.workspace import RemoteWorkspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The disk a delta continues."""

    name: str
    """Base name in the lineage."""
    uuid: UUID
    virtual_size_bytes: int
    chain_length: int
    """Disks from the root to this one."""
    codec: str | None = None
    """Of a chain of VHD directories: new ones must use the same, since a merge moves blocks as they are."""

    @property
    def snapshot_uuid(self) -> str:
        return str(self.uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """What is to be written. ``name`` is the base name it will be published under."""

    lineage: str
    name: str
    timestamp_ms: int
    snapshot_uuid: str
    virtual_size_bytes: int
    base: Base | None
    codec: str = "brotli"
    """Where a chain begins; a delta follows its base."""
    zstd: Codec = field(default_factory=ZstdCodec)
    """What compresses where the codec is zstd."""

    @property
    def directory(self) -> bool:
        return self.name.endswith(ALIAS_SUFFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskResult:
    """A finished disk. ``path`` is what the restore point's ``vhds`` must say."""

    path: str
    size: int
    """As Xen Orchestra counts: headers and whole blocks, not what it takes on storage."""
    differencing: bool
    uuid: str
    virtual_size_bytes: int


class DiskWriter:
    """One disk. Several threads may write blocks at once, each block once."""

    def __init__(
        self,
        workspace: RemoteWorkspace,
        spec: DiskSpec,
        *,
        digests: DigestStore | None,
        check: Callable[[], None],
        begun: BegunDisk | None = None,
        in_flight: InFlight | None = None,
    ) -> None:
        """``begun``: the note to put before the first object, where a disk has its place from the start.
        ``in_flight``: blocks are written by other threads while the next ones come."""
        self.spec = spec
        self._workspace = workspace
        self._digests = digests
        self._check = check
        self._recorder = DigestRecorder()
        self._part = part_of(workspace, spec.name)
        self._begun = begun
        self._flight = in_flight.begin() if in_flight is not None else None
        self._file: WritableFile | None = None
        self._done = False
        checked_disk_uuid("snapshot", spec.snapshot_uuid)
        try:
            self._writer = self._begin()
        except BaseException:
            with contextlib.suppress(RemoteError):
                self.abort()
            raise

    @property
    def path(self) -> str:
        """Where the disk will be, relative to the VM's directory."""
        return f"{self.spec.lineage}/{self.spec.name}"

    def write_block(self, block: Block) -> None:
        """Write one block and note its digest."""
        if self._flight is not None and isinstance(self._writer, VhdDirectoryWriter):
            self._flight.send(self._writer.later(block))
        else:
            self._writer.write_block(block)
        if self._digests is not None:
            self._recorder.add_block(block)

    def finish(self) -> DiskResult:
        """Make the disk durable. It stays invisible until it is published."""
        if self._flight is not None:
            self._flight.land()
        self._check()
        length = self._writer.finish()
        if self._file is not None:
            self._file.close()
            self._file = None
            self._check_length(length)
        if self._digests is not None:
            self._digests.put(self.spec.name, self._recorder.finish(UUID(self.spec.snapshot_uuid)))
        self._done = True
        return DiskResult(
            path=self.path,
            size=self._writer.streamed_size_bytes,
            differencing=self.spec.base is not None,
            uuid=self.spec.snapshot_uuid,
            virtual_size_bytes=self.spec.virtual_size_bytes,
        )

    def open_base(self) -> BaseDisk:
        """The disk this one continues, to complete blocks from; to be closed by the caller."""
        assert self.spec.base is not None
        return BaseDisk.open(self._workspace, self.spec.base.name, self._digests)

    def abort(self) -> None:
        """Take back what was written. Errors of the remote pass through; the next run would take it back too.

        A disk that has its name already is let be: a restore point may name it.
        """
        if self._flight is not None:
            self._flight.abandon()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._done and self._workspace.exists(self.spec.name):
            return
        if self.spec.directory:
            self._workspace.delete_tree(self._part)
            if self._begun is not None:
                self._begun.forget()
        else:
            self._workspace.delete(self._part)
        if self._done and self._digests is not None:
            self._digests.forget([self.spec.name])

    def _begin(self) -> VhdFileWriter | VhdDirectoryWriter:
        spec = self.spec
        base = spec.base
        footer = new_footer(
            size_bytes=spec.virtual_size_bytes,
            disk_type=DiskType.DYNAMIC if base is None else DiskType.DIFFERENCING,
            uuid=UUID(spec.snapshot_uuid),
            timestamp=to_vhd(spec.timestamp_ms // 1000),
        )
        parent = None if base is None else ParentLink(name=base.name, uuid=base.uuid)
        if spec.directory:
            if self._begun is not None:
                self._begun.note()
            self._workspace.delete_tree(self._part)
            name = spec.codec if base is None or base.codec is None else base.codec
            codec = spec.zstd if name == spec.zstd.name else codec_of(name)
            return VhdDirectoryWriter.create(self._workspace, self._part, footer=footer, parent=parent, codec=codec)
        self._workspace.delete(self._part)
        self._file = self._workspace.create(self._part)
        return VhdFileWriter.create(self._file, footer=footer, parent=parent)

    def _check_length(self, length: int) -> None:
        found = self._workspace.remote.stat(self._workspace.path(self._part)).size_bytes
        if found != length:
            raise Refused("disk-length", self.path, f"expected {length} bytes on the remote, found {found}")


def part_of(workspace: RemoteWorkspace, name: str) -> str:
    """Where disk ``name`` is written. On stores that cannot rename, a directory's objects go to their place at once:
    nothing leads to them before the alias does."""
    if name.endswith(ALIAS_SUFFIX) and not workspace.remote.capabilities.atomic_rename:
        return data_name(name)
    return part_name(name)
