"""A plan applied to VHD files: the root grows and takes the children's blocks; the children stay as they are.

Order, so that the root can be read (with the state file's help) at every instant:

1. the table and the header grow; the trailing footer moves to where the file will end;
2. blocks: data and bitmap; sync; the table's entries of new blocks; sync; then the state file may say so;
3. the footer at the end and the one at 0 become the target's.

Whole blocks are copied inside the file system, from slot to slot where both files have slots (the page with the
bitmap comes along), else data only; so on aligned files extents are shared. Every copied range is announced with
``written``, so that writing back starts early and the page cache is not churned.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from vhd.block import (
    ALIGN_BYTES,
    BITMAP_BYTES,
    BLOCK_BYTES,
    EMPTY_BITMAP,
    FULL_BITMAP,
    SECTOR_BYTES,
    SLOT_BYTES,
    Bitmap,
    Block,
    BlockBuffer,
    runs,
    union,
)
from vhd.footer import DiskType
from vhd.layout import SLOT_HEAD_BYTES
from vhd.reader import structures
from vhd.storage import read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vhd.merge.members import FileMembers
    from vhd.merge.plan import BlockStep, MergePlan
    from vhd.merge.progress import Keeper
    from vhd.reader import VhdFile
    from vhd.updater import VhdFileUpdater

_SLOT_HEAD = bytes(SLOT_HEAD_BYTES) + FULL_BITMAP
"""One aligned page: nothing, then the bitmap of a whole block."""
SLOT_SECTORS = ALIGN_BYTES // SECTOR_BYTES
_LOOKED_UP = 64
"""Bitmaps read together."""
_TABLE_GAP_MAX = 1024
"""Entries of the table nearer than this are written together."""


def merge_files(members: FileMembers, plan: MergePlan, keeper: Keeper) -> None:
    """Merge from the state's block on, up to the root's new footer. Durable on return."""
    root = members.root
    root.grow(plan.entries_after)
    _blank_tail(root, plan)
    root.reserve(sum(1 for step in plan.steps(keeper.state.current_block) if not step.in_root))
    merging = _Merging(root, members.disks, plan)
    for prepared in merging.prepared(plan.steps(keeper.state.current_block)):
        keeper.options.cancel()
        merging.merge_block(prepared)
        keeper.block_done(BLOCK_BYTES)
        if keeper.due:
            merging.commit()
            root.sync()
            keeper.keep_block(prepared.step.index + 1)
    merging.commit()
    root.replace_footer(plan.footer_after)
    root.trim()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A step, looked up."""

    step: BlockStep
    bitmap: Bitmap
    """Of the newest source; ``None`` also where it was not asked for."""
    in_place: bool
    whole: bool
    """The newest source alone gives all of the block."""
    slots: tuple[int, int | None] | None
    """Where its slot lies, and the root's where that has one: for a copy from slot to slot."""


