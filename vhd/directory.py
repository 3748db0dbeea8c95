"""A disk as a *VHD directory*: Xen Orchestra's layout of one object per block.

    chunk-filters.json   ["brotli"], ["gzip"], ["zstd"] (ours); [] or absent: nothing is compressed
    header, footer       the 1024 and 512 bytes of a VHD, compressed
    bat                  the bit table of vhd.bitbat, compressed
    blocks/<i // 1000>/<i % 1000>   512 bytes of bitmap and 2 MiB of data, compressed
    partial              (ours, only if needed) like bat: blocks whose bitmap may not be all ones

Whatever the objects hold, only :class:`vhd.errors.VhdError` is raised for it, and no object decompresses to more
than its place allows. Errors of the storage pass through.

While a directory is merged into its parent its block objects move there one by one. ``moved_to`` answers where a
missing one may have gone: readers then read it from the parent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from vhd.bitbat import BitBat
from vhd.block import EMPTY_BITMAP, Bitmap, bitmap_of, blank, blank_absent, blank_past_end
from vhd.codec import PLAIN, Codec
from vhd.errors import Malformed, Unsupported
from vhd.findings import Finding
from vhd.footer import FOOTER_BYTES, DiskType, unpack_footer
from vhd.header import ENTRIES_MAX, HEADER_BYTES, check_sizes, unpack_header
from vhd.layout import STORED_BLOCK_BYTES, blocks_of, streamed_size_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vhd.block import BlockBuffer
    from vhd.footer import Footer
    from vhd.header import Header
    from vhd.storage import ObjectStore

FILTERS, HEADER, FOOTER, TABLE, PARTIAL = "chunk-filters.json", "header", "footer", "bat", "partial"
BLOCKS_PER_DIRECTORY = 1000
FILTERS_MAX_BYTES = 1024
Missing = tuple[type[Exception], ...]
"""What the storage raises when there is nothing of a name."""


def block_name(path: str, index: int) -> str:
    """The object of block ``index`` of the VHD directory at ``path``."""
    return f"{path}/blocks/{index // BLOCKS_PER_DIRECTORY}/{index % BLOCKS_PER_DIRECTORY}"


class VhdDirectory:
    """One VHD directory, without its parents; satisfies :class:`vhd.block.Disk` and the face of ``VhdFile``."""

    def __init__(self, store: ObjectStore, path: str, codec: Codec, footer: Footer, header: Header) -> None:
        self.store = store
        self.path = path
        self.codec = codec
        self.footer = footer
        self.header = header
        self.bat = BitBat(header.table_entries)
        self.partial = BitBat(header.table_entries)
        """Blocks whose bitmap has to be looked at. Without the object ``partial``: none, as Xen Orchestra writes."""
        self.missing: Missing = ()
        self.moved_to: Callable[[VhdDirectory, int], bytes | None] | None = None

    @classmethod
    def open(cls, store: ObjectStore, path: str, codecs: Mapping[str, Codec], *, missing: Missing = ()) -> Self:
        """Open the directory ``path`` of ``store``. Raises :class:`Malformed` or :class:`Unsupported`.

        ``missing``: the storage's not-found errors, by which a moved block is recognised.
        """
        codec = read_filters(store, path, codecs, missing=missing)
        footer = unpack_footer(_chunk(store, path, FOOTER, codec, FOOTER_BYTES), path)
        if footer.disk_type == DiskType.FIXED:
            raise Unsupported(path, "a fixed disk as a VHD directory")
        header = unpack_header(_chunk(store, path, HEADER, codec, HEADER_BYTES), path)
        if fatal := check_sizes(header, footer.current_size_bytes):
            raise Malformed(path, fatal)
        disk = cls(store, path, codec, footer, header)
        disk.missing = missing
        disk.bat = _bits(store, path, TABLE, codec, header.table_entries)
        if (raw := _optional(store, f"{path}/{PARTIAL}", missing)) is not None:
            disk.partial = _unpacked_bits(path, PARTIAL, raw, codec, header.table_entries)
        return disk

    @property
    def name(self) -> str:
        return self.path

    @property
    def virtual_size_bytes(self) -> int:
        return self.footer.current_size_bytes

    @property
    def block_count(self) -> int:
        """Blocks of the disk, allocated or not."""
        return blocks_of(self.footer.current_size_bytes)

    @property
    def streamed_size_bytes(self) -> int:
        """The size Xen Orchestra reports."""
        return streamed_size_bytes(self.header.table_entries, len(self.bat.allocated()))

    def has(self, index: int) -> bool:
        return index < self.block_count and self.bat.has(index)

    def block_indexes(self) -> list[int]:
        """Allocated blocks, ascending; those past the end of the disk do not count."""
        allocated = self.bat.allocated()
        while allocated and allocated[-1] >= self.block_count:
            allocated.pop()
        return allocated

    def block_object(self, index: int) -> bytes | None:
        """Bitmap and data of block ``index`` as stored, decompressed; ``None`` when there is no such object."""
        name = block_name(self.path, index)
        raw = self._stored_object(name)
        if raw is None:
            return None
        found = _decompress(name, raw, self.codec, STORED_BLOCK_BYTES)
        self._check_whole(index, len(found))
        return found

    def bitmap(self, index: int) -> Bitmap:
        """Which sectors of block ``index`` are in this directory; reads the object only if it may be partial."""
        if not self.has(index):
            return EMPTY_BITMAP
        if not self.partial.has(index):
            return None
        return bitmap_of(self._find(index)[: len(EMPTY_BITMAP)])

    def read_block(self, index: int, buffer: BlockBuffer) -> Bitmap:
        """Fill ``buffer.data``; one ``get``. Blocks that are not allocated give zeros."""
        if not self.has(index):
            blank(buffer.data)
            return EMPTY_BITMAP
        self._find_into(index, buffer.stored)
        bitmap = bitmap_of(buffer.bitmap)
        blank_absent(buffer, bitmap)
        blank_past_end(buffer, index, self.virtual_size_bytes)
        return bitmap

    def parent_name(self) -> str | None:
        """The parent's name as the header gives it; ``None`` for a disk without a parent."""
        return self.header.parent_name.replace("\\", "/") if self.footer.differencing else None

    def parent_candidates(self) -> list[str]:
        """Names under which the parent may be found; a directory has only the header's."""
        name = (self.parent_name() or "").removeprefix("./")
        return [name] if name else []

    def close(self) -> None:
        """Nothing is held open."""

    def _stored_object(self, name: str) -> bytes | None:
        try:
            return self.store.get(name)
        except self.missing:
            return None

    def _check_whole(self, index: int, found_bytes: int) -> None:
        if found_bytes != STORED_BLOCK_BYTES:
            message = f"block {index}: expected {STORED_BLOCK_BYTES} bytes, found {found_bytes}"
            raise Malformed(self.path, [Finding(code="block-short", message=message)])

    def _find_into(self, index: int, place: memoryview) -> None:
        """Bitmap and data of block ``index``, wherever they are, straight into ``place``."""
        name = block_name(self.path, index)
        raw = self._stored_object(name)
        if raw is None:
            place[:] = self._found_elsewhere(index)
            return
        try:
            count = self.codec.decompress_into(raw, place)
        except ValueError as error:
            raise _undecodable(name, self.codec, error) from error
        self._check_whole(index, count)

    def _find(self, index: int) -> bytes:
        found = self.block_object(index)
        return self._found_elsewhere(index) if found is None else found

    def _found_elsewhere(self, index: int) -> bytes:
        found = self.moved_to(self, index) if self.moved_to is not None else None
        if found is None:
            message = f"block {index} is in the table, but its object is missing"
            raise Malformed(self.path, [Finding(code="block-missing", message=message)])
        return found


