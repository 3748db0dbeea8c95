"""A chain of disks, root to tip, read as one disk.

Every sector comes from the topmost disk that has it. A block whose bitmap is all ones costs one read, however long
the chain; only partial blocks are completed from below, sector by sector. A disk answers only up to its own size and
that of every disk above it: what lies past the end of a smaller one are zeros, also where the chain grew again.

Parents are found by name, beside the child and nowhere else, and checked by uuid. They are opened from the tip
down, each one's table folded into one (:mod:`vhd.chain_table`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, Self

from vhd.block import (
    BLOCK_BYTES,
    EMPTY_BITMAP,
    SECTOR_BYTES,
    Bitmap,
    BlockBuffer,
    blank,
    blank_past_end,
    runs,
    union,
)
from vhd.chain_table import ChainTable
from vhd.errors import ChainError, MissingParent, ParentLoop, ParentMismatch
from vhd.findings import Finding, Severity
from vhd.layout import blocks_of
from vhd.parents import parent_names
from vhd.reader import VhdFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from vhd.footer import Footer
    from vhd.header import Header

CHAIN_MAX = 1024
"""Longer chains are refused: nobody makes them, and every disk keeps a file open."""


class Member(Protocol):
    """One disk of a chain: a ``VhdFile``, a ``VhdDirectory``, or something of their shape."""

    @property
    def name(self) -> str: ...

    @property
    def footer(self) -> Footer: ...

    @property
    def header(self) -> Header | None: ...

    @property
    def virtual_size_bytes(self) -> int: ...

    def block_indexes(self) -> list[int]: ...

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap: ...

    def parent_candidates(self) -> list[str]: ...

    def close(self) -> None: ...


class ChainOpener(Protocol):
    """Opens disks by their names in one directory."""

    def open(self, name: str) -> Member | None:
        """``None`` when there is nothing of that name; errors of the storage and of the bytes pass through."""
        ...


class Chain:
    """See the module's head. Satisfies :class:`vhd.block.Disk`; several threads may read at once."""

    def __init__(self, members: list[Member], table: ChainTable, warnings: list[Finding]) -> None:
        self._layers = members
        """Tip first."""
        self._table = table
        self.warnings = warnings
        """What did not fit but was let pass (``check_uuids=False``)."""
        sizes = [member.virtual_size_bytes for member in members]
        self._limits = [min(sizes[: layer + 1]) for layer in range(len(sizes))]
        self._lock = threading.Lock()
        self._spares: list[BlockBuffer] = []
        """Buffers for completing partial blocks, one for each thread that ever did so at the same time."""
        self._window = BlockBuffer()
        self._window_index = -1

    @classmethod
    def open(
        cls,
        opener: ChainOpener,
        tip_name: str,
        *,
        check_uuids: bool = True,
        also_known_as: Callable[[str], Collection[UUID]] | None = None,
    ) -> Self:
        """Open ``tip_name`` and its parents. Raises :class:`ChainError` and its kin, closing what was open.

        ``check_uuids=False``: a parent of the wrong uuid is only a warning (Xen Orchestra restores by name alone).
        ``also_known_as`` gives further uuids of a disk: a root being merged changes its own.
        """
        tip = opener.open(tip_name)
        if tip is None:
            raise ChainError(f"{tip_name}: there is no such disk")
        members, names, warnings = [tip], [tip_name], list[Finding]()
        try:
            table = ChainTable(blocks_of(tip.virtual_size_bytes))
            table.add(tip)
            while members[-1].footer.differencing:
                child = members[-1]
                name, parent, problem = _find_parent(opener, child, names, also_known_as)
                members.append(parent)
                names.append(name)
                if problem is not None and check_uuids:
                    raise problem
                if problem is not None:
                    warnings.append(Finding(code="parent-uuid", message=str(problem), severity=Severity.WARNING))
                table.add(parent)
        except BaseException:
            for member in members:
                member.close()
            raise
        return cls(members, table, warnings)

    @property
    def members(self) -> list[Member]:
        """Root first, tip last."""
        return self._layers[::-1]

    @property
    def name(self) -> str:
        return self._layers[0].name

    @property
    def footer(self) -> Footer:
        """The tip's."""
        return self._layers[0].footer

    @property
    def virtual_size_bytes(self) -> int:
        return self._layers[0].virtual_size_bytes

    def block_indexes(self) -> list[int]:
        """Blocks that any disk of the chain has, ascending; all others are zeros."""
        return self._table.owned()

    def layer_of(self, index: int) -> Member | None:
        """The topmost disk that has block ``index``."""
        layer = self._table.owner(index) if index < self._table.blocks else None
        return None if layer is None else self._layers[layer]

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Fill ``buffer.data`` with block ``index`` of the whole chain."""
        layer = self._table.owner(index) if index < self._table.blocks else None
        if layer is None:
            blank(buffer.data)
            return EMPTY_BITMAP
        bitmap = self._read_layer(layer, index, buffer)
        while bitmap is not None:
            below = self._next_with(index, layer)
            if below is None:
                break
            layer = below
            bitmap = self._complete(layer, index, bitmap, buffer)
        return bitmap

    def will_read(self, index: int) -> bool:
        """Hint that block ``index`` is read soon; whether the storage could be told (files can, objects cannot)."""
        layer = self.layer_of(index)
        return layer is None or (isinstance(layer, VhdFile) and layer.will_read(index))

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset`` of the disk; returns how many bytes, fewer only at its end."""
        length = max(0, min(len(buffer), self.virtual_size_bytes - offset))
        done = 0
        while done < length:
            index, start = divmod(offset + done, BLOCK_BYTES)
            count = min(BLOCK_BYTES - start, length - done)
            self._copy_from_block(index, start, buffer[done : done + count])
            done += count
        return length

    def close(self) -> None:
        for member in self._layers:
            member.close()

    def _copy_from_block(self, index: int, start: int, target: memoryview) -> None:
        if self._table.owner(index) is None:
            blank(target)
            return
        with self._lock:
            if self._window_index != index:
                self._window_index = -1  # in case reading fails half way
                self.read_block(index, self._window)
                self._window_index = index
            target[:] = self._window.data[start : start + len(target)]

    def _read_layer(self, layer: int, index: int, buffer: BlockBuffer) -> Bitmap:
        member = self._layers[layer]
        bitmap = member.read_block(index, buffer)
        limit = self._limits[layer]
        if limit < member.virtual_size_bytes:  # a smaller disk above hides the rest
            blank_past_end(buffer, index, limit)
        return bitmap

    def _next_with(self, index: int, layer: int) -> int | None:
        presence = self._table.presence
        return next((below for below in range(layer + 1, len(presence)) if presence[below].has(index)), None)

    def _complete(self, layer: int, index: int, above: Bitmap, buffer: BlockBuffer) -> Bitmap:
        try:
            spare = self._spares.pop()
        except IndexError:
            spare = BlockBuffer()
        present = self._read_layer(layer, index, spare)
        for first, count in runs(above, present=False):
            start, end = first * SECTOR_BYTES, (first + count) * SECTOR_BYTES
            buffer.data[start:end] = spare.data[start:end]
        self._spares.append(spare)
        return union(above, present)


def _find_parent(
    opener: ChainOpener,
    child: Member,
    names: list[str],
    also_known_as: Callable[[str], Collection[UUID]] | None,
) -> tuple[str, Member, ParentMismatch | None]:
    """The first candidate of the right uuid, else the first that exists, with the complaint about it."""
    if len(names) >= CHAIN_MAX:
        raise ChainError(f"{names[0]}: the chain has more than {CHAIN_MAX} disks")
    candidates = parent_names(child.name, child.parent_candidates())
    expected = child.header.parent_uuid if child.header is not None else None
    fallback: tuple[str, Member, ParentMismatch] | None = None
    for name in candidates:
        if name in names:
            raise ParentLoop(names[0], name)
        parent = opener.open(name)
        if parent is None:
            continue
        known = {parent.footer.uuid, *(also_known_as(name) if also_known_as else ())}
        if expected in known:
            if fallback is not None:
                fallback[1].close()
            return name, parent, None
        if fallback is None:
            problem = ParentMismatch(child.name, name, str(expected), str(parent.footer.uuid))
            fallback = name, parent, problem
        else:
            parent.close()
    if fallback is None:
        raise MissingParent(child.name, candidates[0] if candidates else "(no name)")
    return fallback
