"""The same disk as other writers lay it out: XAPI's export, qemu, Xen Orchestra, Hyper-V, Xen's tapdisk.

Built here byte by byte from the facts about each, not with the project's writer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vhd.bat import padded_bytes
from vhd.block import BLOCK_BYTES, FULL_BITMAP
from vhd.checksum import checksum
from vhd.footer import DiskType, new_footer
from vhd.geometry import Geometry, geometry_of, xo_geometry
from vhd.header import NO_LOCATORS, Header
from vhd.locator import MACX, W2KU, W2RU, Locator, encode_text
from xotest.memory_file import MemoryFile
from xotest.pictures import bitmap_drawn, expand, letters_drawn, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhd.file import ParentLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One writer's habits."""

    name: str
    creator: bytes
    creator_version: int
    creator_os: bytes = bytes(4)
    table_offset: int
    geometry: Callable[[int], Geometry] = geometry_of
    timestamp: int = 848_000_000
    codes: tuple[bytes, ...] = ()
    """Platforms of the parent locators of a child; their texts follow table and batmap."""
    batmap: bool = False
    aligned: bool = False
    """Data on 4 KiB."""
    gap_sectors: int = 0
    """Before every block, and before the trailing footer."""
    order: int = 1
    """1: blocks in the file ascend, -1: descend, 2: odd ones first."""
    whole_blocks: bool = False
    """Bitmaps are always all ones."""


XAPI = Style(
    name="xapi", creator=b"caml", creator_version=1, table_offset=2048, timestamp=0, codes=(MACX,), whole_blocks=True
)
QEMU = Style(
    name="qemu", creator=b"qemu", creator_version=0x00050003, creator_os=b"Wi2k", table_offset=1536, whole_blocks=True
)
XO = Style(
    name="xo",
    creator=b"xo  ",
    creator_version=0,
    creator_os=b"Wi2k",
    table_offset=1536,
    geometry=xo_geometry,
    timestamp=1_795_000_000,
    whole_blocks=True,
)
HYPERV = Style(
    name="hyperv",
    creator=b"win ",
    creator_version=0x000A0000,
    creator_os=b"Wi2k",
    table_offset=3072,
    codes=(W2RU, W2KU),
    gap_sectors=3,
    order=2,
)
XEN = Style(
    name="xen",
    creator=b"tap\0",
    creator_version=0x00010003,
    table_offset=1536,
    codes=(MACX, W2KU, W2RU),
    batmap=True,
    aligned=True,
    order=-1,
)
STYLES = (XAPI, QEMU, XO, HYPERV, XEN)


def lay_out(
    picture: str, style: Style, *, parent: ParentLink | None = None, size_bytes: int | None = None
) -> MemoryFile:
    """A VHD that looks like ``picture``, as ``style``'s writer would leave it."""
    size = len(picture) * BLOCK_BYTES if size_bytes is None else size_bytes
    kind = DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING
    footer = replace(
        new_footer(size_bytes=size, disk_type=kind, uuid=uuid_of(0), timestamp=style.timestamp),
        creator=style.creator,
        creator_version=style.creator_version,
        creator_os=style.creator_os,
        geometry=style.geometry(size),
    ).pack()
    file = MemoryFile(name=f"{style.name}.vhd")
    file.write_at(0, footer)
    at = style.table_offset + padded_bytes(len(picture))
    if style.batmap:
        at = _write_batmap(file, picture, at)
    locators, at = _write_locators(file, style, parent, at)
    table, at = _write_blocks(file, style, picture, at)
    file.write_at(style.table_offset, table.ljust(padded_bytes(len(picture)), b"\xff"))
    header = Header(table_offset=style.table_offset, table_entries=len(picture), locators=locators)
    if parent is not None:
        header = replace(header, parent_uuid=parent.uuid, parent_timestamp=parent.timestamp, parent_name=parent.name)
    file.write_at(512, header.pack())
    file.write_at(at + style.gap_sectors * 512, footer)
    file.calls.clear()
    return file


def _write_locators(
    file: MemoryFile, style: Style, parent: ParentLink | None, at: int
) -> tuple[tuple[Locator, ...], int]:
    if parent is None:
        return NO_LOCATORS, at
    locators = []
    for code in style.codes:
        text = encode_text(code, parent.name)
        if style.name == "xapi":  # announces a text in a sector that it leaves empty
            locators.append(Locator(code=code, data_space=1, data_length=len(text), data_offset=1536))
            continue
        file.write_at(at, text.ljust(512, b"\0"))
        locators.append(Locator(code=code, data_space=512, data_length=len(text), data_offset=at))
        at += 512
    return (*locators, *NO_LOCATORS[len(locators) :]), at


def _write_batmap(file: MemoryFile, picture: str, at: int) -> int:
    bits = "".join("1" if character != "-" and not character.islower() else "0" for character in picture)
    full = int(bits.ljust(4096, "0"), 2).to_bytes(512, "big")
    assert len(picture) <= 4096
    sums = checksum(full)
    file.write_at(at, struct.pack(">8sQIIIB", b"tdbatmap", at + 512, 1, 0x00010002, sums, 0).ljust(512, b"\0") + full)
    return at + 1024


def _write_blocks(file: MemoryFile, style: Style, picture: str, at: int) -> tuple[bytes, int]:
    drawn = [index for index, character in enumerate(picture) if character != "-"]
    order = {1: drawn, -1: drawn[::-1], 2: drawn[1::2] + drawn[::2]}[style.order]
    entries = [0xFFFFFFFF] * len(picture)
    for index in order:
        character = picture[index]
        at += style.gap_sectors * 512
        if style.aligned:
            at = -(-(at + 512) // 4096) * 4096 - 512
        bitmap = None if style.whole_blocks else bitmap_drawn(character)
        entries[index] = at // 512
        file.write_at(at, (FULL_BITMAP if bitmap is None else bitmap) + expand(letters_drawn(character)))
        at += 512 + BLOCK_BYTES
    return struct.pack(f">{len(entries)}I", *entries), at


def picture_in(style: Style, picture: str) -> str:
    """``picture`` as it reads back: the writers of whole blocks have no partial ones (``?``)."""
    return "".join("?" if style.whole_blocks and c.islower() else c for c in picture)
