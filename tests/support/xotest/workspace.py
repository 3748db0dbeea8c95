"""A ``vhd.workspace.Workspace`` over any remote, and chains of pictures in it, as files or as directories."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from remotes import errors
from vhd.alias import write_alias
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from vhd.codec import PLAIN, GzipCodec
from vhd.directory_writer import VhdDirectoryWriter
from vhd.file import ParentLink
from vhd.footer import DiskType, new_footer
from xotest.pictures import draw, uuid_of, write_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from remotes.contract import ReadableFile, Remote, WritableFile
    from vhd.codec import Codec
    from vhd.storage import Buffer, ObjectStore

CODECS: dict[str, Codec] = {"gzip": GzipCodec()}


class RemoteWorkspace:
    """The directory ``directory`` of ``remote``."""

    missing: tuple[type[Exception], ...] = (errors.NotFound, errors.NotADirectory)

    def __init__(self, remote: Remote, directory: str = "vdi") -> None:
        self.remote = remote
        self._directory = directory

    def _path(self, name: str) -> str:
        return posixpath.join(self._directory, name) if name else self._directory

    def get(self, name: str) -> bytes:
        return self.remote.get(self._path(name))

    def put(self, name: str, data: Buffer) -> None:
        self.remote.put(self._path(name), data)

    def move(self, old: str, new: str) -> None:
        self.remote.rename(self._path(old), self._path(new), replace=True)

    def delete(self, name: str) -> None:
        self.remote.delete(self._path(name), missing_ok=True)

    def delete_tree(self, name: str) -> None:
        self.remote.delete_tree(self._path(name))

    def exists(self, name: str) -> bool:
        try:
            self.remote.stat(self._path(name))
        except self.missing:
            return False
        return True

    def names(self, directory: str) -> list[str]:
        return [entry.name for entry in self.remote.list(self._path(directory))]

    def open(self, name: str) -> ReadableFile:
        return self.remote.open(self._path(name))

    def update(self, name: str) -> WritableFile:
        return self.remote.update(self._path(name))

    def create(self, name: str) -> WritableFile:
        return self.remote.create(self._path(name))


def write_directory(
    store: ObjectStore,
    path: str,
    picture: str,
    *,
    uuid: UUID | None = None,
    parent: ParentLink | None = None,
    codec: Codec = PLAIN,
    size_bytes: int | None = None,
    entries: int | None = None,
) -> None:
    """A VHD directory that looks like ``picture``; no alias."""
    footer = new_footer(
        size_bytes=len(picture) * BLOCK_BYTES if size_bytes is None else size_bytes,
        disk_type=DiskType.DYNAMIC if parent is None else DiskType.DIFFERENCING,
        uuid=uuid or uuid_of(0),
        timestamp=0,
    )
    writer = VhdDirectoryWriter.create(store, path, footer=footer, parent=parent, codec=codec, entries=entries)
    buffer = BlockBuffer()
    for index, character in enumerate(picture):
        if character != "-":
            writer.write_block(Block(index, draw(character, buffer), buffer))
    writer.finish()


def disk_name(number: int, *, directory: bool) -> str:
    """The name of the ``number``-th disk: a file's or an alias's."""
    return f"{number}.alias.vhd" if directory else f"{number}.vhd"


def write_pictures(
    workspace: RemoteWorkspace,
    pictures: Sequence[str],
    *,
    directory: bool,
    codec: Codec = PLAIN,
    sizes: Sequence[int] | None = None,
    entries: int | None = None,
    tight: bool = False,
    first: int = 0,
) -> list[str]:
    """A chain, root first; returns the names. ``first`` > 0 continues a chain that is there.

    ``tight``: the tables of directories have no room to grow, as Xen Orchestra writes them.
    """
    names = [disk_name(first + at, directory=directory) for at in range(len(pictures))]
    for at, picture in enumerate(pictures):
        number = first + at
        link = None
        if number:
            link = ParentLink(name=disk_name(number - 1, directory=directory), uuid=uuid_of(number - 1))
        size = sizes[at] if sizes else None
        if directory:
            data = f"data/{number}.vhd"
            write_directory(
                workspace,
                data,
                picture,
                uuid=uuid_of(number),
                parent=link,
                codec=codec,
                size_bytes=size,
                entries=len(picture) if tight else entries,
            )
            write_alias(workspace, names[at], data)
        else:
            file = workspace.create(names[at])
            write_picture(picture, file=file, uuid=uuid_of(number), parent=link, size_bytes=size, entries=entries)
            file.close()
    return names
