"""How Xen Orchestra opens a disk: one VHD file, or an alias and the VHD directory behind it.

A failed check raises :class:`Broken`; a VHD directory without an alias raises :class:`NotSupported`, which makes Xen
Orchestra give up on the whole VM. What it does not check (data, overlaps, the parent's uuid) is not checked here.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import re
import struct
import uuid as uuids
from dataclasses import dataclass, field

import brotli

from xotest.xo_rules.trees import Tree

FOOTER = 512
HEADER = 1024
BLOCK = 2 * 1024 * 1024
ALIAS_BYTES_MAX = 1024
DYNAMIC, DIFFERENCING = 3, 4
ALL_ONES = 0xFFFFFFFFFFFFFFFF
UNUSED = 0xFFFFFFFF


class Broken(Exception):
    """Xen Orchestra cannot open this disk."""


class NotSupported(Exception):
    """Xen Orchestra stops working on the whole VM."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A disk as Xen Orchestra sees it after opening."""

    path: str
    data_path: str
    """The VHD directory behind an alias; the file itself otherwise."""
    is_directory: bool
    compression: str | None
    uuid: str
    parent_uuid: str
    timestamp: int
    differencing: bool
    size: int
    entries: int
    parent_name: str
    sectors: dict[int, int] = field(repr=False)
    """Allocated block -> sector of its bitmap in the file (0 in a directory)."""

    @property
    def parent_path(self) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.path), self.parent_name))

    @property
    def stream_size(self) -> int:
        """What Xen Orchestra calls the size of a disk, in both kinds of storage."""
        table = -(-4 * self.entries // 512) * 512
        return 512 + 1024 + table + 512 + len(self.sectors) * (512 + BLOCK)


def is_alias(path: str) -> bool:
    return path.endswith(".alias.vhd")


def resolve_alias(tree: Tree, path: str) -> str:
    """The data path of an alias; any other path unchanged."""
    if not is_alias(path):
        return path
    try:
        text = tree.read(path, 0, ALIAS_BYTES_MAX + 1)
    except IsADirectoryError:
        raise Broken("an alias that is a directory") from None
    if len(text) > ALIAS_BYTES_MAX:
        raise Broken(f"alias longer than {ALIAS_BYTES_MAX} bytes")
    target = text.decode("utf-8", "replace")
    if is_alias(target):
        raise Broken(f"alias to another alias {target!r}")
    if not target.endswith(".vhd"):
        raise Broken(f"alias to {target!r}, which is no .vhd")
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def open_disk(tree: Tree, path: str, *, force: bool = False) -> Opened:
    """Open ``path``; ``force`` (a merge state names it): the footer at the end may differ from the one at 0."""
    data_path = resolve_alias(tree, path)
    match tree.is_directory(data_path):
        case None:
            raise Broken(f"missing: {data_path}")
        case True:
            if not is_alias(path):
                raise NotSupported(f"{path} is a VHD directory without an alias")
            return _open_directory(tree, path, data_path)
        case _:
            return _open_file(tree, path, data_path, force=force)


def _open_file(tree: Tree, path: str, data_path: str, *, force: bool) -> Opened:
    head = tree.read(data_path, 0, FOOTER + HEADER)
    if len(head) < FOOTER + HEADER:
        raise Broken(f"only {len(head)} bytes")
    size, entries, offset, rest = _unpack(head[:FOOTER], head[FOOTER:])
    if not force:
        length = tree.size(data_path)
        if length < 2 * FOOTER or tree.read(data_path, length - FOOTER, FOOTER) != head[:FOOTER]:
            raise Broken("the footer at the end differs from the one at 0")
    table = tree.read(data_path, offset, 4 * entries)
    if len(table) < 4 * entries:
        raise Broken(f"table of {entries} entries cut short")
    sectors = {i: at for i, at in enumerate(struct.unpack(f">{entries}I", table)) if at != UNUSED}
    return Opened(
        path=path, data_path=data_path, is_directory=False, compression=None, size=size, entries=entries,
        sectors=sectors, **rest,
    )  # fmt: skip


def _open_directory(tree: Tree, path: str, data_path: str) -> Opened:
    compression = compression_of(tree, data_path)

    def chunk(name: str) -> bytes:
        try:
            return decompress(tree.read(f"{data_path}/{name}"), compression)
        except FileNotFoundError:
            raise Broken(f"no {name}") from None

    footer, header = chunk("footer"), chunk("header")
    size, entries, _, rest = _unpack(footer, header)
    bits = chunk("bat")
    used = (at for at in re.finditer(rb"[^\0]", bits[: -(-entries // 8)]))  # of terabytes most is zeros
    set_bits = (8 * at.start() + bit for at in used for bit in range(8) if at[0][0] & (0x80 >> bit))
    sectors = {index: 0 for index in set_bits if index < entries}
    return Opened(
        path=path, data_path=data_path, is_directory=True, compression=compression, size=size, entries=entries,
        sectors=sectors, **rest,
    )  # fmt: skip


def compression_of(tree: Tree, data_path: str) -> str | None:
    """``brotli``, ``gzip`` or None, from ``chunk-filters.json``."""
    try:
        filters = json.loads(tree.read(f"{data_path}/chunk-filters.json"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise Broken("chunk-filters.json is no JSON") from None
    if not isinstance(filters, list) or len(filters) > 1:
        raise Broken(f"chunk filters {filters!r}")
    if filters and filters[0] not in ("brotli", "gzip", "none"):
        raise Broken(f"unknown chunk filter {filters[0]!r}")
    return filters[0] if filters and filters[0] != "none" else None


def decompress(data: bytes, compression: str | None) -> bytes:
    try:
        match compression:
            case "brotli":
                return brotli.decompress(data)
            case "gzip":
                return gzip.decompress(data)
            case _:
                return data
    except (brotli.error, OSError, EOFError, ValueError) as error:
        raise Broken(f"cannot be decompressed: {error}") from None


def checksum(raw: bytes, at: int) -> int:
    """One's complement of the sum of all bytes, those of the field at ``at`` as zero."""
    return ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Broken(reason)


def _unpack(footer: bytes, header: bytes) -> tuple[int, int, int, dict[str, object]]:
    """(current size, table entries, table offset, the other fields) after every check Xen Orchestra makes."""
    need(len(footer) == FOOTER and len(header) == HEADER, "footer or header of a wrong length")
    need(footer[:8] == b"conectix", "footer cookie")
    need(struct.unpack_from(">I", footer, 64)[0] == checksum(footer, 64), "footer checksum")
    version, header_at, timestamp = struct.unpack_from(">IQI", footer, 12)
    original, current = struct.unpack_from(">QQ", footer, 40)
    disk_type = struct.unpack_from(">I", footer, 60)[0]
    need(version == 0x00010000, f"footer version {version:#x}")
    need(header_at == FOOTER, f"header at {header_at}, not 512")
    need(original <= current, f"original size {original} above the current {current}")
    need(disk_type in (DYNAMIC, DIFFERENCING), f"disk type {disk_type}")
    need(header[:8] == b"cxsparse", "header cookie")
    need(struct.unpack_from(">I", header, 36)[0] == checksum(header, 36), "header checksum")
    offset, table_at, _, entries, block = struct.unpack_from(">QQIII", header, 8)
    need(offset == ALL_ONES, f"header data offset {offset:#x}")
    need(block >= 512 and block % 512 == 0 and (block // 512).bit_count() == 1, f"block size {block}")
    need(entries * block >= current, f"{entries} table entries cannot hold {current} bytes")
    return current, entries, table_at, {
        "uuid": _uuid(footer[68:84]),
        "parent_uuid": _uuid(header[40:56]),
        "timestamp": timestamp,
        "differencing": disk_type == DIFFERENCING,
        "parent_name": header[64:576].decode("utf-16-be", "replace").split("\0", 1)[0],
    }  # fmt: skip


def _uuid(raw: bytes) -> str:
    """The text form; Xen Orchestra throws on anything but nil and RFC 4122 versions 1 to 5."""
    value = uuids.UUID(bytes=raw)
    if value.int and (value.variant != uuids.RFC_4122 or value.version not in (1, 2, 3, 4, 5)):
        raise Broken(f"uuid {value} is not of RFC 4122")
    return str(value)