class _Merging:
    """The blocks of one merge, and the table entries not yet written."""

    def __init__(self, root: VhdFileUpdater, disks: Sequence[VhdFile], plan: MergePlan) -> None:
        self._root = root
        self._disks = disks
        self._target_size = plan.target_footer.current_size_bytes
        self._fills_zeros = plan.root_footer.disk_type == DiskType.DYNAMIC
        self._has_slots = has_slots(root)
        self._in_slots = [self._has_slots and has_slots(disk) for disk in disks]
        self._pending: list[int] = []
        self._buffer = BlockBuffer()
        self._spare = BlockBuffer()

    def commit(self) -> None:
        """Make the blocks durable, then write the entries of new ones (durable with the next sync)."""
        self._root.sync()
        start = 0
        for at in range(1, len(self._pending) + 1):
            if at == len(self._pending) or self._pending[at] - self._pending[at - 1] > _TABLE_GAP_MAX:
                first, last = self._pending[start], self._pending[at - 1]
                self._root.write_bat(first, last - first + 1)
                start = at
        self._pending.clear()

    def prepared(self, steps: Iterator[BlockStep]) -> Iterator[_Prepared]:
        """Each step with what has to be known before its block is touched. Some are looked up together: between two
        copies of megabytes the processor's caches are cold for each (children do not change during a merge)."""
        while batch := list(islice(steps, _LOOKED_UP)):
            yield from [self._prepare(step) for step in batch]

    def _prepare(self, step: BlockStep) -> _Prepared:
        newest = self._disks[step.sources[0]]
        # an interrupted merge may have assigned the block since the plan's table was read: ask the table itself
        in_place = self._root.bat.has(step.index)
        if self._ends_inside(newest, step.index):
            return _Prepared(step, None, in_place=in_place, whole=False, slots=None)
        bitmap = newest.bitmap(step.index)
        slots = None
        if bitmap is None and self._in_slots[step.sources[0]]:
            head = len(_SLOT_HEAD)
            target = self._root.disk.block_span(step.index)[1] - head if in_place else None
            slots = newest.block_span(step.index)[1] - head, target
        return _Prepared(step, bitmap, in_place=in_place, whole=bitmap is None, slots=slots)

    def merge_block(self, prepared: _Prepared) -> None:
        step = prepared.step
        newest = self._disks[step.sources[0]]
        if prepared.slots is not None:
            self._copy_slot(newest, step.index, *prepared.slots)
        elif prepared.whole:
            self._copy_whole(newest, step.index, in_place=prepared.in_place)
        elif self._ends_inside(newest, step.index):
            self._rewrite(step)
        elif prepared.in_place:
            self._copy_runs(step, prepared.bitmap)
        else:
            self._append_partial(step)

    def _ends_inside(self, disk: VhdFile, index: int) -> bool:
        """Whether ``disk`` ends inside the block while the target goes on: what lies behind must become zeros."""
        size = disk.virtual_size_bytes
        return size < self._target_size and size < (index + 1) * BLOCK_BYTES

    def _copy_whole(self, source: VhdFile, index: int, *, in_place: bool) -> None:
        file = self._root.file
        _, data = source.block_span(index)
        if in_place:
            _, target = self._root.disk.block_span(index)
            file.copy_range(source.file, data, target, BLOCK_BYTES)
            if self._has_slots:
                file.write_at(target - len(_SLOT_HEAD), _SLOT_HEAD)
            elif self._root.disk.bitmap(index) is not None:
                self._root.write_bitmap(index, None)
        else:
            slot = self._root.append_slot()
            target = slot + len(_SLOT_HEAD)
            file.copy_range(source.file, data, target, BLOCK_BYTES)
            file.write_at(slot, _SLOT_HEAD)
            self._assign(index, slot)
        file.written(target - len(_SLOT_HEAD), len(_SLOT_HEAD) + BLOCK_BYTES)

    def _copy_slot(self, source: VhdFile, index: int, start: int, slot: int | None) -> None:
        """A whole block from slot to slot: the page with the bitmap, which is all ones, comes along."""
        file, appended = self._root.file, slot is None
        if slot is None:
            slot = self._root.append_slot()
        file.copy_range(source.file, start, slot, SLOT_BYTES)
        if appended:
            self._assign(index, slot)
        file.written(slot, SLOT_BYTES)

    def _copy_runs(self, step: BlockStep, bitmap: Bitmap) -> None:
        """Copy every sector from the newest child that has it; then the root's bitmap names them all."""
        file = self._root.file
        _, target = self._root.disk.block_span(step.index)
        taken: Bitmap = EMPTY_BITMAP
        for position in step.sources:
            source = self._disks[position]
            if position != step.sources[0]:
                if self._ends_inside(source, step.index):
                    self._rewrite(step)
                    return
                bitmap = source.bitmap(step.index)
            _, data = source.block_span(step.index)
            for first, count in runs(without(bitmap, taken)):
                start = first * SECTOR_BYTES
                file.copy_range(source.file, data + start, target + start, count * SECTOR_BYTES)
            taken = union(taken, bitmap)
            if taken is None:
                break
        self._root.write_bitmap(step.index, union(self._root.disk.bitmap(step.index), taken))
        file.written(target - BITMAP_BYTES, BITMAP_BYTES + BLOCK_BYTES)

    def _append_partial(self, step: BlockStep) -> None:
        bitmap = None if (found := self._gather(step)) is None or self._fills_zeros else found
        slot = self._root.append_block(Block(index=step.index, bitmap=bitmap, buffer=self._buffer))
        self._assign(step.index, slot)

    def _rewrite(self, step: BlockStep) -> None:
        """Put the block together in memory: for the few that end in the middle."""
        if not self._root.bat.has(step.index):
            self._append_partial(step)
            return
        bitmap = self._gather(step)
        if bitmap is not None:
            below = self._root.disk.read_block(step.index, self._spare)
            fill(self._buffer, bitmap, self._spare)
            bitmap = union(bitmap, below)
        self._root.overwrite_block(Block(index=step.index, bitmap=bitmap, buffer=self._buffer))

    def _gather(self, step: BlockStep) -> Bitmap:
        """The children's sectors of a block in the buffer, zeros elsewhere."""
        bitmap = self._disks[step.sources[0]].read_block(step.index, self._buffer)
        for position in step.sources[1:]:
            if bitmap is None:
                break
            below = self._disks[position].read_block(step.index, self._spare)
            fill(self._buffer, bitmap, self._spare)
            bitmap = union(bitmap, below)
        return bitmap

    def _assign(self, index: int, slot: int) -> None:
        self._root.assign(index, slot)
        self._pending.append(index)


