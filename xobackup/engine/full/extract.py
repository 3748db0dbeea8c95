"""The archive of a full backup as it is, for whoever imports it by other means: a file, or a pipe."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.engine.errors import IntegrityError, UsageError
from xobackup.engine.full.restore_vm import pieces_of
from xobackup.engine.restore.files import published
from xobackup.repository.images.reading import ImageReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotes.contract import WritableFile
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.progress import Meter
    from xobackup.engine.world import World
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What was written. ``checked`` False: there is no checksum to compare it with, or nobody wanted to."""

    size_bytes: int
    checked: bool


def extract_to_file(
    world: World,
    repository: Repository,
    point: RestorePoint,
    path: Path,
    *,
    replace: bool = False,
    check: bool = True,
) -> Extracted:
    """Write the archive to ``path``, which appears only when it is whole, durable and compared."""
    if path.exists() and not replace:
        raise UsageError(f"{path}: it exists already", hint="give another name, or allow it to be replaced")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its directory does not exist")
    reader = ImageReader(repository.remote, point, check=check)
    meter = world.progress.meter(point.vm_name or point.vm_uuid, stage="restore")
    try:

        def write(file: WritableFile, meter: Meter, cancel: CancelToken) -> int:
            position = 0

            def take(piece: memoryview) -> None:
                nonlocal position
                file.write_at(position, piece)
                file.written(position, len(piece))
                position += len(piece)

            _copy(point, reader, take, meter, cancel)
            return 0

        published(path, write, meter, world.cancel, replace=replace)
        return Extracted(size_bytes=reader.size_bytes, checked=reader.agrees is True)
    finally:
        reader.close()
        world.progress.drop(meter)


def extract_to_pipe(
    world: World, repository: Repository, point: RestorePoint, fd: int, *, check: bool = True
) -> Extracted:
    """Write the archive to an open descriptor; its end is withheld unless all of it is what was written."""
    reader = ImageReader(repository.remote, point, check=check)
    meter = world.progress.meter(point.vm_name or point.vm_uuid, stage="restore")

    def take(piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(fd, piece) :]

    try:
        _copy(point, reader, take, meter, world.cancel)
        return Extracted(size_bytes=reader.size_bytes, checked=reader.agrees is True)
    finally:
        reader.close()
        world.progress.drop(meter)


def _copy(
    point: RestorePoint,
    reader: ImageReader,
    take: Callable[[memoryview], None],
    meter: Meter,
    cancel: CancelToken,
) -> None:
    meter.begin("restore", total_bytes=reader.size_bytes)
    for piece, is_last in pieces_of(reader):
        cancel.check()
        if is_last and reader.agrees is False:
            message = f"the image of {point.id} is not what was written: its checksum differs"
            raise IntegrityError(message, hint="run verify; --no-check gives it as it is")
        take(piece)
        meter.add(len(piece))