def read_filters(store: ObjectStore, path: str, codecs: Mapping[str, Codec], *, missing: Missing = ()) -> Codec:
    """The codec of the directory at ``path``. Raises :class:`Unsupported` when it is not in ``codecs``."""
    name = f"{path}/{FILTERS}"
    raw = _optional(store, name, missing)
    if raw is None:
        return PLAIN
    try:
        filters = json.loads(raw) if len(raw) <= FILTERS_MAX_BYTES else None
    except (ValueError, RecursionError):
        filters = None
    if not isinstance(filters, list) or len(filters) > 1 or not all(isinstance(text, str) for text in filters):
        message = f"expected a list of at most one name, found {raw[:64]!r}"
        raise Malformed(name, [Finding(code="chunk-filters", message=message)])
    if not filters:
        return PLAIN
    if filters[0] not in codecs:
        raise Unsupported(path, f"compression {filters[0][:32]!r}")
    return codecs[filters[0]]


def _chunk(store: ObjectStore, path: str, part: str, codec: Codec, limit_bytes: int) -> bytes:
    name = f"{path}/{part}"
    return _decompress(name, store.get(name), codec, limit_bytes)


def _optional(store: ObjectStore, name: str, missing: Missing) -> bytes | None:
    """An object that need not be there. One request where the storage's not-found errors are known."""
    if not missing:
        return store.get(name) if store.exists(name) else None
    try:
        return store.get(name)
    except missing:
        return None


def _bits(store: ObjectStore, path: str, part: str, codec: Codec, entries: int) -> BitBat:
    return _unpacked_bits(path, part, store.get(f"{path}/{part}"), codec, entries)


def _unpacked_bits(path: str, part: str, raw: bytes, codec: Codec, entries: int) -> BitBat:
    # a growing table is written before the header that needs it, so it may be longer than the header says
    bits = _decompress(f"{path}/{part}", raw, codec, ENTRIES_MAX)
    try:
        return BitBat.unpack(bits, entries)
    except ValueError as error:
        raise Malformed(f"{path}/{part}", [Finding(code="table-short", message=str(error))]) from error


def _decompress(name: str, raw: bytes, codec: Codec, limit_bytes: int) -> bytes:
    try:
        found = codec.decompress(raw, limit_bytes)
    except ValueError as error:
        raise _undecodable(name, codec, error) from error
    if len(found) > limit_bytes:
        message = f"expected at most {limit_bytes} bytes, found {len(found)}"
        raise Malformed(name, [Finding(code="object-codec", message=message)])
    return found


def _undecodable(name: str, codec: Codec, error: ValueError) -> Malformed:
    message = f"not readable as {codec.name or 'plain'} data: {error}"
    return Malformed(name, [Finding(code="object-codec", message=message)])