def has_slots(root: VhdFileUpdater | VhdFile) -> bool:
    """Whether every block of a disk lies in a slot: then the page before its data holds nothing but the bitmap.

    Such a page can be written without being read first, which on a cold file is a trip to the disk for every block.
    """
    if root.header is None:
        return False
    sectors = root.bat.sectors()
    if not sectors:
        return True
    in_slots = all(sector % SLOT_SECTORS == SLOT_SECTORS - 1 for sector in sectors)
    return in_slots and min(sectors) * SECTOR_BYTES - SLOT_HEAD_BYTES >= _structures_end(root)


def _structures_end(root: VhdFileUpdater | VhdFile) -> int:
    """Where the header, the table and the locators' texts end that lie before the first block."""
    assert root.header is not None
    ends = [region.end for region in structures(root.footer, root.header)]
    texts = [locator.data_offset + locator.space_bytes for locator in root.header.locators if locator.used]
    return max(ends + texts)


def without(bitmap: Bitmap, taken: Bitmap) -> Bitmap:
    """Sectors of ``bitmap`` that are not in ``taken``."""
    if taken is None:
        return EMPTY_BITMAP
    if taken == EMPTY_BITMAP:
        return bitmap
    whole = (1 << 8 * BITMAP_BYTES) - 1
    bits = whole if bitmap is None else int.from_bytes(bitmap, "big")
    return (bits & ~int.from_bytes(taken, "big")).to_bytes(BITMAP_BYTES, "big")


def fill(buffer: BlockBuffer, bitmap: Bitmap, below: BlockBuffer) -> None:
    """Complete ``buffer``, which has the sectors of ``bitmap``, with those of the block below it."""
    for first, count in runs(bitmap, present=False):
        start, end = first * SECTOR_BYTES, (first + count) * SECTOR_BYTES
        buffer.data[start:end] = below.data[start:end]


def _blank_tail(root: VhdFileUpdater, plan: MergePlan) -> None:
    """Where a grown disk ended inside a block of the root, make sure that zeros follow (foreign writers)."""
    size = root.footer.current_size_bytes
    index, inside = divmod(size, BLOCK_BYTES)
    if not inside or size >= plan.target_footer.current_size_bytes or not root.bat.has(index):
        return
    _, data = root.disk.block_span(index)
    tail = read_exactly(root.file, data + inside, BLOCK_BYTES - inside)
    if any(tail):
        root.file.write_at(data + inside, bytes(len(tail)))
