"""Write a new VHD directory, and change one in place for merging.

A new one is written blocks first, then table, header, filters, and the footer last: a directory with a footer is
whole. Publishing it under an alias (:mod:`vhd.alias`) is the caller's last step.

The table is made larger than the disk needs (:func:`generous_entries`): Xen Orchestra's own merge of a grown disk
writes the new size into the parent's footer but never grows the parent's table, and destroys the chain unless there
is room already.

In place, what others may be reading stays readable at every instant: a grown table before the header that needs it,
the header before the footer that needs it; blocks are replaced whole.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from vhd.bitbat import BitBat
from vhd.block import FULL_BITMAP
from vhd.codec import PLAIN, Codec
from vhd.directory import FILTERS, FOOTER, HEADER, PARTIAL, TABLE, VhdDirectory, block_name
from vhd.errors import Unsupported
from vhd.header import ENTRIES_MAX, Header
from vhd.layout import blocks_of, streamed_size_bytes
from vhd.storage import CopyingStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhd.block import Bitmap, Block, BlockBuffer
    from vhd.footer import Footer
    from vhd.layout import ParentLink
    from vhd.storage import Buffer, ObjectStore

SPARE_ENTRIES_MIN = 4096
TABLE_OFFSET = 1536
"""What Xen Orchestra puts into the header of a VHD directory; nothing lies there."""


def generous_entries(size_bytes: int) -> int:
    """Table entries for a disk of ``size_bytes``: room to double, at least 8 GiB, in what a table may hold."""
    needed = blocks_of(size_bytes)
    return max(needed, min(max(SPARE_ENTRIES_MIN, 2 * needed), ENTRIES_MAX))


class VhdDirectoryWriter:
    """One new VHD directory. Several threads may write blocks at once, each block once."""

    def __init__(self, store: ObjectStore, path: str, codec: Codec, footer: Footer, header: Header) -> None:
        self.store = store
        self.path = path
        self.codec = codec
        self.footer = footer
        self.header = header
        self._bat = BitBat(header.table_entries)
        self._partial = BitBat(header.table_entries)
        self._lock = threading.Lock()
        self._blocks = 0

    @classmethod
    def create(
        cls,
        store: ObjectStore,
        path: str,
        *,
        footer: Footer,
        parent: ParentLink | None = None,
        codec: Codec = PLAIN,
        entries: int | None = None,
    ) -> Self:
        """Begin the directory ``path``. ``entries``: table size, by default :func:`generous_entries`."""
        if entries is None:
            entries = generous_entries(footer.current_size_bytes)
        if not blocks_of(footer.current_size_bytes) <= entries <= ENTRIES_MAX:
            raise Unsupported(path, f"a disk of {footer.current_size_bytes} bytes with {entries} table entries")
        header = Header(table_offset=TABLE_OFFSET, table_entries=entries)
        if parent is not None:
            header = replace(
                header, parent_uuid=parent.uuid, parent_timestamp=parent.timestamp, parent_name=parent.name
            )
        header.pack()  # raises now, not after the last block, when the parent's name does not fit
        return cls(store, path, codec, footer, header)

    @property
    def streamed_size_bytes(self) -> int:
        """The size Xen Orchestra reports."""
        return streamed_size_bytes(self.header.table_entries, self._blocks)

    def write_block(self, block: Block) -> None:
        """Put one block; fills in the buffer's bitmap."""
        block.buffer.bitmap[:] = FULL_BITMAP if block.bitmap is None else block.bitmap
        self._write(block.index, block.buffer.stored, partial=block.bitmap is not None)

    def later(self, block: Block) -> Callable[[], None]:
        """What :meth:`write_block` does, to be called when the buffer may be in use again: it holds a copy."""
        block.buffer.bitmap[:] = FULL_BITMAP if block.bitmap is None else block.bitmap
        stored, index, partial = bytes(block.buffer.stored), block.index, block.bitmap is not None
        return lambda: self._write(index, stored, partial=partial)

    def _write(self, index: int, stored: Buffer, *, partial: bool) -> None:
        self.store.put(block_name(self.path, index), self.codec.compress(stored))
        with self._lock:
            assert not self._bat.has(index), f"block {index} written twice"
            self._bat.add(index)
            self._blocks += 1
            if partial:
                self._partial.add(index)

    def finish(self) -> int:
        """Make it whole; returns :attr:`streamed_size_bytes`."""
        put_table(self.store, self.path, self.codec, self._bat, self._partial)
        self.store.put(f"{self.path}/{HEADER}", self.codec.compress(self.header.pack()))
        filters = [self.codec.name] if self.codec.name else []
        self.store.put(f"{self.path}/{FILTERS}", json.dumps(filters).encode())
        self.store.put(f"{self.path}/{FOOTER}", self.codec.compress(self.footer.pack()))
        return self.streamed_size_bytes


def put_table(store: ObjectStore, path: str, codec: Codec, bat: BitBat, partial: BitBat) -> None:
    """Write the table; before it, if any block is partial, which ones."""
    if partial:
        store.put(f"{path}/{PARTIAL}", codec.compress(partial.pack()))
    store.put(f"{path}/{TABLE}", codec.compress(bat.pack()))


class VhdDirectoryUpdater(VhdDirectory):
    """A VHD directory that a merge changes in place. Several threads may take and put blocks at once."""

    def grow(self, entries: int) -> None:
        """Make room for ``entries`` blocks: table, then header."""
        if entries <= self.header.table_entries:
            return
        if entries > ENTRIES_MAX:
            raise Unsupported(self.path, f"a table of {entries} entries")
        self.bat.grow(entries)
        self.partial.grow(entries)
        self.write_table()
        self.header = replace(self.header, table_entries=entries)
        self.store.put(f"{self.path}/{HEADER}", self.codec.compress(self.header.pack()))

    def take(self, source: VhdDirectory, index: int) -> bool:
        """Move ``source``'s object of block ``index`` here, replacing ours; ``False`` when it is not there."""
        try:
            self.store.move(block_name(source.path, index), block_name(self.path, index))
        except source.missing:
            return False
        return True

    def copy(self, source: VhdDirectory, index: int) -> bool:
        """Copy ``source``'s object of block ``index`` here, replacing ours; ``False`` when it is not there."""
        assert isinstance(self.store, CopyingStore)
        try:
            self.store.copy(block_name(source.path, index), block_name(self.path, index))
        except source.missing:
            return False
        return True

    def put_block(self, index: int, bitmap: Bitmap, buffer: BlockBuffer) -> None:
        """Replace block ``index`` whole."""
        buffer.bitmap[:] = FULL_BITMAP if bitmap is None else bitmap
        self.store.put(block_name(self.path, index), self.codec.compress(buffer.stored))

    def write_table(self) -> None:
        """Store the table as it is in memory now."""
        put_table(self.store, self.path, self.codec, self.bat, self.partial)

    def replace_footer(self, footer: Footer) -> None:
        self.store.put(f"{self.path}/{FOOTER}", self.codec.compress(footer.pack()))
        self.footer = footer
