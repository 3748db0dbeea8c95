"""Where a proven copy of a block may be found. What proves it is its digest, wherever it was read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import xxhash

from remotes.contract import Kind, Remote
from remotes.errors import NotFound, RemoteError
from vhd.block import BlockBuffer
from vhd.errors import VhdError
from vhd.workspace import open_disk
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.layout import VDIS, lineage_path, vm_directory
from xobackup.repository.lineage import Lineage, read_lineage
from xobackup.repository.listing import list_points
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.repair.damage import DamagedBlock
from xobackup.repository.workspace import RemoteWorkspace


class BlockSource(Protocol):
    """Somewhere a copy may be."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def candidates(self, block: DamagedBlock, buffer: BlockBuffer) -> Iterator[str]:
        """Fill ``buffer.data`` with what may be the block, again and again; each time say what it was read from.

        Errors of one place are kept to it: the next one is tried.
        """
        ...


def proven_copy(block: DamagedBlock, sources: Sequence[BlockSource], buffer: BlockBuffer) -> str:
    """Fill ``buffer.data`` with a proven copy and say where it is from; ``""`` when nobody has one."""
    for source in sources:
        for place in source.candidates(block, buffer):
            if xxhash.xxh3_128_digest(buffer.data) == block.digest:
                return f"{source.name}: {place}"
    return ""


def _identity(point: RestorePoint) -> tuple[object, ...]:
    snapshot = point.metadata.get("vmSnapshot")
    uuid = snapshot.get("uuid") if isinstance(snapshot, dict) else None
    return point.mode, point.job_id, point.timestamp_ms, point.size, uuid


class RepositorySource:
    """Every disk of the same VDI in a repository, whichever job wrote it. Lineages are read once."""

    def __init__(self, name: str, remote: Remote) -> None:
        self.name = name
        self._remote = remote
        self._lineages: dict[tuple[str, str], list[Lineage]] = {}

    def candidates(self, block: DamagedBlock, buffer: BlockBuffer) -> Iterator[str]:
        """Disks whose digest says so come first; then those without digests."""
        places = list(self._places(block))
        for lineage, disk in [place[:2] for place in sorted(places, key=lambda place: place[2])]:
            workspace = self._workspace(block.vm, lineage.path)
            with contextlib.suppress(VhdError, RemoteError):
                opened = open_disk(workspace, disk, CODECS)
                with contextlib.closing(opened):
                    if not opened.has(block.index) or opened.read_block(block.index, buffer) is not None:
                        continue
                yield workspace.path(disk)

    def same_backups(self, point: RestorePoint) -> Iterator[tuple[Remote, RestorePoint]]:
        """The full backup of that job, second, snapshot and length."""
        with contextlib.suppress(RemoteError):
            other = list_points(self._remote, point.vm_uuid, use_cache=False).point(point.id)
            if other is not None and _identity(other) == _identity(point):
                yield self._remote, other

    def _places(self, block: DamagedBlock) -> Iterator[tuple[Lineage, str, int]]:
        for lineage in self._of(block.vm, block.vdi):
            store = DigestStore(self._remote, block.vm, lineage.path)
            for name, member in lineage.members.items():
                digests = None
                with contextlib.suppress(RemoteError):
                    digests = store.get(name, member.uuid)
                entry = digests.get(block.index) if digests is not None else None
                if entry is None:
                    yield lineage, name, 1
                elif entry.digest == block.digest:
                    yield lineage, name, 0

    def _of(self, vm: str, vdi: str) -> list[Lineage]:
        if (vm, vdi) not in self._lineages:
            found: list[Lineage] = []
            with contextlib.suppress(RemoteError):
                for job in self._jobs(vm):
                    path = lineage_path(job, vdi)
                    found.append(read_lineage(self._workspace(vm, path), path, CODECS))
            self._lineages[vm, vdi] = found
        return self._lineages[vm, vdi]

    def _jobs(self, vm: str) -> list[str]:
        try:
            entries = self._remote.list(f"{vm_directory(vm)}/{VDIS}")
        except NotFound:
            return []
        return [entry.name for entry in entries if entry.kind is Kind.DIRECTORY]

    def _workspace(self, vm: str, path: str) -> RemoteWorkspace:
        return RemoteWorkspace(self._remote, f"{vm_directory(vm)}/{path}")
