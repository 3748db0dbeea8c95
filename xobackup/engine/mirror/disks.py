"""One disk of a restore point of the source, for a target: what changed since a base that it has, or everything.

The disk is read flattened, every block against its digest where one is known. For a delta the blocks are those of
the chain's disks above the base, each as the restore point has it: so a point between, that the target lacks (it was
merged at the source, left out, or damaged), costs nothing but its own blocks.
While a merge is under way at the source nobody can say what lies above which uuid: the disk goes whole then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, Block
from xobackup.engine.checked import CheckedDisk
from xobackup.engine.readahead import blocks_of
from xobackup.repository.base import BaseRefusal, NoBase
from xobackup.repository.layout import split_disk_path
from xobackup.repository.writer import Base

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.repository.lineage import Lineage, MemberDisk
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.repository.vm_directory import VmDirectory
    from xobackup.repository.writer import DiskWriter


@dataclass(slots=True, kw_only=True)
class Copied:
    """What one restore point's copy took. ``unchecked``: blocks for which the source had no digest."""

    size_bytes: int = 0
    blocks: int = 0
    compared: int = 0
    unchecked: int = 0
    fulls: list[str] = field(default_factory=list)
    """For each disk that went whole although the target knows it, or a base was expected: why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCopy:
    """A finished disk: its path for the restore point, and the base it continues (``""``: none)."""

    path: str
    base_uuid: str


def copy_disk(
    source: Repository,
    directory: VmDirectory,
    point: RestorePoint,
    disk: PointDisk,
    copied: Copied,
    *,
    moved: Callable[[int], None],
    cancel: CancelToken,
) -> DiskCopy:
    """Write ``disk`` into ``directory``, unpublished; what it took is added to ``copied``."""
    path, name = split_disk_path(disk.path)
    _, job, live = path.split("/")
    before = _state(source.lineage(point.vm_uuid, job, live), name)
    with (
        closing(CheckedDisk(source, point, disk)) as checked,
        closing(source.open_disk(point, disk.vdi_ref)) as chain,
    ):
        settled = before is not None and before == _state(source.lineage(point.vm_uuid, job, live), name)
        size = chain.virtual_size_bytes
        base = _find_base(directory, (job, live), before if settled else None, size)
        indexes = chain.block_indexes()
        if isinstance(base, Base):
            uuids = [member.footer.uuid for member in chain.members]
            above = {index for one in chain.members[uuids.index(base.uuid) + 1 :] for index in one.block_indexes()}
            indexes = sorted(index for index in above if index * BLOCK_BYTES < size)
        elif base.code is not NoBase.EMPTY:
            copied.fulls.append(f"disk {disk.name_label or live}: {base.reason}")
        if disk.memory:
            directory.note_memory(job, live)
        writer = directory.begin_disk(
            job,
            live,
            timestamp_ms=point.timestamp_ms,
            snapshot_uuid=disk.vdi_uuid,
            virtual_size_bytes=size,
            base=base if isinstance(base, Base) else None,
        )
        result = _write(writer, checked, indexes, moved, cancel)
        copied.blocks += len(indexes)
        copied.size_bytes += len(indexes) * BLOCK_BYTES
        copied.compared += checked.compared
        copied.unchecked += checked.without_digest
    return DiskCopy(path=result, base_uuid=base.snapshot_uuid if isinstance(base, Base) else "")


def _write(
    writer: DiskWriter, disk: CheckedDisk, indexes: list[int], moved: Callable[[int], None], cancel: CancelToken
) -> str:
    try:
        with closing(blocks_of(disk, indexes, cancel=cancel)) as blocks:  # type: ignore[type-var]
            for block in blocks:
                writer.write_block(Block(block.index, None, block.buffer))
                moved(BLOCK_BYTES)
        return writer.finish().path
    except BaseException:
        writer.abort()
        raise


def _state(lineage: Lineage, name: str) -> tuple[MemberDisk, ...] | None:
    """The chain of ``name``, as long as no merge is under way."""
    return None if lineage.states else lineage.chain(name)


def _find_base(
    directory: VmDirectory, of: tuple[str, str], chain: tuple[MemberDisk, ...] | None, size_bytes: int
) -> Base | BaseRefusal:
    uuids = [str(member.uuid) for member in reversed((chain or ())[:-1])]
    found = directory.find_base(*of, uuids, virtual_size_bytes=size_bytes)
    if isinstance(found, BaseRefusal) and found.code is NoBase.NOT_FOUND:
        why = "no disk that it builds on at the source is on the target: it was merged, or is of another chain"
        if chain is None:
            why = "a merge is under way at the source, so what changed since the target's newest cannot be told"
        return replace(found, reason=why)
    return found
