"""Test disks, made quickly: a few random blocks over and over, each with its own first bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from vhd.file import ParentLink, VhdFileWriter
from vhd.footer import DiskType, new_footer

PATTERNS = 4


def disk_uuid(number: int) -> UUID:
    return UUID(f"22222222-0000-4000-8000-{number:012x}")


def blocks(indexes: Iterable[int], seed: int) -> Iterator[Block]:
    """Blocks whose content differs; each is valid until the next."""
    source = random.Random(seed)
    buffers = []
    for _ in range(PATTERNS):
        buffer = BlockBuffer()
        buffer.data[:] = source.randbytes(BLOCK_BYTES)
        buffers.append(buffer)
    for index in indexes:
        buffer = buffers[index % PATTERNS]
        struct.pack_into("<QQ", buffer.data, 0, seed, index)
        yield Block(index, None, buffer)


def write_vhd(
    directory: Path, name: str, indexes: Iterable[int], *, size_bytes: int, number: int, parent: str | None = None
) -> Path:
    """One VHD as this project writes it; disk ``number``'s parent is disk ``number - 1``."""
    remote = LocalRemote(directory)
    file = remote.create(name)
    kind = DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING
    footer = new_footer(size_bytes=size_bytes, disk_type=kind, uuid=disk_uuid(number), timestamp=0)
    link = None if parent is None else ParentLink(name=parent, uuid=disk_uuid(number - 1))
    writer = VhdFileWriter.create(file, footer=footer, parent=link)
    for block in blocks(indexes, number):
        writer.write_block(block)
    writer.finish()
    file.close()
    remote.close()
    return directory / name


def spread(count: int, among: int, seed: int = 1) -> list[int]:
    """``count`` different numbers below ``among``, ascending."""
    return sorted(random.Random(seed).sample(range(among), count))
