"""A VHD file opened for reading.

Opening reads the footers, the header and the block allocation table and judges them; nothing else. Whatever the
bytes are, only :class:`vhd.errors.VhdError` is raised for them (errors of the storage pass through), and no
memory is set aside for a table that is not in the file. Reading trusts nothing: a short read is an error, sectors
absent from a bitmap and bytes past the end of the disk come back as zeros.

The footer's copy at 0 and the one at the end must be equal. While a merge is under way they may differ; then
(``trailing_footer=False``) the copy at 0 decides, and the one at the end only if the copy at 0 is torn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from vhd.bat import Bat, padded_bytes
from vhd.batmap import read_batmap
from vhd.block import BITMAP_BYTES, BLOCK_BYTES, EMPTY_BITMAP, Bitmap, bitmap_of, blank, blank_absent, blank_past_end
from vhd.errors import Malformed, Unsupported
from vhd.extents import Region, check_extents
from vhd.findings import Finding, errors_of
from vhd.footer import FOOTER_BYTES, DiskType, Footer, check_footer, unpack_footer
from vhd.header import HEADER_BYTES, Header, check_sizes, unpack_header
from vhd.layout import SECTOR_BYTES, SIZE_MAX_BYTES, STORED_BLOCK_BYTES, blocks_of
from vhd.locator import MACX, W2KU, W2RU, Locator, decode_text
from vhd.storage import HintedFile, read_exactly

if TYPE_CHECKING:
    from vhd.block import BlockBuffer
    from vhd.storage import ReadableFile

OLD_FOOTER_BYTES = 511
"""Footers of Virtual PC before 2004 lack the last byte."""
LOCATOR_TEXT_MAX_BYTES = 4096
"""Longer texts of parent locators are not read: no file system has such names."""
LOCATED_CODES = (W2RU, MACX, W2KU)
"""The platforms whose texts are read, the relative one first."""
TABLE_MAX_BYTES = padded_bytes(blocks_of(SIZE_MAX_BYTES))
FIXED_MAX_BYTES = 1 << 41
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Xen's format version 0.1 counted the bits of a bitmap's byte from the least significant."""


