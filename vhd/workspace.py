"""The one directory in which a disk's chain lives, as merging and reading see it.

Names are relative to that directory: ``20260101T030000Z.vhd``, ``data/20260101T030000Z.vhd/bat``. On top of
:class:`vhd.storage.ObjectStore` a workspace MUST

1. make ``put``, ``move``, ``delete``, ``delete_tree`` durable on return, ``put`` and ``move`` of a file atomic and
   replacing;
2. take ``delete`` and ``delete_tree`` of something missing as done;
3. raise one of :attr:`Workspace.missing` from ``get``, ``open``, ``update``, ``names`` and ``move`` when there is
   nothing of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vhd.alias import is_alias, read_alias
from vhd.directory import VhdDirectory
from vhd.reader import VhdFile
from vhd.storage import ObjectStore, ReadableFile, WritableFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vhd.codec import Codec

DATA = "data"
"""Where the VHD directories behind the aliases are."""


class Workspace(ObjectStore, Protocol):
    """See the module's head for the MUSTs."""

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        """The storage's not-found errors."""
        ...

    def open(self, name: str) -> ReadableFile: ...

    def update(self, name: str) -> WritableFile:
        """An existing file, to be changed in place."""
        ...

    def delete_tree(self, name: str) -> None: ...


def is_disk(name: str) -> bool:
    """Whether a file of a workspace is a disk: files starting with a dot are temporary or state."""
    return name.endswith(".vhd") and not name.startswith(".")


def open_disk(
    workspace: Workspace, name: str, codecs: Mapping[str, Codec], *, trailing_footer: bool = True
) -> VhdFile | VhdDirectory:
    """Open the disk ``name``, whichever kind it is."""
    if is_alias(name):
        path = read_alias(workspace, name)
        return VhdDirectory.open(workspace, path, codecs, missing=workspace.missing)
    file = workspace.open(name)
    try:
        return VhdFile.open(file, trailing_footer=trailing_footer)
    except BaseException:
        file.close()
        raise
