"""One disk of a restore point into something that is no pool: a raw, VHD or qcow2 file, or a pipe.

A file appears under its name only when it is whole and durable. Raw files are sparse; a qcow2 file has no clusters of
zeros.
"""

from __future__ import annotations

import contextlib
import uuid as uuids
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from remotes.contract import WritableFile
from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, Block
from vhd.file import VhdFileWriter
from vhd.footer import DiskType, new_footer
from vhd.layout import SIZE_MAX_BYTES
from vhd.qcow2.writer import Qcow2FileWriter
from vhd.timestamps import to_vhd
from xobackup.engine.cancel import CancelToken
from xobackup.engine.checked import CheckedDisk
from xobackup.engine.errors import UsageError
from xobackup.engine.full.archive_disk import ArchiveDisk
from xobackup.engine.progress import Meter
from xobackup.engine.readahead import blocks_of
from xobackup.engine.restore.pipe import ZEROS, write_in_order, write_to_pipe
from xobackup.repository.metadata import MODE_FULL

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository


class Format(StrEnum):
    RAW = "raw"
    VHD = "vhd"
    QCOW2 = "qcow2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a restore wrote. ``unchecked``: blocks for which no digest was known."""

    size_bytes: int
    blocks: int
    compared: int
    unchecked: int


def restore_to_file(
    world: World,
    repository: Repository,
    point: RestorePoint,
    disk: PointDisk,
    path: Path,
    *,
    format: Format = Format.RAW,
    replace: bool = False,
    check: bool = True,
) -> Written:
    """Write one disk to ``path``. An existing file is refused unless ``replace``."""
    if path.exists() and not replace:
        raise UsageError(f"{path}: it exists already", hint="give another name, or allow it to be replaced")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its directory does not exist")
    meter = world.progress.meter(disk.name_label or disk.live_vdi_uuid, stage="restore")
    source = open_source(repository, point, disk, check=check)
    try:
        match format:
            case Format.RAW:
                write = _write_raw(source)
            case Format.VHD:
                write = _write_vhd(source, world)
            case Format.QCOW2:
                write = _write_qcow2(source)
        return _written(source, published(path, write, meter, world.cancel, replace=replace))
    finally:
        source.close()
        world.progress.drop(meter)


def restore_to_pipe(
    world: World, repository: Repository, point: RestorePoint, disk: PointDisk, fd: int, *, check: bool = True
) -> Written:
    """Write the raw disk, zeros included, to an open descriptor from beginning to end."""
    meter = world.progress.meter(disk.name_label or disk.live_vdi_uuid, stage="restore")
    source = open_source(repository, point, disk, check=check)
    try:
        if isinstance(source, ArchiveDisk):
            return _written(source, write_in_order(source, source.blocks(world.cancel), fd, meter, world.cancel))
        return _written(source, write_to_pipe(source, fd, meter, world.cancel))
    finally:
        source.close()
        world.progress.drop(meter)


Source = CheckedDisk | ArchiveDisk


def open_source(repository: Repository, point: RestorePoint, disk: PointDisk, *, check: bool) -> Source:
    """The disk of a restore point: a chain of its own, or out of the archive of a full backup."""
    kind = ArchiveDisk if point.mode == MODE_FULL else CheckedDisk
    return kind(repository, point, disk, check=check)


def source_blocks(source: Source, cancel: CancelToken) -> Iterator[Block]:
    """What it holds, in order."""
    if isinstance(source, ArchiveDisk):
        return source.blocks(cancel)
    return blocks_of(source, source.block_indexes(), cancel=cancel)


def _written(source: Source, blocks: int) -> Written:
    return Written(
        size_bytes=source.virtual_size_bytes,
        blocks=blocks,
        compared=source.compared,
        unchecked=source.without_digest,
    )


_Write = Callable[[WritableFile, Meter, CancelToken], int]


def published(path: Path, write: _Write, meter: Meter, cancel: CancelToken, *, replace: bool) -> int:
    """Write under a temporary name beside ``path``, make it durable, rename it."""
    directory = LocalRemote(path.parent)
    temporary = f".{path.name}.xobackup-restore"
    try:
        directory.delete(temporary, missing_ok=True)
        try:
            file = directory.create(temporary)
            try:
                blocks = write(file, meter, cancel)
                file.sync()
            finally:
                file.close()
            directory.rename(temporary, path.name, replace=replace)
        except BaseException:
            with contextlib.suppress(OSError):
                (path.parent / temporary).unlink(missing_ok=True)
            raise
    finally:
        directory.close()
    return blocks


def _write_raw(source: Source) -> _Write:
    def write(file: WritableFile, meter: Meter, cancel: CancelToken) -> int:
        size = source.virtual_size_bytes
        meter.begin("restore", total_bytes=len(source.block_indexes()) * BLOCK_BYTES)
        count = 0
        for block in source_blocks(source, cancel):
            start = block.index * BLOCK_BYTES
            length = min(BLOCK_BYTES, size - start)
            data = block.buffer.data[:length]
            if data != ZEROS[:length]:
                file.write_at(start, data)
                file.written(start, length)
            count += 1
            meter.add(BLOCK_BYTES)
        file.truncate(size)
        return count

    return write


def _write_vhd(source: Source, world: World) -> _Write:
    if source.virtual_size_bytes > SIZE_MAX_BYTES:
        size, most = source.virtual_size_bytes >> 30, SIZE_MAX_BYTES >> 30
        message = f"{source.name}: its {size} GiB do not fit into a VHD, which holds {most} GiB at most"
        raise UsageError(message, hint="restore it as raw or qcow2")

    def write(file: WritableFile, meter: Meter, cancel: CancelToken) -> int:
        meter.begin("restore", total_bytes=len(source.block_indexes()) * BLOCK_BYTES)
        count = 0
        footer = new_footer(
            size_bytes=source.virtual_size_bytes,
            disk_type=DiskType.DYNAMIC,
            uuid=uuids.UUID(world.new_id()),
            timestamp=to_vhd(world.clock.now_s()),
        )
        writer = VhdFileWriter.create(file, footer=footer)
        for block in source_blocks(source, cancel):
            block.bitmap = None  # flat: what no disk of the chain has are zeros, and these are in the buffer
            writer.write_block(block)
            count += 1
            meter.add(BLOCK_BYTES)
        writer.finish()
        return count

    return write


def _write_qcow2(source: Source) -> _Write:
    def write(file: WritableFile, meter: Meter, cancel: CancelToken) -> int:
        meter.begin("restore", total_bytes=len(source.block_indexes()) * BLOCK_BYTES)
        count = 0
        writer = Qcow2FileWriter(file, size_bytes=source.virtual_size_bytes)
        for block in source_blocks(source, cancel):
            writer.write_block(block.index, block.buffer.data)
            count += 1
            meter.add(BLOCK_BYTES)
        writer.finish()
        return count

    return write