class VhdFile:
    """One disk in one file, without its parents; satisfies :class:`vhd.block.Disk`."""

    def __init__(
        self, file: ReadableFile, footer: Footer, header: Header | None, bat: Bat, *, follow: bool = False
    ) -> None:
        """``follow``: the file's table may move blocks behind our back (see :meth:`place_now`)."""
        self.file = file
        self.footer = footer
        self.header = header
        """``None`` for a fixed disk."""
        self.bat = bat
        """For a fixed disk made up: every block is there."""
        self._follow = follow
        self._bits_reversed = has_reversed_bits(footer)

    @classmethod
    def open(cls, file: ReadableFile, *, trailing_footer: bool = True) -> Self:
        """Open ``file``. Raises :class:`Malformed` or :class:`Unsupported`; see the module's head."""
        footer, end = read_footer(file, trailing_footer=trailing_footer)
        if footer.disk_type == DiskType.FIXED:
            return cls(file, footer, None, _fixed_table(file.name, footer, end))
        header = read_header(file, footer)
        bat = read_table(file, header)
        fatal = check_extents(bat, taken=structures(footer, header), end_bytes=end)
        if fatal:
            raise Malformed(file.name, fatal)
        return cls(file, footer, header, bat, follow=True)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def virtual_size_bytes(self) -> int:
        return self.footer.current_size_bytes

    @property
    def block_count(self) -> int:
        """Blocks of the disk, allocated or not."""
        return blocks_of(self.footer.current_size_bytes)

    def has(self, index: int) -> bool:
        """Whether block ``index`` of the disk is allocated in this file."""
        return index < self.block_count and self.bat.has(index)

    def block_indexes(self) -> list[int]:
        """Allocated blocks, ascending; those past the end of the disk do not count."""
        allocated = self.bat.allocated()
        while allocated and allocated[-1] >= self.block_count:
            allocated.pop()
        return allocated

    def block_span(self, index: int) -> tuple[int, int]:
        """Offsets of the bitmap and of the data of an allocated block; equal in a fixed disk (no bitmap).

        A fixed disk's last block ends with the disk.
        """
        offset = self.bat[index] * SECTOR_BYTES
        return offset, offset if self.header is None else offset + BITMAP_BYTES

    def will_read(self, index: int) -> bool:
        """Hint that block ``index``, which is allocated, is read soon; whether the storage could be told."""
        if not isinstance(self.file, HintedFile):
            return False
        start, data = self.block_span(index)
        self.file.will_read(start, data - start + BLOCK_BYTES)
        return True

    def bitmap(self, index: int) -> Bitmap:
        """Which sectors of block ``index`` are in this file; reads the bitmap only."""
        if not self.has(index):
            return EMPTY_BITMAP
        if self.header is None:
            return None
        offset = self.block_span(index)[0]
        raw = read_exactly(self.file, offset, BITMAP_BYTES)
        if (moved := self.place_now(index)) != offset:
            raw = read_exactly(self.file, moved, BITMAP_BYTES)
        self._expect(index, len(raw), BITMAP_BYTES)
        return bitmap_of(self.ordered(raw))

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Fill ``buffer.data``; one read of bitmap and data. Blocks that are not allocated give zeros."""
        if not self.has(index):
            blank(buffer.data)
            return EMPTY_BITMAP
        if self.header is None:
            return self._read_fixed(index, buffer)
        offset = self.block_span(index)[0]
        done = self.file.read_into(offset, buffer.stored)
        if (moved := self.place_now(index)) != offset:
            done = self.file.read_into(moved, buffer.stored)
        self._expect(index, done, STORED_BLOCK_BYTES)
        bitmap = bitmap_of(self.ordered(buffer.bitmap))
        blank_absent(buffer, bitmap)
        blank_past_end(buffer, index, self.virtual_size_bytes)
        return bitmap

    def parent_name(self) -> str | None:
        """The parent's name as the header gives it; ``None`` for a disk without a parent."""
        if self.header is None or not self.footer.differencing:
            return None
        return self.header.parent_name.replace("\\", "/")

    def parent_candidates(self) -> list[str]:
        """Every path under which the parent may be found, most trustworthy first: name, relative, absolute."""
        name = self.parent_name()
        if name is None or self.header is None:
            return []
        paths = [name] if name else []
        for code in LOCATED_CODES:
            for locator in self.header.locators:
                if locator.code == code and text_inside(locator, self.file.size()):
                    raw = read_exactly(self.file, locator.data_offset, locator.data_length)
                    paths.append(decode_text(code, raw) or "")
        paths = [path.removeprefix("./") for path in paths]
        return [path for at, path in enumerate(paths) if path and path not in paths[:at]]

    def has_batmap(self) -> bool:
        """Whether Xen's batmap is there (see :mod:`vhd.batmap`); only a writer must care."""
        return self.header is not None and read_batmap(self.file, self.footer, self.header) is not None

    def close(self) -> None:
        self.file.close()

    def _read_fixed(self, index: int, buffer: BlockBuffer) -> Bitmap:
        offset = index * BLOCK_BYTES
        length = min(BLOCK_BYTES, self.virtual_size_bytes - offset)
        self._expect(index, self.file.read_into(offset, buffer.data[:length]), length)
        blank_past_end(buffer, index, self.virtual_size_bytes)
        return None

    def ordered(self, raw: bytes | memoryview) -> bytes | memoryview:
        """A bitmap as stored, with its bits in this package's order."""
        return bytes(raw).translate(REVERSED_BITS) if self._bits_reversed else raw

    def place_now(self, index: int) -> int:
        """Where the bitmap of an allocated block lies by the table in the file, not the one in memory.

        A merge in another process may copy the first blocks of a file to its end and let the growing table
        run over the room they had. It moves their entries in between, so: read, then ask, and if the place is
        another read again. Costs one small read, and only for blocks that lie where a table could ever grow.
        """
        offset = self.bat[index] * SECTOR_BYTES
        if self.header is None or not self._follow or offset >= self.header.table_offset + TABLE_MAX_BYTES:
            return offset
        raw = read_exactly(self.file, self.header.table_offset + 4 * index, 4)
        return int.from_bytes(raw, "big") * SECTOR_BYTES

    def _expect(self, index: int, found: int, expected: int) -> None:
        if found != expected:
            message = f"block {index} is cut off: expected {expected} bytes, found {found}"
            raise Malformed(self.name, [Finding(code="block-short", message=message)])


def has_reversed_bits(footer: Footer) -> bool:
    """Whether bitmaps count their bits from the other end (Xen's format version 0.1)."""
    return footer.creator == b"tap\0" and footer.creator_version == 0x00000001


