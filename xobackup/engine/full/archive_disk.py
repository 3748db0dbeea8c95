"""One disk of a full backup, read out of its archive in one pass, from the first block to the last.

Every piece is compared with its own checksum, and at the end the whole image with the one beside it: the last block
is only given when both agree. Without checking, reading stops where the disk ends, so that an archive that is cut off
behind it, or damaged elsewhere, still gives it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vhd.block import BLOCK_BYTES, Bitmap, Block, BlockBuffer
from xobackup.engine.errors import IntegrityError
from xobackup.repository.images.reading import ImageReader
from xobackup.xva.archive import PIECE_BYTES, Archive
from xobackup.xva.errors import XvaError

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository
    from xobackup.xva.archive import Piece

PIECES_PER_BLOCK = BLOCK_BYTES // PIECE_BYTES


class ArchiveDisk:
    """Satisfies :class:`vhd.block.Disk` for who asks for blocks in ascending order, from one thread, once."""

    def __init__(self, repository: Repository, point: RestorePoint, disk: PointDisk, *, check: bool = True) -> None:
        self._point = point
        self._disk = disk
        self._check = check
        self._reader = ImageReader(repository.remote, point, check=check)
        self._next: Block | None = None
        self._blocks: Iterator[Block] | None = None
        self.compared = 0
        """Blocks whose pieces were compared with their checksums."""
        self.without_digest = 0

    @property
    def name(self) -> str:
        return f"disk {self._disk.name_label or self._disk.vdi_uuid} of {self._point.id}"

    @property
    def virtual_size_bytes(self) -> int:
        return self._disk.virtual_size

    def block_indexes(self) -> list[int]:
        """All of them: which hold anything is only known when they come."""
        return list(range(-(-self._disk.virtual_size // BLOCK_BYTES)))

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Block ``index``, which is larger than the one before; zeros if the archive has none."""
        if self._blocks is None:
            self._blocks = self._read(None)
            self._next = next(self._blocks, None)
        if self._next is not None and self._next.index == index:
            buffer.data[:] = self._next.buffer.data
            self._next = next(self._blocks, None)
        else:
            buffer.data[:] = bytes(BLOCK_BYTES)
        return None

    def blocks(self, cancel: CancelToken) -> Iterator[Block]:
        """The blocks that hold anything. A block's buffer is the consumer's until it asks for the next one."""
        return self._read(cancel)

    def close(self) -> None:
        self._reader.close()

    def _read(self, cancel: CancelToken | None) -> Iterator[Block]:
        """Blocks, the last one only when everything is confirmed."""
        buffers = [BlockBuffer(), BlockBuffer()]
        held: Block | None = None
        checked = True
        try:
            for piece in self._pieces():
                if cancel is not None:
                    cancel.check()
                index = piece.index // PIECES_PER_BLOCK
                if held is None or held.index != index:
                    if held is not None:
                        self._count(checked)
                        yield held
                    buffers.reverse()
                    held, checked = Block(index, None, buffers[0]), True
                    held.buffer.data[:] = bytes(BLOCK_BYTES)
                at = piece.index % PIECES_PER_BLOCK * PIECE_BYTES
                held.buffer.data[at : at + len(piece.data)] = piece.data
                checked = checked and piece.checked
        except XvaError as error:
            message = f"the image of {self._point.id} is damaged: {error}"
            hint = "run verify; --no-check gives a disk that lies before the damage"
            raise IntegrityError(message, hint=hint) from error
        self._confirm()
        if held is not None:
            self._count(checked)
            yield held

    def _pieces(self) -> Iterator[Piece]:
        archive = Archive(self._reader.readinto, compare=self._check)
        last = max(self._disk.virtual_size - 1, 0) // PIECE_BYTES
        for piece in archive.pieces():
            if piece.disk.id != self._disk.vdi_ref:
                continue
            yield piece
            if piece.index == last and not self._check:
                return

    def _confirm(self) -> None:
        if self._reader.agrees is False:
            message = f"the image of {self._point.id} is not what was written: its checksum differs"
            raise IntegrityError(message, hint="run verify; restore another point, or this one without checking")

    def _count(self, checked: bool) -> None:
        if checked:
            self.compared += 1
        else:
            self.without_digest += 1
