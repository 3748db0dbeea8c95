"""One VHD file that is in use: what tapdisk does with it.

Unlike a backup's VHD it changes in place at sector granularity: a guest's write allocates a block at the end of
the file, marks the written sectors in its bitmap and leaves the others to the parent. Order of the writes: data,
bitmap, footer at the new end, then the table's entry, so that the file is valid after every step.

Layout: footer copy, header, one sector for the parent's locator, the table, then blocks whose data lies on 4 KiB
boundaries, the footer at the end. The file is opened while it is pinned and stays readable when it is unlinked
meanwhile.

Disks that the pool calls qcow2 lie in the same trees: a node of theirs has a creator of its own, and in its table
zero (no block can lie there) means unallocated, so that the table of an empty disk of terabytes is a hole.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from vhd.bat import Bat, padded_bytes
from vhd.block import ALIGN_BYTES, BITMAP_BYTES, BLOCK_BYTES, SECTOR_BYTES, Bitmap, bitmap_of
from vhd.footer import FOOTER_BYTES, DiskType, Footer, new_footer, unpack_footer
from vhd.header import HEADER_BYTES, NO_LOCATORS, Header, unpack_header
from vhd.locator import W2RU, Locator, encode_text

if TYPE_CHECKING:
    import uuid as uuids
    from collections.abc import Callable, Iterator
    from pathlib import Path

ImageFormat = Literal["vhd", "qcow2"]
LOCATOR_OFFSET = FOOTER_BYTES + HEADER_BYTES
TABLE_OFFSET = LOCATOR_OFFSET + SECTOR_BYTES
QCOW2 = b"qcow"
"""Creator of a qcow2 disk's node."""
ALL = (1 << (BITMAP_BYTES * 8)) - 1
"""A bitmap as a number: every sector present."""


