"""What a merge will do, decided before anything is touched, from tables and sizes alone.

For every block of the children: the newest child that has it gives it (its bitmap may leave sectors to older ones,
which are listed after it). In files it goes into the root's block (*in place*) or behind the last one (*appended*);
in directories its object moves. The plan is compact whatever the disk: a few bytes per changed block.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vhd.bitbat import BitBat
from vhd.block import BLOCK_BYTES, SLOT_BYTES
from vhd.layout import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vhd.footer import Footer


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """What the plan has to know of one disk of the chain."""

    name: str
    footer: Footer
    table_entries: int
    blocks: Sequence[int]
    """Allocated blocks, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStep:
    """One block to merge."""

    index: int
    sources: tuple[int, ...]
    """Positions in the chain of the children that have it, newest first; the first one gives most or all of it."""
    in_root: bool

    @property
    def reason(self) -> str:
        """Why it goes where it goes."""
        if self.in_root:
            return f"block {self.index} is in the root too: replaced by that of member {self.sources[0]}"
        return f"block {self.index} is only in the children: added to the root from member {self.sources[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """See the module's head. ``chain`` names root, ..., target."""

    chain: tuple[str, ...]
    root_footer: Footer
    target_footer: Footer
    entries_before: int
    entries_after: int
    indexes: array[int]
    """Blocks to merge, ascending."""
    newest: array[int]
    """Beside ``indexes``: the position in the chain of the newest child that has it."""
    in_root: BitBat
    older: dict[int, tuple[int, ...]]
    """For blocks that several children have: the positions of the others, newest first."""

    @property
    def blocks(self) -> int:
        return len(self.indexes)

    @property
    def in_place(self) -> int:
        """Blocks the root has already."""
        return sum(1 for index in self.indexes if self.in_root.has(index))

    @property
    def appended(self) -> int:
        """Blocks the root gets."""
        return self.blocks - self.in_place

    @property
    def bytes_to_move(self) -> int:
        return self.blocks * BLOCK_BYTES

    @property
    def bytes_to_grow(self) -> int:
        """By how much a root file gets longer, at most."""
        return self.appended * SLOT_BYTES + 4 * max(0, self.entries_after - self.entries_before)

    @property
    def footer_after(self) -> Footer:
        """The root's footer when it has become the target: the target's identity and size, the root's kind."""
        return merged_footer(self.root_footer, self.target_footer)

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        into = f"{self.chain[0]} takes {self.blocks} blocks of {len(self.chain) - 1} disks up to {self.chain[-1]}"
        grown = ""
        if self.entries_after > self.entries_before:
            grown = f"; its table grows from {self.entries_before} to {self.entries_after} blocks"
        return f"{into}: {self.in_place} replaced, {self.appended} added{grown}"

    def steps(self, first_block: int = 0) -> Iterator[BlockStep]:
        """The steps from block ``first_block`` on, ascending."""
        for index, newest in zip(self.indexes, self.newest, strict=True):
            if index >= first_block:
                sources = (newest, *self.older.get(index, ()))
                yield BlockStep(index=index, sources=sources, in_root=self.in_root.has(index))

    def source_of(self) -> Iterator[tuple[int, int]]:
        """For each merged block: its index, and the position in the chain of the child it mainly comes from."""
        yield from zip(self.indexes, self.newest, strict=True)


def merged_footer(root: Footer, target: Footer) -> Footer:
    """The root's footer after the merge (Xen Orchestra's choice of fields)."""
    return replace(
        root,
        current_size_bytes=target.current_size_bytes,
        original_size_bytes=target.original_size_bytes,
        geometry=target.geometry,
        timestamp=target.timestamp,
        uuid=target.uuid,
    )


def plan_merge(members: Sequence[MemberFacts]) -> MergePlan:
    """Plan the merge of ``members[1:]`` into ``members[0]``; that it may be done was checked before."""
    root, target = members[0], members[-1]
    count = blocks_of(target.footer.current_size_bytes)
    newest = array("H", bytes(2 * count))  # dense: two bytes a block, whatever the children hold
    older: dict[int, tuple[int, ...]] = {}
    for position, member in enumerate(members[1:], 1):
        for index in member.blocks:
            if index >= count:
                break
            if newest[index]:
                older[index] = (newest[index], *older.get(index, ()))
            newest[index] = position
    changed = BitBat(count, (index for member in members[1:] for index in member.blocks if index < count))
    indexes = array("I", changed)
    in_root = BitBat(count)
    for index in root.blocks:
        if index < count and newest[index]:
            in_root.add(index)
    return MergePlan(
        chain=tuple(member.name for member in members),
        root_footer=root.footer,
        target_footer=target.footer,
        entries_before=root.table_entries,
        entries_after=max(root.table_entries, count),
        indexes=indexes,
        newest=array("H", (newest[index] for index in indexes)),
        in_root=in_root,
        older=older,
    )