def structures(footer: Footer, header: Header) -> list[Region]:
    """What no block may lie on: the footer's copy, the header and the table."""
    table = Region(
        what="block allocation table",
        start=header.table_offset,
        end=header.table_offset + padded_bytes(header.table_entries),
    )
    return [
        Region(what="footer's copy", start=0, end=FOOTER_BYTES),
        Region(what="header", start=footer.data_offset, end=footer.data_offset + HEADER_BYTES),
        table,
    ]


def text_inside(locator: Locator, size_bytes: int) -> bool:
    """Whether a locator's text, of a sane length, lies inside a file of ``size_bytes``."""
    if not 0 < locator.data_length <= LOCATOR_TEXT_MAX_BYTES:
        return False
    return 0 < locator.data_offset <= size_bytes - locator.data_length


def trailing_footer_bytes(file: ReadableFile, size_bytes: int) -> tuple[bytes, int]:
    """The last sector and where it starts; an old footer of 511 bytes is completed by its zero."""
    length = OLD_FOOTER_BYTES if size_bytes % SECTOR_BYTES == OLD_FOOTER_BYTES else FOOTER_BYTES
    start = max(size_bytes - length, 0)
    raw = read_exactly(file, start, length)
    return (raw + b"\0" if length == OLD_FOOTER_BYTES else raw), start


def read_footer(file: ReadableFile, *, trailing_footer: bool) -> tuple[Footer, int]:
    """The footer that counts, and the offset before which blocks must end."""
    size_bytes = file.size()
    first = read_exactly(file, 0, FOOTER_BYTES)
    last, start = trailing_footer_bytes(file, size_bytes)
    if not trailing_footer:
        if not errors_of(check_footer(first)):
            return unpack_footer(first, file.name), size_bytes
        return unpack_footer(last, file.name), start
    footer = unpack_footer(last, file.name)
    if footer.disk_type == DiskType.FIXED and not is_sparse(first):
        return footer, start
    if last != first:
        fatal = errors_of(check_footer(first))
        message = "the copy at 0 and the one at the end differ"
        raise Malformed(file.name, fatal or [Finding(code="footer-copies", message=message)])
    return footer, start


def is_sparse(first: bytes) -> bool:
    """Whether a file begins like a dynamic or differencing disk, whatever it ends with.

    A guest may keep footers of fixed disks in its sectors: a file cut off after one must not pass for a fixed disk.
    The price: a fixed disk whose own first sector is such a footer is refused (qemu-img misreads it as well).
    """
    return not errors_of(check_footer(first)) and unpack_footer(first, "").disk_type != DiskType.FIXED


def read_header(file: ReadableFile, footer: Footer) -> Header:
    """The header, judged with the footer and the length of the file."""
    raw = read_exactly(file, footer.data_offset, HEADER_BYTES)
    header = unpack_header(raw, file.name)
    fatal = check_sizes(header, footer.current_size_bytes) or check_table_place(footer, header, file.size())
    if fatal:
        raise Malformed(file.name, fatal)
    return header


def check_table_place(footer: Footer, header: Header, size_bytes: int) -> list[Finding]:
    """The table lies inside the file, apart from the footer's copy and the header."""
    start, end = header.table_offset, header.table_offset + 4 * header.table_entries
    if end > size_bytes:
        message = f"a table of {header.table_entries} entries at {start} ends past the file's {size_bytes} bytes"
        return [Finding(code="table-past-end", message=message)]
    for region in structures(footer, header)[:2]:
        if region.meets(start, end):
            message = f"the table at {start} overlaps the {region.what}"
            return [Finding(code="table-clobbers-headers", message=message)]
    return []


def read_table(file: ReadableFile, header: Header) -> Bat:
    """The table; its place was checked before, so that this much is in the file."""
    raw = read_exactly(file, header.table_offset, 4 * header.table_entries)
    if len(raw) != 4 * header.table_entries:
        message = f"expected {4 * header.table_entries} bytes, found {len(raw)}"
        raise Malformed(file.name, [Finding(code="table-short", message=message)])
    return Bat.unpack(raw, header.table_entries)


def _fixed_table(name: str, footer: Footer, end: int) -> Bat:
    size_bytes = footer.current_size_bytes
    if size_bytes > end:
        message = f"a fixed disk of {size_bytes} bytes has room for {end} only"
        raise Malformed(name, [Finding(code="fixed-short", message=message)])
    if size_bytes > FIXED_MAX_BYTES:
        raise Unsupported(name, f"a fixed disk of more than {FIXED_MAX_BYTES} bytes")
    return Bat.strided(blocks_of(size_bytes), BLOCK_BYTES // SECTOR_BYTES)
