"""A plan applied to VHD directories: block objects move from the children to the root, several at a time.

Order: the root's table and header grow; blocks move; the table names them; the footer becomes the target's. A whole
block is moved, not read. A partial one (see ``partial`` in :mod:`vhd.directory`), or one of another compression, is
put together, stored in the root, and only then deleted from the newest child, so that a missing object of the newest
child always means: the root has it.

Where a move is a copy and a deletion (object stores), blocks are only copied here: one request each, and nothing
comes through this machine. Before the table names them the root's objects are listed: a block that a store only said
it had copied stops the merge. The children keep theirs until the cleanup deletes them with all their objects, many
at a time.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, Bitmap, BlockBuffer, BufferPool, bitmap_of, blank_absent, union
from vhd.directory import BLOCKS_PER_DIRECTORY, VhdDirectory, block_name
from vhd.directory_writer import VhdDirectoryUpdater, generous_entries
from vhd.errors import MergeError
from vhd.footer import DiskType
from vhd.merge.files import fill
from vhd.storage import CopyingStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhd.merge.members import DirectoryMembers
    from vhd.merge.plan import BlockStep, MergePlan
    from vhd.merge.progress import Keeper


def merge_directories(members: DirectoryMembers, plan: MergePlan, keeper: Keeper) -> None:
    """Merge from the state's block on, up to the root's new footer. Durable on return."""
    root = members.root
    if plan.entries_after > plan.entries_before:
        root.grow(max(plan.entries_after, generous_entries(plan.target_footer.current_size_bytes)))
    _blank_tail(root, plan)
    _mark_partial(members, plan)
    merging = _Merging(root, members.disks, plan, max(1, keeper.options.workers_max), resumed=keeper.resumed)
    _move_blocks(merging, plan, keeper)
    if merging.copies:
        _check_copies(root, plan)
    for index in plan.indexes:
        root.bat.add(index)
    root.write_table()
    root.replace_footer(plan.footer_after)


def _move_blocks(merging: _Merging, plan: MergePlan, keeper: Keeper) -> None:
    """Keep up to ``workers_max`` blocks under way; the oldest one not done is what the state file says."""
    workers = max(1, keeper.options.workers_max)
    under_way: deque[tuple[int, Future[None]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="merge") as pool:
        try:
            for step in plan.steps(keeper.state.current_block):
                keeper.options.cancel()
                if len(under_way) >= 2 * workers:
                    _finish_oldest(under_way, keeper)
                    if keeper.due:
                        keeper.keep_block(under_way[0][0])
                under_way.append((step.index, pool.submit(merging.merge_block, step)))
            while under_way:
                _finish_oldest(under_way, keeper)
        finally:
            for _, future in under_way:
                future.cancel()


def _finish_oldest(under_way: deque[tuple[int, Future[None]]], keeper: Keeper) -> None:
    under_way[0][1].result()
    under_way.popleft()
    keeper.block_done(BLOCK_BYTES)


class _Merging:
    """The blocks of one merge; several threads."""

    def __init__(
        self,
        root: VhdDirectoryUpdater,
        disks: Sequence[VhdDirectory],
        plan: MergePlan,
        workers: int,
        *,
        resumed: bool,
    ) -> None:
        self._resumed = resumed
        self._root = root
        self._disks = disks
        self._target_size = plan.target_footer.current_size_bytes
        self._fills_zeros = plan.root_footer.disk_type == DiskType.DYNAMIC
        self._buffers = BufferPool(2 * workers)
        self.copies = isinstance(root.store, CopyingStore) and root.store.moves_by_copy

    def merge_block(self, step: BlockStep) -> None:
        newest = self._disks[step.sources[0]]
        whole = not newest.partial.has(step.index) and not self._ends_inside(newest, step.index)
        if whole and newest.codec.name == self._root.codec.name:
            done = (self._root.copy if self.copies else self._root.take)(newest, step.index)
        else:
            done = self._rewrite(step, newest)
        if not done:
            self._check_moved(step, newest)

    def _check_moved(self, step: BlockStep, newest: VhdDirectory) -> None:
        """A block that the newest child has no more must be one that an earlier attempt moved to the root."""
        what = f"block {step.index}"
        if not self._resumed:  # it was there when this merge began
            raise MergeError(newest.path, f"{what} has vanished since the merge began")
        if self.copies and self._root.store.exists(block_name(newest.path, step.index)):
            raise MergeError(newest.path, f"{what} is there, but the store says that it cannot be copied")
        if self._root.block_object(step.index) is None:
            raise MergeError(newest.path, f"{what} is neither there nor in the root {self._root.path}")

    def _ends_inside(self, disk: VhdDirectory, index: int) -> bool:
        size = disk.virtual_size_bytes
        return size < self._target_size and size < (index + 1) * BLOCK_BYTES

    def _rewrite(self, step: BlockStep, newest: VhdDirectory) -> bool:
        """Put the block together; ``False`` when the newest child has it no more."""
        if newest.block_object(step.index) is None:
            return False
        buffer, spare = self._buffers.acquire(), self._buffers.acquire()
        try:
            bitmap = newest.read_block(step.index, buffer)
            for position in step.sources[1:]:
                if bitmap is None:
                    break
                below = self._disks[position].read_block(step.index, spare)
                fill(buffer, bitmap, spare)
                bitmap = union(bitmap, below)
            if bitmap is not None:
                bitmap = self._complete_from_root(step.index, bitmap, buffer, spare)
            self._root.put_block(step.index, bitmap, buffer)
        finally:
            self._buffers.release(buffer)
            self._buffers.release(spare)
        if not self.copies:
            self._root.store.delete(block_name(newest.path, step.index))
        return True

    def _complete_from_root(self, index: int, bitmap: Bitmap, buffer: BlockBuffer, spare: BlockBuffer) -> Bitmap:
        # the object decides, not the table: an interrupted merge stores blocks before the table names them
        stored = self._root.block_object(index)
        if stored is not None:
            spare.stored[:] = stored
            below = bitmap_of(spare.bitmap)
            blank_absent(spare, below)
            fill(buffer, bitmap, spare)
            bitmap = union(bitmap, below)
        return None if self._fills_zeros else bitmap


def _check_copies(root: VhdDirectoryUpdater, plan: MergePlan) -> None:
    """Every block that the table is about to name has its object."""
    there: set[str] = set()
    group = -1
    for index in plan.indexes:
        if index // BLOCKS_PER_DIRECTORY != group:
            group = index // BLOCKS_PER_DIRECTORY
            try:
                there = set(root.store.names(f"{root.path}/blocks/{group}"))
            except root.missing:
                there = set()
        if str(index % BLOCKS_PER_DIRECTORY) not in there:
            raise MergeError(root.path, f"block {index} was copied, but is not there")


def _mark_partial(members: DirectoryMembers, plan: MergePlan) -> None:
    """Before any partial block comes to a differencing root: the root says which blocks have to be looked at."""
    root = members.root
    if plan.root_footer.disk_type == DiskType.DYNAMIC:
        return
    marked = False
    for step in plan.steps():
        if not root.partial.has(step.index) and members.disks[step.sources[0]].partial.has(step.index):
            root.partial.add(step.index)
            marked = True
    if marked:
        root.write_table()


def _blank_tail(root: VhdDirectoryUpdater, plan: MergePlan) -> None:
    """Where a grown disk ended inside a block of the root, make sure that zeros follow (foreign writers)."""
    size = root.footer.current_size_bytes
    index, inside = divmod(size, BLOCK_BYTES)
    if not inside or size >= plan.target_footer.current_size_bytes or not root.bat.has(index):
        return
    buffer = BlockBuffer()
    stored = root.block_object(index)
    if stored is not None and any(stored[-(BLOCK_BYTES - inside) :]):
        bitmap = root.read_block(index, buffer)
        root.put_block(index, bitmap, buffer)
