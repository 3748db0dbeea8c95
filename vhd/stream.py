"""Parse a VHD while it arrives: forward only, one block in memory at a time.

Accepted: every dynamic or differencing VHD whose header and table come before its blocks (XAPI, qemu, Xen Orchestra,
Hyper-V, Xen's files with a batmap, this project's), blocks in any order of their indexes, gaps between them, slack
before the trailing footer. The trailing footer must be there and equal the first one.

XAPI answers 200 before it has attached the disk; when it fails later it writes an HTTP error into the body. Such
text is looked for wherever a stream ends before its time, and becomes the message of the :class:`StreamError`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vhd.bat import Bat, padded_bytes
from vhd.block import Bitmap, Block, bitmap_of, blank_absent, blank_past_end
from vhd.errors import Malformed, StreamError
from vhd.extents import check_extents
from vhd.footer import FOOTER_BYTES, DiskType, Footer, unpack_footer
from vhd.header import HEADER_BYTES, Header, check_sizes, unpack_header
from vhd.layout import ADDRESS_MAX_BYTES, SECTOR_BYTES, STORED_BLOCK_BYTES, blocks_of
from vhd.reader import OLD_FOOTER_BYTES, REVERSED_BITS, has_reversed_bits, structures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vhd.block import BlockBuffer, BufferPool

PIECE_BYTES = 1 << 16
"""Gaps are skipped and the table is read in pieces of this, so memory grows only with what really arrived."""
ERROR_TEXT_MAX_BYTES = 8192
"""How far back from the end an HTTP error is looked for."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d{3} [^\r\n]{0,200}")


