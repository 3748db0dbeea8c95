"""Where things lie in the files this project writes, and how big they get.

    0            footer (written last)
    512          dynamic header
    1536         one sector: the text of a relative ``W2ru`` parent locator, zeros for a disk without a parent
    2048         block allocation table, padded with ones to a sector
    first multiple of 4096 after the table
                 slots of 4096 + 2 MiB: 3584 zeros, the bitmap, the data (so the data starts on 4 KiB)
    end          footer

The locator comes before the table, so that a table growing in place never runs over it.
"""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass

from vhd.bat import padded_bytes
from vhd.block import ALIGN_BYTES, BITMAP_BYTES, BLOCK_BYTES, SLOT_BYTES
from vhd.footer import FOOTER_BYTES
from vhd.header import HEADER_BYTES, NO_LOCATORS, Header
from vhd.locator import W2RU, Locator, encode_text

SECTOR_BYTES = 512
HEADER_OFFSET = FOOTER_BYTES
LOCATOR_OFFSET = HEADER_OFFSET + HEADER_BYTES
TABLE_OFFSET = LOCATOR_OFFSET + SECTOR_BYTES
STORED_BLOCK_BYTES = BITMAP_BYTES + BLOCK_BYTES
"""A block in a file: its bitmap and its data."""
STORED_BLOCK_SECTORS = STORED_BLOCK_BYTES // SECTOR_BYTES
SLOT_HEAD_BYTES = SLOT_BYTES - STORED_BLOCK_BYTES
"""Zeros at the head of a slot, before the bitmap."""
SIZE_MAX_BYTES = 2040 << 30
"""The largest virtual size that every reader of the format takes."""
ADDRESS_MAX_BYTES = 0xFFFFFFFF * SECTOR_BYTES
"""Blocks must start below this: the table counts sectors in 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentLink:
    """What a differencing disk records of its parent."""

    name: str
    """File name of the parent, which lies beside the child."""
    uuid: uuids.UUID
    timestamp: int = 0
    """Modification time of the parent in the 2000 epoch; Xen Orchestra writes 0."""


def blocks_of(size_bytes: int) -> int:
    """Blocks that a disk of ``size_bytes`` consists of."""
    return -(-size_bytes // BLOCK_BYTES)


def align(offset: int) -> int:
    """``offset`` rounded up to where a slot may start."""
    return -(-offset // ALIGN_BYTES) * ALIGN_BYTES


def first_slot_offset(entries: int) -> int:
    """Where the first slot lies in a file of this layout with a table of ``entries``."""
    return align(TABLE_OFFSET + padded_bytes(entries))


def streamed_size_bytes(entries: int, blocks: int) -> int:
    """The size Xen Orchestra reports for such a disk, whatever its layout in storage."""
    return FOOTER_BYTES + HEADER_BYTES + padded_bytes(entries) + FOOTER_BYTES + blocks * STORED_BLOCK_BYTES


def new_header(entries: int, parent: ParentLink | None) -> Header:
    """The header of a file of this layout. ``ValueError`` when the parent's name does not fit its sector."""
    if parent is None:
        return Header(table_offset=TABLE_OFFSET, table_entries=entries)
    text = encode_text(W2RU, parent.name)
    if len(text) > SECTOR_BYTES:
        raise ValueError(f"parent name {parent.name!r} takes {len(text)} bytes as a locator, at most 512 fit")
    locator = Locator(code=W2RU, data_space=SECTOR_BYTES, data_length=len(text), data_offset=LOCATOR_OFFSET)
    return Header(
        table_offset=TABLE_OFFSET,
        table_entries=entries,
        parent_uuid=parent.uuid,
        parent_timestamp=parent.timestamp,
        parent_name=parent.name,
        locators=(locator, *NO_LOCATORS[1:]),
    )


def locator_sector(parent: ParentLink | None) -> bytes:
    """The sector between header and table."""
    text = b"" if parent is None else encode_text(W2RU, parent.name)
    return text.ljust(SECTOR_BYTES, b"\0")
