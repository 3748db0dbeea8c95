"""Disks as pictures: one character per block of 2 MiB.

    ``-``       absent
    ``0``       allocated, all zeros
    ``A``-``Z`` allocated, every sector full of that letter
    ``a``-``z`` partial: only some sectors (which ones depends on the letter) are present, full of its capital

A chain is a list of pictures, root first: ``["AB--", "-b0-"]``. A longer picture further down is a disk that grew.
:func:`flatten` says what the chain must read as, :func:`flat_of` what a disk does read as, sector by sector.
"""

from __future__ import annotations

import uuid as uuids
from functools import cache
from typing import TYPE_CHECKING

from vhd.block import (
    BITMAP_BYTES,
    BLOCK_BYTES,
    EMPTY_BITMAP,
    SECTOR_BYTES,
    SECTORS_PER_BLOCK,
    Bitmap,
    Block,
    BlockBuffer,
    runs,
)
from vhd.file import ParentLink, VhdFile, VhdFileWriter
from vhd.footer import DiskType, new_footer
from xotest.memory_file import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhd.block import Disk
    from vhd.storage import WritableFile

ALPHABET = "-0ABCabc"
"""Enough for generated pictures."""
_SECTORS = [bytes([value]) * SECTOR_BYTES for value in range(256)]


def fill_of(character: str) -> int:
    """The byte that fills the present sectors of a block drawn as ``character``."""
    return 0 if character in "-0" else ord(character.upper())


@cache
def bitmap_drawn(character: str) -> Bitmap:
    """The bitmap of a block drawn as ``character``; neither runs nor gaps of partial ones fill whole bytes."""
    if character == "-":
        return EMPTY_BITMAP
    if not character.islower():
        return None
    code = ord(character) - ord("a")
    length = 3 + code % 5
    bits = "".join("1" if (sector // length + code) % 2 == 0 else "0" for sector in range(SECTORS_PER_BLOCK))
    return int(bits, 2).to_bytes(BITMAP_BYTES, "big")


@cache
def letters_drawn(character: str) -> bytes:
    """One byte per sector: its fill where present, 0 elsewhere."""
    letters = bytearray(SECTORS_PER_BLOCK)
    for first, count in runs(bitmap_drawn(character)):
        letters[first : first + count] = bytes([fill_of(character)]) * count
    return bytes(letters)


def expand(letters: bytes) -> bytes:
    """The data of a block given its sectors' fills."""
    return b"".join(map(_SECTORS.__getitem__, letters))


def draw(character: str, buffer: BlockBuffer) -> Bitmap:
    """Fill ``buffer.data`` as ``character`` says; returns the bitmap."""
    buffer.data[:] = expand(letters_drawn(character))
    return bitmap_drawn(character)


def uuid_of(number: int) -> uuids.UUID:
    """A fixed RFC-4122 uuid for the ``number``-th disk of a chain."""
    return uuids.UUID(int=(0x5EED << 112) | (4 << 76) | (8 << 60) | number, version=4)


def write_picture(
    picture: str,
    *,
    file: WritableFile | None = None,
    name: str = "disk.vhd",
    uuid: uuids.UUID | None = None,
    parent: ParentLink | None = None,
    size_bytes: int | None = None,
    backwards: bool = False,
    entries: int | None = None,
) -> MemoryFile:
    """A VHD file (in memory unless ``file`` is given, which is returned) that looks like ``picture``."""
    target = MemoryFile(name=name) if file is None else file
    kind = DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING
    footer = new_footer(
        size_bytes=len(picture) * BLOCK_BYTES if size_bytes is None else size_bytes,
        disk_type=kind,
        uuid=uuid_of(0) if uuid is None else uuid,
        timestamp=0,
    )
    writer = VhdFileWriter.create(target, footer=footer, parent=parent, entries=entries)
    buffer = BlockBuffer()
    drawn = [(index, character) for index, character in enumerate(picture) if character != "-"]
    for index, character in reversed(drawn) if backwards else drawn:
        writer.write_block(Block(index, draw(character, buffer), buffer))
    writer.finish()
    return target  # type: ignore[return-value]


def write_chain(pictures: Sequence[str]) -> list[MemoryFile]:
    """Files ``0.vhd`` (the root), ``1.vhd`` ..., each the parent of the next, with uuids ``uuid_of(number)``."""
    files: list[MemoryFile] = []
    for number, picture in enumerate(pictures):
        parent = ParentLink(name=f"{number - 1}.vhd", uuid=uuid_of(number - 1)) if number else None
        files.append(write_picture(picture, name=f"{number}.vhd", uuid=uuid_of(number), parent=parent))
    return files


def picture_of(disk: Disk) -> str:
    """What ``disk``'s own blocks look like; ``?`` for a block that no character stands for."""
    buffer = BlockBuffer()
    present = set(disk.block_indexes())
    characters = []
    for index in range(-(-disk.virtual_size_bytes // BLOCK_BYTES)):
        bitmap = disk.read_block(index, buffer) if index in present else EMPTY_BITMAP
        characters.append(_character(bitmap, buffer) if index in present else "-")
    return "".join(characters)


def _character(bitmap: Bitmap, buffer: BlockBuffer) -> str:
    first = runs(bitmap)[0][0] if runs(bitmap) else 0
    letter = chr(buffer.data[first * SECTOR_BYTES])
    for character in ("0" if letter == "\0" else letter, letter.lower()):
        if (character == "0" or character.isalpha()) and bitmap_drawn(character) == bitmap:
            return character if bytes(buffer.data) == expand(letters_drawn(character)) else "?"
    return "?"


def flatten(pictures: Sequence[str]) -> list[bytes]:
    """What the chain reads as: per block of its last disk, the fill of every sector."""
    blocks = [bytearray(SECTORS_PER_BLOCK) for _ in pictures[-1]]
    for picture in pictures:
        for block, character in zip(blocks, picture, strict=False):
            for first, count in runs(bitmap_drawn(character)):
                block[first : first + count] = letters_drawn(character)[first : first + count]
    return [bytes(block) for block in blocks]


def flat_of(disk: Disk) -> list[bytes]:
    """What ``disk`` reads as, in the form of :func:`flatten`; sectors that are not uniform fail."""
    buffer = BlockBuffer()
    present = set(disk.block_indexes())
    blocks = []
    for index in range(-(-disk.virtual_size_bytes // BLOCK_BYTES)):
        if index in present:
            disk.read_block(index, buffer)
        data = bytes(buffer.data) if index in present else bytes(BLOCK_BYTES)
        letters = data[::SECTOR_BYTES]
        assert expand(letters) == data, f"block {index} has sectors that are not uniform"
        blocks.append(letters)
    return blocks


def raw_of(pictures: Sequence[str]) -> bytes:
    """The whole disk that the chain reads as; for a few blocks."""
    return b"".join(map(expand, flatten(pictures)))


def open_picture(picture: str) -> VhdFile:
    """A disk that looks like ``picture``, opened."""
    return VhdFile.open(write_picture(picture))


__all__ = [
    "ALPHABET",
    "bitmap_drawn",
    "draw",
    "expand",
    "fill_of",
    "flat_of",
    "flatten",
    "letters_drawn",
    "open_picture",
    "picture_of",
    "raw_of",
    "uuid_of",
    "write_chain",
    "write_picture",
]