class Node:
    """One VHD of a tree. Not safe for concurrent writers; readers may run beside one writer."""

    def __init__(self, path: Path, footer: Footer, header: Header, bat: Bat, end: int) -> None:
        self.path = path
        self.footer = footer
        self.header = header
        self.bat = bat
        self.on_grow: Callable[[int], None] = lambda _bytes: None
        self._end = end  # where the footer is, and the next block goes
        self._bitmaps: dict[int, int] = {}
        self._fd = -1
        self._pins = 0
        self._lock = threading.Lock()

    # -- making and opening

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        size_bytes: int,
        uuid: uuids.UUID,
        parent: Node | None,
        timestamp: int,
        image_format: ImageFormat = "vhd",
    ) -> Node:
        """A new file without blocks; with a parent, a child that shows the parent's content."""
        kind = DiskType.DIFFERENCING if parent else DiskType.DYNAMIC
        footer = new_footer(size_bytes=size_bytes, disk_type=kind, uuid=uuid, timestamp=timestamp)
        if image_format == "qcow2":
            footer = replace(footer, creator=QCOW2)
        entries = -(-size_bytes // BLOCK_BYTES)
        header = Header(table_offset=TABLE_OFFSET, table_entries=entries)
        end = TABLE_OFFSET + padded_bytes(entries)
        node = cls(path, footer, header, Bat.empty(entries), end)
        with path.open("xb") as file:
            file.truncate(end + FOOTER_BYTES)
        with node.pinned() as fd:
            if image_format == "vhd":
                os.pwrite(fd, node.bat.pack(), TABLE_OFFSET)
            node._write_parent(parent)
            node._write_footers()
        return node

    @classmethod
    def open(cls, path: Path) -> Node:
        """Read footer, header and table of an existing file."""
        with path.open("rb") as file:
            footer = unpack_footer(file.read(FOOTER_BYTES), path.name)
            header = unpack_header(file.read(HEADER_BYTES), path.name)
            file.seek(header.table_offset)
            bat = Bat.unpack(file.read(4 * header.table_entries), header.table_entries)
            if footer.creator == QCOW2:
                bat = _without_zeros(bat)
            end = file.seek(0, os.SEEK_END) - FOOTER_BYTES
        return cls(path, footer, header, bat, end)

    @contextmanager
    def pinned(self) -> Iterator[int]:
        """Keep the file open; gives its descriptor."""
        self.pin()
        try:
            yield self._fd
        finally:
            self.unpin()

    def pin(self) -> None:
        with self._lock:
            if self._pins == 0:
                self._fd = os.open(self.path, os.O_RDWR)
            self._pins += 1

    def unpin(self) -> None:
        with self._lock:
            self._pins -= 1
            if self._pins == 0:
                os.close(self._fd)
                self._fd = -1

    # -- what it holds

    @property
    def size_bytes(self) -> int:
        return self.footer.current_size_bytes

    @property
    def image_format(self) -> ImageFormat:
        return "qcow2" if self.footer.creator == QCOW2 else "vhd"

    @property
    def hidden(self) -> bool:
        return bool(self.footer.hidden)

    @property
    def parent_name(self) -> str | None:
        """The parent's file name."""
        return self.header.parent_name if self.footer.differencing else None

    @property
    def file_bytes(self) -> int:
        return self._end + FOOTER_BYTES

    @property
    def data_bytes(self) -> int:
        """Bytes of allocated blocks."""
        return len(self.bat.allocated()) * BLOCK_BYTES

    @property
    def empty(self) -> bool:
        return self._end == TABLE_OFFSET + padded_bytes(len(self.bat)) and not self.bat.allocated()

    def bits(self, index: int) -> int:
        """The sectors of block ``index`` that are here, as a number of 4096 bits, sector 0 the highest."""
        if not self.bat.has(index):
            return 0
        known = self._bitmaps.get(index)
        if known is None:
            with self.pinned() as fd:
                known = int.from_bytes(os.pread(fd, BITMAP_BYTES, self.bat[index] * SECTOR_BYTES), "big")
            self._bitmaps[index] = known
        return known

    def bitmap(self, index: int) -> Bitmap:
        return bitmap_of(self.bits(index).to_bytes(BITMAP_BYTES, "big"))

    def read_sectors(self, index: int, first: int, view: memoryview) -> None:
        """Fill ``view`` with sectors of an allocated block. The node must be pinned."""
        offset = (self.bat[index] + 1 + first) * SECTOR_BYTES
        done = os.preadv(self._fd, [view], offset)
        if done != len(view):
            raise OSError(f"{self.path.name}: block {index} ends after {done} of {len(view)} bytes")

    # -- changing it

    def write_sectors(self, index: int, first: int, data: memoryview | bytes) -> None:
        """Write whole sectors of one block, allocating it if need be."""
        count = len(data) // SECTOR_BYTES
        with self.pinned() as fd:
            fresh = not self.bat.has(index)
            bits = 0 if fresh else self.bits(index)
            sector = self._place() if fresh else self.bat[index]
            os.pwrite(fd, data, (sector + 1 + first) * SECTOR_BYTES)
            added = bits | ((1 << count) - 1) << (BITMAP_BYTES * 8 - first - count)
            if added != bits:
                os.pwrite(fd, added.to_bytes(BITMAP_BYTES, "big"), sector * SECTOR_BYTES)
                self._bitmaps[index] = added
            if fresh:
                self._end = sector * SECTOR_BYTES + BITMAP_BYTES + BLOCK_BYTES
                os.pwrite(fd, self.footer.pack(), self._end)
                self.bat[index] = sector
                os.pwrite(fd, self.bat.pack_range(index, 1), self.header.table_offset + 4 * index)

    def _place(self) -> int:
        """The sector of a new block's bitmap: its data comes to a 4 KiB boundary. Asks for the room."""
        data = -(-(self._end + BITMAP_BYTES) // ALIGN_BYTES) * ALIGN_BYTES
        self.on_grow(data + BLOCK_BYTES - self._end)
        return data // SECTOR_BYTES - 1

    def set_footer(self, **fields: object) -> None:
        """Change fields of the footer, in both places."""
        self.footer = replace(self.footer, **fields)  # type: ignore[arg-type]
        with self.pinned():
            self._write_footers()

    def set_parent(self, parent: Node | None) -> None:
        """Make it a child of another node, or a root."""
        kind = DiskType.DIFFERENCING if parent else DiskType.DYNAMIC
        self.footer = replace(self.footer, disk_type=kind)
        with self.pinned():
            self._write_parent(parent)
            self._write_footers()

    def _write_parent(self, parent: Node | None) -> None:
        plain = Header(table_offset=self.header.table_offset, table_entries=self.header.table_entries)
        text = b""
        if parent is not None:
            text = encode_text(W2RU, parent.path.name)
            locator = Locator(code=W2RU, data_space=512, data_length=len(text), data_offset=LOCATOR_OFFSET)
            plain = replace(
                plain,
                parent_uuid=parent.footer.uuid,
                parent_timestamp=parent.footer.timestamp,
                parent_name=parent.path.name,
                locators=(locator, *NO_LOCATORS[1:]),
            )
        self.header = plain
        os.pwrite(self._fd, self.header.pack() + text.ljust(SECTOR_BYTES, b"\0"), FOOTER_BYTES)

    def _write_footers(self) -> None:
        raw = self.footer.pack()
        os.pwrite(self._fd, raw, self._end)
        os.pwrite(self._fd, raw, 0)

    def resize(self, size_bytes: int) -> None:
        """Grow the disk; blocks in the way of the longer table move to the end."""
        entries = -(-size_bytes // BLOCK_BYTES)
        with self.pinned() as fd:
            if entries > len(self.bat):
                self._make_room(TABLE_OFFSET + padded_bytes(entries))
                self.bat.grow(entries)
                self.header = replace(self.header, table_entries=entries)
                os.pwrite(fd, self._packed_table(), TABLE_OFFSET)
                os.pwrite(fd, self.header.pack(), FOOTER_BYTES)
            self.footer = self.footer.with_size(size_bytes)
            self._write_footers()

    def _packed_table(self) -> bytes:
        if self.image_format == "vhd":
            return self.bat.pack()
        packed = bytearray(padded_bytes(len(self.bat)))
        for index in self.bat.allocated():
            packed[4 * index : 4 * index + 4] = self.bat.pack_range(index, 1)
        return bytes(packed)

    def _make_room(self, until: int) -> None:
        if self._end < until:
            self.on_grow(until - self._end)
            self._end = until
            os.ftruncate(self._fd, until + FOOTER_BYTES)
        buffer = memoryview(bytearray(BLOCK_BYTES))
        for index in self.bat.allocated():
            if self.bat[index] * SECTOR_BYTES >= until:
                continue
            bits = self.bits(index).to_bytes(BITMAP_BYTES, "big")
            self.read_sectors(index, 0, buffer)
            sector = self._place()
            os.pwrite(self._fd, bits + bytes(buffer), sector * SECTOR_BYTES)
            self._end = sector * SECTOR_BYTES + BITMAP_BYTES + BLOCK_BYTES
            os.pwrite(self._fd, self.footer.pack(), self._end)
            self.bat[index] = sector

    def rename(self, path: Path) -> None:
        self.path.replace(path)
        self.path = path


def _without_zeros(bat: Bat) -> Bat:
    """The table of a qcow2 disk's node as others are: unallocated is unallocated."""
    found = Bat.empty(len(bat))
    for index in range(len(bat)):
        if bat[index]:
            found[index] = bat[index]
    return found