class VhdStream:
    """One stream: :meth:`begin`, then :meth:`blocks` to the end."""

    footer: Footer
    header: Header
    bat: Bat

    def __init__(self, read_into: Callable[[memoryview], int], *, name: str) -> None:
        """``read_into`` fills a part of the buffer and says how much; 0 means the stream has ended."""
        self.name = name
        self._read_into = read_into
        self._position = 0
        self._order: list[tuple[int, int]] | None = None
        self._first_footer = b""
        self._piece = memoryview(bytearray(PIECE_BYTES))
        self._recent = b""

    @property
    def position(self) -> int:
        """Bytes received so far."""
        return self._position

    @property
    def virtual_size_bytes(self) -> int:
        return self.footer.current_size_bytes

    def begin(self) -> None:
        """Read footer, header and table."""
        try:
            self._begin()
        except Malformed as error:
            problem = "; ".join(str(finding) for finding in error.findings)
            raise StreamError(self.name, f"not a VHD stream: {problem}") from error

    def block_indexes(self) -> list[int]:
        """Blocks that the stream will give, ascending."""
        count = blocks_of(self.footer.current_size_bytes)
        return [index for index in self.bat.allocated() if index < count]

    def expected_length(self) -> int | None:
        """Bytes of the whole stream if no slack precedes its trailing footer (XAPI, qemu, XO); before begin None."""
        if self._order is None:
            return None
        if not self._order:
            return self.header.table_offset + padded_bytes(self.header.table_entries) + FOOTER_BYTES
        return self._order[-1][0] * SECTOR_BYTES + STORED_BLOCK_BYTES + FOOTER_BYTES

    def blocks(self, pool: BufferPool) -> Iterator[Block]:
        """Every block in file order; the caller gives ``block.buffer`` back to ``pool``.

        When the iterator is exhausted, the trailing footer was there and right and the stream has ended.
        """
        assert self._order is not None, "begin() first"
        count = blocks_of(self.footer.current_size_bytes)
        for sector, index in self._order:
            self._skip_to(sector * SECTOR_BYTES)
            if index >= count:  # past the end of the disk: of no interest, but it is there
                self._skip_to(sector * SECTOR_BYTES + STORED_BLOCK_BYTES)
                continue
            buffer = pool.acquire()
            try:
                block = self._receive(index, buffer)
            except BaseException:
                pool.release(buffer)
                raise
            yield block
        self._end()

    def _receive(self, index: int, buffer: BlockBuffer) -> Block:
        self._fill(buffer.stored, f"block {index}")
        bitmap: Bitmap = bitmap_of(buffer.bitmap)
        if bitmap is not None:
            if _STATUS_LINE.match(bitmap):
                raise self._cut(bitmap, f"block {index}")
            if has_reversed_bits(self.footer):
                bitmap = bitmap_of(bitmap.translate(REVERSED_BITS))
            blank_absent(buffer, bitmap)
        blank_past_end(buffer, index, self.footer.current_size_bytes)
        return Block(index, bitmap, buffer)

    def _begin(self) -> None:
        raw = self._take(FOOTER_BYTES, "the footer")
        if _STATUS_LINE.match(raw):
            raise self._cut(raw, "the footer")
        self.footer, self._first_footer = unpack_footer(raw, self.name), raw
        if self.footer.disk_type == DiskType.FIXED:
            raise StreamError(
                self.name, "a stream begins with the footer of a dynamic disk, found that of a fixed one"
            )
        self._skip_to(self.footer.data_offset)
        self.header = unpack_header(self._take(HEADER_BYTES, "the header"), self.name)
        fatal = check_sizes(self.header, self.footer.current_size_bytes)
        if fatal:
            raise Malformed(self.name, fatal)
        self._skip_to(self.header.table_offset)
        raw = self._take(4 * self.header.table_entries, "the block allocation table")
        if _STATUS_LINE.search(raw):
            raise self._cut(raw, "the block allocation table")
        self.bat = Bat.unpack(raw, self.header.table_entries)
        taken = structures(self.footer, self.header)
        fatal = check_extents(self.bat, taken=taken, end_bytes=ADDRESS_MAX_BYTES + STORED_BLOCK_BYTES)
        if fatal:
            raise Malformed(self.name, fatal)
        allocated = self.bat.allocated()
        self._order = sorted((self.bat[index], index) for index in allocated)
        if allocated and self._order[0][0] * SECTOR_BYTES < self._position:
            raise StreamError(self.name, f"block {self._order[0][1]} lies before the table: cannot be streamed")

    def _end(self) -> None:
        """Read to the end of the stream; the last sector must be the first one again."""
        tail = bytearray()
        while got := self._read_into(self._piece):
            self._position += got
            tail += self._piece[:got]
            del tail[:-ERROR_TEXT_MAX_BYTES]
        if tail.endswith(self._first_footer) or self._ends_in_old_footer(tail):
            return
        if _STATUS_LINE.search(tail) or len(tail) < OLD_FOOTER_BYTES:
            raise self._cut(self._recent + tail, "the trailing footer")
        raise StreamError(self.name, f"the {self._position} bytes do not end with the footer they began with")

    def _ends_in_old_footer(self, tail: bytearray) -> bool:
        old = self._first_footer[:OLD_FOOTER_BYTES]
        return self._position % SECTOR_BYTES == OLD_FOOTER_BYTES and tail.endswith(old)

    def _take(self, length: int, what: str) -> bytes:
        """The next ``length`` bytes, in memory that grows with what arrives."""
        data = bytearray()
        while len(data) < length:
            piece = self._piece[: length - len(data)]
            self._fill(piece, what)
            data += piece
        return bytes(data)

    def _skip_to(self, offset: int) -> None:
        if offset < self._position:
            raise StreamError(self.name, f"goes back from byte {self._position} to {offset}: cannot be streamed")
        while self._position < offset:
            self._fill(self._piece[: offset - self._position], "a gap")

    def _fill(self, view: memoryview, what: str) -> None:
        """Read exactly ``view``."""
        done, length = 0, len(view)
        while done < length:
            got = self._read_into(view[done:] if done else view)
            if not got:
                self._position += done
                raise self._cut(self._recent + bytes(view[max(0, done - ERROR_TEXT_MAX_BYTES) : done]), what)
            done += got
        self._position += length
        self._recent = (self._recent + bytes(view[-ERROR_TEXT_MAX_BYTES:]))[-ERROR_TEXT_MAX_BYTES:]

    def _cut(self, tail: bytes | bytearray, what: str) -> StreamError:
        """The error for a stream that ended inside ``what``; ``tail`` is the last that came."""
        line = _STATUS_LINE.search(bytes(tail))
        if line:
            said = line[0].decode("latin-1").rstrip()
            return StreamError(self.name, f"the server broke off before byte {self._position} and said {said!r}")
        expected = self.expected_length()
        total = "" if expected is None else f" of {expected}"
        return StreamError(self.name, f"ended inside {what} after {self._position}{total} bytes")
