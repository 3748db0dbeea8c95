"""A raw image: the disk's bytes and nothing else.

:class:`RawDisk` reads one as a disk; blocks of zeros count too, since telling them apart means reading.
:func:`write_raw` writes any disk as one: blocks the disk does not have stay holes, and so do blocks of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, EMPTY_BITMAP, Bitmap, BlockBuffer, blank
from vhd.errors import Malformed, VhdError
from vhd.findings import Finding
from vhd.layout import blocks_of

if TYPE_CHECKING:
    from vhd.block import Disk
    from vhd.storage import ReadableFile, WritableFile

SECTOR_BYTES = 512
_ZEROS = bytes(BLOCK_BYTES)


class RawDisk:
    """A raw file as a :class:`vhd.block.Disk`. A size that is no multiple of a sector is rounded up with zeros."""

    def __init__(self, file: ReadableFile) -> None:
        self.file = file
        self._stored_bytes = file.size()

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def virtual_size_bytes(self) -> int:
        return -(-self._stored_bytes // SECTOR_BYTES) * SECTOR_BYTES

    def block_indexes(self) -> list[int]:
        return list(range(blocks_of(self._stored_bytes)))

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Fill ``buffer.data``. Raises :class:`Malformed` if the file became shorter meanwhile."""
        offset = index * BLOCK_BYTES
        length = max(0, min(BLOCK_BYTES, self._stored_bytes - offset))
        if length == 0:
            blank(buffer.data)
            return EMPTY_BITMAP
        done = self.file.read_into(offset, buffer.data[:length])
        if done != length:
            message = f"expected {length} bytes at {offset}, found {done}"
            raise Malformed(self.name, [Finding(code="raw-short", message=message)])
        blank(buffer.data[length:])
        return None

    def close(self) -> None:
        self.file.close()


def write_raw(disk: Disk, file: WritableFile, *, progress: Callable[[int], None] | None = None) -> int:
    """Write ``disk`` to the new, empty ``file`` and sync it; returns the bytes of data written.

    ``progress`` gets the number of bytes of every block that was dealt with.
    """
    if file.size() != 0:
        raise VhdError(f"{file.name}: expected an empty file, found {file.size()} bytes")
    size = disk.virtual_size_bytes
    file.truncate(size)
    buffer, written = BlockBuffer(), 0
    for index in disk.block_indexes():
        length = min(BLOCK_BYTES, size - index * BLOCK_BYTES)
        if length <= 0:
            break
        disk.read_block(index, buffer)
        if bytes(buffer.data) != _ZEROS:
            file.write_at(index * BLOCK_BYTES, buffer.data[:length])
            file.written(index * BLOCK_BYTES, length)
            written += length
        if progress is not None:
            progress(length)
    file.sync()
    return written
