"""Write one block again: set aside, write, read back. Under the VM's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from remotes import faces
from remotes.contract import Remote
from remotes.errors import NotFound
from vhd.block import BITMAP_BYTES, BLOCK_BYTES, FULL_BITMAP, BlockBuffer
from vhd.directory import VhdDirectory, block_name
from vhd.reader import VhdFile
from vhd.workspace import open_disk
from xobackup.repository.codecs import CODECS
from xobackup.repository.errors import Refused
from xobackup.repository.layout import quarantine_directory, vm_directory
from xobackup.repository.repair.damage import DamagedBlock, still_damaged
from xobackup.repository.repair.sources import BlockSource, proven_copy
from xobackup.repository.workspace import RemoteWorkspace


@dataclass(slots=True, kw_only=True)
class RepairReport:
    """What was repaired (with where the copy was from), and what was not."""

    repaired: list[tuple[DamagedBlock, str]] = field(default_factory=list)
    whole: list[DamagedBlock] = field(default_factory=list)
    """Are no longer damaged, or no longer there."""
    without_copy: list[DamagedBlock] = field(default_factory=list)
    quarantine: str = ""


def repair_blocks(
    remote: Remote,
    vm: str,
    blocks: Sequence[DamagedBlock],
    sources: Sequence[BlockSource],
    *,
    stamp: str,
    check: Callable[[], None],
) -> RepairReport:
    """Repair what has a proven copy. ``stamp`` names the place in the quarantine; ``check`` raises to stop."""
    report = RepairReport()
    buffer = BlockBuffer()
    quarantine = quarantine_directory(vm, stamp)
    for block in blocks:
        check()
        if not still_damaged(remote, block):
            report.whole.append(block)
            continue
        place = proven_copy(block, sources, buffer)
        if not place:
            report.without_copy.append(block)
            continue
        check()
        rewrite(remote, block, buffer, quarantine)
        report.repaired.append((block, place))
        report.quarantine = quarantine
    return report


def rewrite(remote: Remote, block: DamagedBlock, buffer: BlockBuffer, quarantine: str) -> None:
    """Put the proven ``buffer.data`` in the place of a damaged block. :class:`Refused` when it does not read back."""
    workspace = RemoteWorkspace(remote, f"{vm_directory(block.vm)}/{block.lineage}")
    disk = open_disk(workspace, block.disk, CODECS)
    buffer.bitmap[:] = FULL_BITMAP
    with contextlib.closing(disk):
        if isinstance(disk, VhdDirectory):
            _rewrite_object(workspace, disk, block, buffer, quarantine)
        else:
            _rewrite_in_place(workspace, disk, block, buffer, quarantine)
    if still_damaged(remote, block):
        problem = (
            f"block {block.index} was written again and is damaged again; the storage does not keep what it takes"
        )
        raise Refused("repair-failed", workspace.path(block.disk), problem)


def _rewrite_object(
    workspace: RemoteWorkspace, disk: VhdDirectory, block: DamagedBlock, buffer: BlockBuffer, quarantine: str
) -> None:
    name = block_name(disk.path, block.index)
    with contextlib.suppress(NotFound):  # a missing object leaves nothing to set aside
        faces.copy(workspace.remote, workspace.path(name), f"{quarantine}/{block.lineage}/{name}")
    workspace.put(name, disk.codec.compress(buffer.stored))


def _rewrite_in_place(
    workspace: RemoteWorkspace, disk: VhdFile, block: DamagedBlock, buffer: BlockBuffer, quarantine: str
) -> None:
    start, data = disk.block_span(block.index)
    if data - start != BITMAP_BYTES:
        raise Refused("repair-fixed", workspace.path(block.disk), "a fixed disk is not of this repository's making")
    old = bytearray(BITMAP_BYTES + BLOCK_BYTES)
    count = disk.file.read_into(start, memoryview(old))
    kept = f"{quarantine}/{block.lineage}/{block.disk}.block-{block.index}"
    workspace.remote.put(kept, memoryview(old)[:count])
    file = workspace.update(block.disk)
    try:
        file.write_at(start, buffer.stored)
        file.sync()
    finally:
        file.close()
