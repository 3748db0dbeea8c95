"""What an export sends: the exact bytes of xapi's VHD stream, or the raw disk.

    offset  size   content
         0   512   footer: creator "caml" version 1, timestamp 0, a random uuid
       512  1024   header, table at 2048
      1536   512   zeros (the place of a parent locator that is announced and never written)
      2048     -   table, padded with ones
         -     -   every block: a bitmap of ones and 2 MiB, packed, ascending
       end   512   the footer again

Which blocks: in a full export those present in any node of the disk's chain; against a base those present in any
node that only one of the two chains has. The data always is what the disk shows.
"""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vhd.bat import Bat, padded_bytes
from vhd.block import BITMAP_BYTES, BLOCK_BYTES, FULL_BITMAP, SECTOR_BYTES
from vhd.footer import FOOTER_BYTES, DiskType, new_footer
from vhd.header import NO_LOCATORS, Header
from vhd.locator import MACX, Locator
from vhd.timestamps import to_vhd

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from xobackup.simpool.storage.composed import ComposedDisk
    from xobackup.simpool.storage.node import Node

TABLE_OFFSET = 2048
LOCATOR_OFFSET = 1536
STORED_BYTES = BITMAP_BYTES + BLOCK_BYTES
_ZEROS = memoryview(bytes(BLOCK_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export: ``head`` and ``tail`` around the blocks; ``disk`` is missing for images without data."""

    disk: ComposedDisk | None
    indexes: list[int]
    head: bytes
    tail: bytes
    raw_bytes: int | None = None
    """Length of a raw export; ``None`` for a VHD."""

    @property
    def length_bytes(self) -> int:
        if self.raw_bytes is not None:
            return max(1, self.raw_bytes)
        return len(self.head) + len(self.indexes) * STORED_BYTES + len(self.tail)

    def pieces(self) -> Iterator[memoryview]:
        """The stream; each piece is valid until the next."""
        if self.disk is None:
            yield from self._pieces(None)
            return
        with self.disk as disk:
            yield from self._pieces(disk)

    def _pieces(self, disk: ComposedDisk | None) -> Iterator[memoryview]:
        if self.raw_bytes is not None:
            yield from self._raw(disk, self.raw_bytes)
            return
        yield memoryview(self.head)
        buffer = memoryview(bytearray(FULL_BITMAP + bytes(BLOCK_BYTES)))
        for index in self.indexes:
            _read(disk, index, buffer[BITMAP_BYTES:])
            yield buffer
        yield memoryview(self.tail)

    def _raw(self, disk: ComposedDisk | None, length: int) -> Iterator[memoryview]:
        wanted = set(self.indexes)
        buffer = memoryview(bytearray(BLOCK_BYTES))
        for index in range(-(-length // BLOCK_BYTES)):
            size = min(BLOCK_BYTES, length - index * BLOCK_BYTES)
            if index not in wanted:
                yield _ZEROS[:size]
                continue
            _read(disk, index, buffer)
            yield buffer[:size]


def _read(disk: ComposedDisk | None, index: int, view: memoryview) -> None:
    """A whole block as the disk shows it, zeros past the disk's end."""
    if disk is None:
        view[:] = _ZEROS
        return
    inside = min(BLOCK_BYTES, disk.virtual_size_bytes - index * BLOCK_BYTES)
    disk.read_sectors(index, 0, view[:inside])
    view[inside:] = _ZEROS[: BLOCK_BYTES - inside]


def changed_indexes(nodes: list[Node], base: list[Node]) -> list[int]:
    """Blocks of nodes that only one of the two chains has (a node is its footer's uuid and file name)."""
    mine, theirs = ({(node.footer.uuid, node.path.name): node for node in chain} for chain in (nodes, base))
    only = [node for key, node in {**mine, **theirs}.items() if (key in mine) != (key in theirs)]
    last = -(-nodes[0].size_bytes // BLOCK_BYTES)
    return sorted({index for node in only for index in node.bat.allocated() if index < last})


def plan_export(
    disk: ComposedDisk, base: list[Node] | None, wanted: str, base_path: str, rng: random.Random
) -> Export:
    """What to send for ``disk`` (against ``base``); ``base_path`` is where a host would find the base's node."""
    indexes = disk.block_indexes() if base is None else changed_indexes(disk.nodes, base)
    size = disk.virtual_size_bytes
    if wanted == "raw":
        return Export(disk=disk, indexes=indexes, head=b"", tail=b"", raw_bytes=size)
    head, tail = _frame(size, indexes, None if base is None else base[0], base_path, rng)
    return Export(disk=disk, indexes=indexes, head=head, tail=tail)


def plan_raw_source(disk: ComposedDisk, rng: random.Random) -> Export:
    """A disk that is no VHD as one: read from the device, without the blocks that are zeros throughout."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    indexes: list[int] = []
    with disk:
        for index in disk.block_indexes():
            _read(disk, index, buffer)
            if bytes(buffer) != _ZEROS:
                indexes.append(index)
    head, tail = _frame(-(-disk.virtual_size_bytes // BLOCK_BYTES) * BLOCK_BYTES, indexes, None, "", rng)
    return Export(disk=disk, indexes=indexes, head=head, tail=tail)


def empty_export(size: int, wanted: str, rng: random.Random) -> Export:
    """An image that is no VHD and holds nothing but zeros (the pool's ISO images)."""
    if wanted == "raw":
        return Export(disk=None, indexes=[], head=b"", tail=b"", raw_bytes=size)
    head, tail = _frame(-(-size // BLOCK_BYTES) * BLOCK_BYTES, [], None, "", rng)
    return Export(disk=None, indexes=[], head=head, tail=tail)


def _frame(size: int, indexes: list[int], base: Node | None, path: str, rng: random.Random) -> tuple[bytes, bytes]:
    """Everything before the first block, and everything after the last."""
    kind = DiskType.DYNAMIC if base is None else DiskType.DIFFERENCING
    fresh = uuids.UUID(int=rng.getrandbits(128), version=4)
    footer = replace(
        new_footer(size_bytes=size, disk_type=kind, uuid=fresh, timestamp=0),
        creator=b"caml",
        creator_version=1,
        creator_os=bytes(4),
    ).pack()
    entries = -(-size // BLOCK_BYTES)
    header = Header(table_offset=TABLE_OFFSET, table_entries=entries)
    if base is not None:
        announced = Locator(
            code=MACX, data_space=1, data_length=len(f"file://{path}".encode()), data_offset=LOCATOR_OFFSET
        )
        header = replace(
            header,
            parent_uuid=base.footer.uuid,
            parent_timestamp=to_vhd(base.path.stat().st_mtime),
            parent_name=path,
            locators=(announced, *NO_LOCATORS[1:]),
        )
    bat, sector = Bat.empty(entries), (TABLE_OFFSET + padded_bytes(entries)) // SECTOR_BYTES
    for index in indexes:
        bat[index] = sector
        sector += STORED_BYTES // SECTOR_BYTES
    head = footer + header.pack() + bytes(SECTOR_BYTES) + bat.pack()
    assert len(head) == TABLE_OFFSET + padded_bytes(entries) and len(footer) == FOOTER_BYTES
    return head, footer
